"""Locks: who keeps whom out, as on a local file, and where the mount says that it is different."""

import fcntl
import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from tests.posix.twins import Twins, outcome
from tests.support.processes import Other

pytestmark = pytest.mark.mount

KINDS = ["flock", "posix", "ofd"]
_LOCKING = """
TYPES = {"shared": fcntl.F_RDLCK, "exclusive": fcntl.F_WRLCK, "none": fcntl.F_UNLCK}
FLOCKS = {"shared": fcntl.LOCK_SH, "exclusive": fcntl.LOCK_EX, "none": fcntl.LOCK_UN}
COMMANDS = {
    ("posix", False): fcntl.F_SETLK, ("posix", True): fcntl.F_SETLKW,
    ("ofd", False): fcntl.F_OFD_SETLK, ("ofd", True): fcntl.F_OFD_SETLKW,
}
def lock(fd, kind, how, start=0, length=0, wait=False):
    if kind == "flock":
        return fcntl.flock(fd, FLOCKS[how] | (0 if wait else fcntl.LOCK_NB))
    fcntl.fcntl(fd, COMMANDS[kind, wait], struct.pack("hhqqi4x", TYPES[how], 0, start, length, 0))
def asked(fd, kind, how, start, length):
    command = fcntl.F_GETLK if kind == "posix" else fcntl.F_OFD_GETLK
    given = struct.pack("hhqqi4x", TYPES[how], 0, start, length, 0)
    return struct.unpack("hhqqi4x", fcntl.fcntl(fd, command, given))
"""


@pytest.fixture
def lockers(crowd: list[Other]) -> Any:
    """Three processes that can lock; at the end they have closed what they call `fd`."""
    for process in crowd:
        process(_LOCKING + "fd = -1")
    yield crowd
    for process in crowd:
        process("fd < 0 or os.close(fd)")


def _open_all(processes: list[Other], path: Path, flags: int) -> None:
    for process in processes:
        process("fd < 0 or os.close(fd)")
        process("fd = -1")
        process("fd = os.open(path, flags, 0o600)", path=str(path), flags=flags)


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY, os.O_RDONLY], ids=["rdwr", "wronly", "rdonly"])
@pytest.mark.parametrize("kind", KINDS)
def test_shared_and_exclusive(twins: Twins, lockers: list[Other], kind: str, flags: int) -> None:
    """What one holds decides what another gets, as on a local file; EBADF where the descriptor does not fit."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(bytes(10))
        _open_all(lockers[:2], directory / "k", flags)
        one, two = lockers[:2]
        found: list[object] = []
        for held, wanted in itertools.product(["shared", "exclusive"], repeat=2):
            found += [outcome(one, f"lock(fd, {kind!r}, {held!r})"), outcome(two, f"lock(fd, {kind!r}, {wanted!r})")]
            for process in (one, two):
                process(f"lock(fd, {kind!r}, 'none')")
        return found

    found = twins.same(steps)
    if kind == "flock" or flags == os.O_RDWR:
        assert found == [None, None, None, "EAGAIN", None, "EAGAIN", None, "EAGAIN"]
    elif flags == os.O_RDONLY:
        assert found == [None, None, None, "EBADF", "EBADF", None, "EBADF", "EBADF"]
    else:
        assert found == ["EBADF", "EBADF", "EBADF", None, None, "EBADF", None, "EAGAIN"]


@pytest.mark.parametrize("kind", ["posix", "ofd"])
def test_ranges_split_and_join(twins: Twins, lockers: list[Other], kind: str) -> None:
    """Ranges are cut by unlocking, reach beyond the end, and F_GETLK tells who has what."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(bytes(100))
        _open_all(lockers[:2], directory / "k", os.O_RDWR)
        one, two = lockers[:2]
        one(f"lock(fd, {kind!r}, 'exclusive', 10, 20); lock(fd, {kind!r}, 'none', 15, 5)")
        one(f"lock(fd, {kind!r}, 'shared', 1000, 0); lock(fd, {kind!r}, 'exclusive', 2000, -500)")
        found: list[object] = []
        for start, length in [
            (0, 10),
            (9, 2),
            (15, 5),
            (19, 2),
            (30, 10),
            (999, 1),
            (1000, 1),
            (1500, 1),
            (1 << 40, 1),
        ]:
            for how in ("shared", "exclusive"):
                kind_of, whence, first, many, pid = two(f"asked(fd, {kind!r}, {how!r}, {start}, {length})")
                found.append((kind_of, whence, first, many, {0: 0, -1: -1, one.pid: "one"}[pid]))
                found.append(outcome(two, f"lock(fd, {kind!r}, {how!r}, {start}, {length})"))
            two(f"lock(fd, {kind!r}, 'none')")
        return found

    found = twins.same(steps)
    holder = "one" if kind == "posix" else -1
    assert (fcntl.F_WRLCK, 0, 10, 5, holder) in found
    assert (fcntl.F_WRLCK, 0, 20, 10, holder) in found
    assert (fcntl.F_WRLCK, 0, 1500, 500, holder) in found
    assert found.count("EAGAIN") == 8


