"""READDIR: what is listed, also while it changes."""

import os
from pathlib import Path

import pytest

from tests.support.mounting import MountedStore
from tests.support.processes import Other, end, sh, start_python

pytestmark = pytest.mark.mount

COUNT = 3000


@pytest.fixture(scope="module")
def many(shared: MountedStore) -> Path:
    """A run with 3,000 keys."""
    path = shared.run / "many"
    path.mkdir()
    for number in range(COUNT):
        os.close(os.open(path / f"stays{number:04}", os.O_WRONLY | os.O_CREAT))
    return path


def test_dots(pipeline: Path) -> None:
    """`.` and `..` are there, once."""
    (pipeline / "k").touch()
    assert sh("ls -a", pipeline).split() == [".", "..", "k"]
    assert sh("ls -ai . | awk '$2 == \".\" {print $1}'; stat -c %i .", pipeline).split()[0] == str(
        pipeline.stat().st_ino
    )


def test_types_and_inodes(pipeline: Path) -> None:
    """What scandir tells without a stat is what stat tells."""
    sh("echo x > k; mkdir d; ln -s k l", pipeline)
    with os.scandir(pipeline) as entries:
        found = {
            entry.name: (entry.is_dir(follow_symlinks=False), entry.is_symlink(), entry.inode()) for entry in entries
        }
    expected = {"k": (False, False), "d": (True, False), "l": (False, True)}
    assert found == {name: (*kind, (pipeline / name).lstat().st_ino) for name, kind in expected.items()}


def test_many_keys(many: Path) -> None:
    """3,000 keys are listed once each."""
    names = os.listdir(many)
    assert len(names) == len(set(names)) == COUNT
    assert int(sh("ls -l | wc -l; ls | wc -l", many).split()[1]) == COUNT


def test_listed_while_it_changes(many: Path) -> None:
    """What is there all the time is listed once, whatever comes and goes meanwhile."""
    changing = """
import os, sys
for number in range(400):
    path = f"{sys.argv[1]}/comes{number % 50}"
    open(path, "w").close()
    if number % 3 == 0: os.rename(path, path + "-renamed")
    elif number % 3 == 1: os.unlink(path)
"""
    listing = """
import os, sys
for number in range(12):
    names = os.listdir(sys.argv[1])
    assert len(names) == len(set(names)), [name for name in names if names.count(name) > 1]
    stays = [name for name in names if name.startswith("stays")]
    assert len(stays) == 3000, len(stays)
"""
    end([start_python(program, many) for program in (changing, listing, listing)])


def test_listed_while_it_is_overwritten(many: Path) -> None:
    """A key that is overwritten meanwhile is there all the time: it is listed once."""
    changing = """
import sys
for number in range(400):
    open(f"{sys.argv[1]}/stays{number * 7 % 3000:04}", "w").write("x")
"""
    listing = """
import os, sys
for number in range(12):
    names = os.listdir(sys.argv[1])
    assert len(names) == len(set(names)) and len(names) >= 3000, (len(names), len(set(names)))
"""
    sh("rm -f comes*", many)
    end([start_python(program, many) for program in (changing, listing, listing)])


def test_removed_while_it_is_listed(run: Path) -> None:
    """rm -r and find -delete remove everything: a listing goes on behind what was removed."""
    for directory in ("a", "b"):
        (run / directory).mkdir()
        for number in range(500):
            os.close(os.open(run / directory / f"k{number}", os.O_WRONLY | os.O_CREAT))
    sh("rm -r a; find b -delete", run)
    assert os.listdir(run) == []


def test_seekdir(many: Path) -> None:
    """A listing can be rewound, and begins afresh then."""
    code = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.argtypes = libc.rewinddir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
libc.readdir.restype = ctypes.c_void_p
directory = libc.opendir(os.fsencode(sys.argv[1]))
def count():
    number = 0
    while libc.readdir(directory):
        number += 1
    return number
first = count()
open(sys.argv[1] + "/new", "w").close()
libc.rewinddir(directory)
print(first, count())
libc.closedir(directory)
"""
    for name in os.listdir(many):
        if not name.startswith("stays"):
            os.unlink(many / name)
    assert end([start_python(code, many)]) == [f"{COUNT + 2} {COUNT + 3}\n"]


def test_a_directory_that_was_removed(pipeline: Path) -> None:
    """An open directory that is removed meanwhile lists nothing, and does no harm."""
    (pipeline / "d").mkdir()
    with Other() as other:
        other("os.chdir(path); fd = os.open('.', os.O_RDONLY)", path=pipeline / "d")
        (pipeline / "d").rmdir()
        try:
            assert other("os.listdir(fd)") == []
        except OSError as error:
            assert isinstance(error, FileNotFoundError) or error.errno == 116  # noqa: PT017
    assert os.listdir(pipeline) == []
