"""Get is a snapshot: an object opened for reading is one committed value, whole, until it is closed."""

import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import Other, end, sh, start_python

pytestmark = pytest.mark.mount

OLD = b"old value. " * 40_000
NEW = b"new. " * 70_000


def _opened(directory: Path) -> int:
    (directory / "k").write_bytes(OLD)
    fd = os.open(directory / "k", os.O_RDONLY)
    assert os.read(fd, 5) == OLD[:5]
    return fd


def _reads_old(fd: int) -> None:
    assert os.fstat(fd).st_size == len(OLD)
    assert os.pread(fd, len(OLD), 0) == OLD
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == OLD
    os.close(fd)


@pytest.mark.parametrize("size", [0, 1, 100, 65_537, 3 * 1024 * 1024])
@pytest.mark.parametrize("new", [0, 1, 100_000])
def test_overwritten(pipeline: Path, size: int, new: int) -> None:
    """One committed value, whole, until it is closed: whatever is overwritten meanwhile."""
    old = os.urandom(size)
    (pipeline / "k").write_bytes(old)
    fd = os.open(pipeline / "k", os.O_RDONLY)
    (pipeline / "k").write_bytes(b"n" * new)
    assert os.fstat(fd).st_size == size
    assert os.pread(fd, size + 10, 0) == old
    os.close(fd)
    assert (pipeline / "k").read_bytes() == b"n" * new


def test_deleted(run: Path) -> None:
    """Whatever is deleted meanwhile."""
    fd = _opened(run)
    sh("rm k", run)
    assert not (run / "k").exists()
    (run / "k").write_bytes(NEW)
    _reads_old(fd)


def test_deleted_with_its_pipeline(pipeline: Path) -> None:
    """Whatever is deleted meanwhile: the pipeline as a whole, too."""
    fd = _opened(pipeline)
    sh('rm -r "$PWD"', pipeline)
    assert not pipeline.exists()
    _reads_old(fd)


def test_renamed_over(pipeline: Path) -> None:
    """Whatever is overwritten meanwhile: by a rename, too."""
    fd = _opened(pipeline)
    (pipeline / "new").write_bytes(NEW)
    os.rename(pipeline / "new", pipeline / "k")
    assert (pipeline / "k").read_bytes() == NEW
    _reads_old(fd)


def test_evicted(make_mount: MakeMount) -> None:
    """Whatever is evicted meanwhile."""
    store = make_mount(pipeline_object_limit=1)
    (store.pipeline / "p").mkdir()
    fd = _opened(store.pipeline / "p")
    (store.pipeline / "p/other").write_bytes(NEW)
    assert os.listdir(store.pipeline / "p") == ["other"]
    _reads_old(fd)


def test_expired(make_mount: MakeMount) -> None:
    """Whatever expired meanwhile."""
    store = make_mount(run_object_expiry=1)
    (store.run / "1").mkdir()
    fd = _opened(store.run / "1")
    (store.run / "2").mkdir()
    assert os.listdir(store.run) == ["2"]
    _reads_old(fd)


def test_deleted_by_the_command(shared: MountedStore, pipeline: Path) -> None:
    """Whatever is overwritten or deleted meanwhile, also beside the mount."""
    fd = _opened(pipeline)
    shared.cli("pipeline", "object", "put", pipeline.name, "k=new", "--force", exit_code=0)
    shared.cli("pipeline", "object", "delete", pipeline.name, "k", exit_code=0)
    _reads_old(fd)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.truncate(path, 3),
        lambda path: os.truncate(path, len(OLD) * 2),
        lambda path: _edit(path, 100, b"EDITED"),
        lambda path: _append(path, b"appended"),
    ],
    ids=["truncated", "extended", "edited", "appended"],
)
def test_edited(pipeline: Path, change: Callable[[Path], None]) -> None:
    """One committed value until it is closed: truncate, an edit in place and an append are Puts as well."""
    fd = _opened(pipeline)
    change(pipeline / "k")
    assert (pipeline / "k").read_bytes() != OLD
    _reads_old(fd)


def _edit(path: Path, offset: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


def _append(path: Path, content: bytes) -> None:
    with open(path, "ab") as file:
        file.write(content)


def test_while_a_writer_is_at_work(pipeline: Path) -> None:
    """One committed value, whole: a reader that opens beside a writer reads the old one to its end."""
    (pipeline / "k").write_bytes(OLD)
    with Other() as writer, Other() as reader:
        writer(
            "fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC); os.write(fd, new)", path=pipeline / "k", new=NEW
        )
        reader("fd = os.open(path, os.O_RDONLY)", path=pipeline / "k")
        writer("os.close(fd)")
        assert reader("os.read(fd, 10_000_000)") == OLD
        assert reader("os.fstat(fd).st_size") == len(OLD)
        assert reader("os.read(fd, 10)") == b""
    assert (pipeline / "k").read_bytes() == NEW


def test_one_file_description_many_readers(pipeline: Path) -> None:
    """Until it is closed: a child that inherited the descriptor reads on."""
    fd = _opened(pipeline)
    with Other(pass_fds=[fd]) as child:
        (pipeline / "k").write_bytes(NEW)
        os.close(fd)
        assert child("os.pread(fd, 10_000_000, 0)", fd=fd) == OLD


def test_cat_prints_whole_values(pipeline: Path) -> None:
    """`cat` never prints half a value, an empty one that nobody wrote, or a mix of two."""
    (pipeline / "k").write_bytes(b"A" * 200_000)
    writers = [
        start_python(
            """
import sys
for round in range(150):
    with open(sys.argv[1], "wb", buffering=0) as file:
        for part in range(4):
            file.write(sys.argv[2].encode() * 50_000)
""",
            pipeline / "k",
            letter,
        )
        for letter in "AB"
    ]
    odd = "for i in $(seq 40); do cat k | tr -s AB; echo; done | sort | uniq -c"
    found = sh(odd, pipeline)
    end(writers)
    assert {line.split()[1] for line in found.splitlines()} <= {"A", "B"}