def _held_by_one(lockers: list[Other], path: Path, kind: str) -> None:
    path.write_bytes(bytes(10))
    _open_all(lockers[:2], path, os.O_RDWR)
    lockers[0](f"lock(fd, {kind!r}, 'exclusive')")


@pytest.mark.parametrize("kind", KINDS)
def test_another_descriptor_of_the_holder_is_closed(twins: Twins, lockers: list[Other], kind: str) -> None:
    """Any close of a file ends the fcntl locks that the process has on it, and neither flock nor OFD locks."""

    def steps(directory: Path) -> object:
        _held_by_one(lockers, directory / "k", kind)
        lockers[0]("os.close(os.open(path, os.O_RDWR))", path=str(directory / "k"))
        return outcome(lockers[1], f"lock(fd, {kind!r}, 'exclusive')")

    assert twins.same(steps) == (None if kind == "posix" else "EAGAIN")


@pytest.mark.parametrize("kind", KINDS)
def test_a_duplicate(twins: Twins, lockers: list[Other], kind: str) -> None:
    """flock and OFD locks belong to the open file, and stay until its last duplicate is closed."""

    def steps(directory: Path) -> list[object]:
        _held_by_one(lockers, directory / "k", kind)
        lockers[0]("copy = os.dup(fd); os.close(fd); fd = -1")
        first = outcome(lockers[1], f"lock(fd, {kind!r}, 'exclusive')")
        lockers[0]("os.close(copy)")
        return [first, outcome(lockers[1], f"lock(fd, {kind!r}, 'exclusive')")]

    assert twins.same(steps) == [None if kind == "posix" else "EAGAIN", None]


@pytest.mark.parametrize("kind", KINDS)
def test_a_child(twins: Twins, lockers: list[Other], kind: str) -> None:
    """A child inherits flock and OFD locks with the descriptor, and can release them; fcntl locks are its parent's."""
    in_child = f"""
child = os.fork()
if child == 0:
    try:
        lock(fd, {kind!r}, 'none')
    finally:
        os._exit(0)
os.waitpid(child, 0)
"""

    def steps(directory: Path) -> object:
        _held_by_one(lockers, directory / "k", kind)
        lockers[0](in_child)
        return outcome(lockers[1], f"lock(fd, {kind!r}, 'exclusive')")

    assert twins.same(steps) == ("EAGAIN" if kind == "posix" else None)


def test_kinds_of_locks_are_apart(twins: Twins, lockers: list[Other]) -> None:
    """flock knows nothing of fcntl locks; POSIX and OFD locks exclude each other, in one process as well."""

    def steps(directory: Path) -> list[object]:
        _held_by_one(lockers, directory / "k", "posix")
        return [
            outcome(process, f"lock(fd, {kind!r}, 'exclusive')")
            for process, kind in ((lockers[1], "flock"), (lockers[1], "ofd"), (lockers[0], "ofd"))
        ]

    assert twins.same(steps) == [None, "EAGAIN", "EAGAIN"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_and_a_writer(run: Path, lockers: list[Other], kind: str) -> None:
    """A lock on a descriptor for writing and one on a descriptor for reading do not exclude each other."""
    (run / "k").write_bytes(bytes(10))
    writer, reader, _ = lockers
    _open_all([writer], run / "k", os.O_RDWR)
    _open_all([reader], run / "k", os.O_RDONLY)
    writer(f"lock(fd, {kind!r}, 'exclusive')")
    reader(f"lock(fd, {kind!r}, 'shared')")


def test_a_new_key_that_its_process_reads(run: Path, lockers: list[Other]) -> None:
    """As long as a key is new and not published, its process is shown the writers' inode for reading too."""
    _open_all(lockers[:1], run / "k", os.O_RDWR | os.O_CREAT)
    lockers[0]("lock(fd, 'flock', 'exclusive'); reader = os.open(path, os.O_RDONLY)", path=str(run / "k"))
    assert outcome(lockers[0], "lock(reader, 'flock', 'shared')") == "EAGAIN"
    lockers[0]("os.close(reader)")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["os.fsync(fd)", "os.write(fd, b'x'); os.fsync(fd)", "os.ftruncate(fd, 0)"])
def test_a_lock_stays_while_its_holder_publishes(twins: Twins, lockers: list[Other], kind: str, change: str) -> None:
    """Who comes to write after an fsync of the holder meets its lock, whether the key was there before or not."""

    def steps(directory: Path) -> list[object]:
        found = []
        for name in ("new", "old"):
            if name == "old":
                (directory / name).write_bytes(bytes(10))
            _open_all(lockers[:1], directory / name, os.O_RDWR | os.O_CREAT)
            lockers[0](f"lock(fd, {kind!r}, 'exclusive'); {change}")
            _open_all(lockers[1:], directory / name, os.O_RDWR | os.O_CREAT)
            found += [outcome(process, f"lock(fd, {kind!r}, 'exclusive')") for process in lockers[1:]]
        return found

    assert twins.same(steps) == ["EAGAIN"] * 4
