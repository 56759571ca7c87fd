"""100,000 keys in one run: listing them while they change neither skips nor repeats what stays."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounting import MountedStore
from tests.support.processes import Other, end, sh, start_python
from tests.support.stores import run_process

pytestmark = [pytest.mark.mount, pytest.mark.slow]

COUNT = 100_000

_FILL = """
import sys
from engine import ScopeKind, ScopeName, open_store
from engine.config import ObjectStoreSettings
scope = ScopeName(ScopeKind.RUN, b"many")
with open_store(ObjectStoreSettings(path=sys.argv[1]), create=True) as store:
    store.start_run(b"many")
    for number in range(int(sys.argv[2])):
        store.put_object(scope, b"stays%06d" % number, b"", False, uid=0, gid=0)
"""


@pytest.fixture(scope="module")
def many(shared: MountedStore) -> Iterator[Path]:
    """The run; whatever else a test puts there it takes away again."""
    run_process(_FILL, shared.store, str(COUNT), seconds=600)  # ten are enough where nothing else runs
    return shared.run / "many"


def test_all_of_them(many: Path) -> None:
    """Each name once, with the inode that stat tells, by every way of listing."""
    with os.scandir(many) as entries:
        found = {entry.name: entry.inode() for entry in entries}
    assert sorted(found) == [f"stays{number:06}" for number in range(COUNT)]
    assert len(set(found.values())) == COUNT
    for number in range(0, COUNT, 997):
        name = f"stays{number:06}"
        assert (many / name).stat().st_ino == found[name]
    assert sh("ls -U | wc -l; find . -type f | wc -l", many).split() == [str(COUNT)] * 2


_CHURN = """
import itertools, os, sys
home, stop = sys.argv[1:]
for number in itertools.count():
    name = f"{home}/{'amz'[number % 3]}comes{number % 100}"
    open(name, "w").close()
    open(f"{home}/stays{number * 7919 % 100_000:06}", "w").close()
    if number % 2:
        os.rename(name, name + "-renamed")
        os.unlink(name + "-renamed")
    else:
        os.unlink(name)
    if number % 50 == 0 and os.path.exists(stop):
        break
print(number)
"""


def test_listed_while_keys_come_and_go_and_are_overwritten(many: Path, tmp_path: Path) -> None:
    """What stays is listed once, while others are made, overwritten, renamed and removed all over the directory."""
    listing = """
import os, sys
for _ in range(4):
    with os.scandir(sys.argv[1]) as entries:
        names = [entry.name for entry in entries if entry.name.startswith("stays")]
    assert len(names) == len(set(names)) == 100_000, (len(names), len(set(names)))
"""
    churn = start_python(_CHURN, many, tmp_path / "stop")
    try:
        end([start_python(listing, many)])
    finally:
        (tmp_path / "stop").touch()
    assert int(end([churn])[0]) >= 50


_DIRECTORY = """
class Entry(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("length", ctypes.c_uint16),
                ("type", ctypes.c_uint8), ("name", ctypes.c_char * 256)]
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(Entry)
libc.telldir.restype = ctypes.c_long
for function in (libc.readdir, libc.telldir, libc.rewinddir, libc.closedir):
    function.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
directory = libc.opendir(os.fsencode(path))
def take(count=1 << 30):
    names = []
    while len(names) < count and (entry := libc.readdir(directory)):
        if entry.contents.name not in (b".", b".."):
            names.append(entry.contents.name)
    return names
"""


@pytest.fixture
def listing(many: Path) -> Iterator[Other]:
    """A process that has the directory open, with readdir(3) as `take`."""
    with Other() as process:
        process(_DIRECTORY, path=str(many))
        yield process
        process("libc.closedir(directory)")


def test_telldir_and_seekdir(many: Path, listing: Other) -> None:
    """A position leads to the same name again, in any order, while the entry before it is the same.

    After that the deviation applies: it may lead to the beginning, and never skips anything.
    """
    listing("""
marks = []
while True:
    position = libc.telldir(directory)
    names = take(1)
    if not names:
        break
    marks.append((position, names[0]))
    take(4999)
""")
    marks = listing("marks")
    assert len(marks) == COUNT // 5000
    check = "[(libc.seekdir(directory, position), take(1)[0] == name)[1] for position, name in marks[::-1]]"
    assert all(listing(check))
    for _position, name in marks[1:]:
        number = int(name.removeprefix(b"stays"))
        for neighbour in (number - 1, number + 1):
            (many / f"stays{neighbour:06}").unlink()
        (many / f"stays{number - 1:06}").touch()
        (many / f"stays{number:06}a").touch()
    last = "[(libc.seekdir(directory, position), take(1)[0] <= name)[1] for position, name in marks[::-1]]"
    assert all(listing(last))
    for _, name in marks[1:]:
        number = int(name.removeprefix(b"stays"))
        (many / f"stays{number:06}a").unlink()
        (many / f"stays{number + 1:06}").touch()
    listing("libc.rewinddir(directory)")
    assert len(set(listing("take()"))) == COUNT


def test_rewinddir_in_the_middle(many: Path, listing: Other) -> None:
    """A listing that is rewound begins afresh, with what has come and without what has gone meanwhile."""
    first = listing("take(30_000)")
    (many / "a-new-one").touch()
    (many / "stays000003").unlink()
    listing("libc.rewinddir(directory)")
    found = listing("take()")
    (many / "a-new-one").unlink()
    (many / "stays000003").touch()
    assert len(set(first)) == 30_000
    assert len(found) == len(set(found)) == COUNT
    assert b"a-new-one" in found
    assert b"stays000003" not in found


def test_removed_while_it_is_listed(listing: Other, many: Path) -> None:
    """A program that removes what it has just been told about, block by block, comes to the end and leaves nothing."""
    code = """
removed = 0
while names := take(100):
    for name in names:
        if name.endswith(b"7"):
            os.unlink(os.path.join(os.fsencode(path), name))
            removed += 1
"""
    listing(code)
    assert listing("removed") == COUNT // 10
    assert not [name for name in os.listdir(many) if name.endswith("7")]
