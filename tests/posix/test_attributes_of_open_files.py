"""fchmod, fchown, futimens and fsetxattr on descriptors: of writers at every moment, and of readers."""

import itertools
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.posix.twins import Twins, tick
from tests.support.processes import Other

pytestmark = pytest.mark.mount

PAST = 1_500_000_000_123_456_789
STEPS: dict[str, Callable[[int], object]] = {
    "write": lambda fd: os.pwrite(fd, b"new", 0),
    "fchmod": lambda fd: os.fchmod(fd, 0o750),
    "fchown": lambda fd: os.fchown(fd, 1001, 2000),
    "futimens": lambda fd: os.utime(fd, ns=(PAST, PAST)),
    "fsetxattr": lambda fd: os.setxattr(fd, "user.a", b"set"),
    "ftruncate": lambda fd: os.ftruncate(fd, 1),
    "fsync": os.fsync,
}


def _about(info: os.stat_result) -> tuple[object, ...]:
    """What must be the same in both places: not the numbers, and of the times only whether they are the given one."""
    return stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, info.st_size, info.st_mtime_ns == PAST


OPENED = {
    "new": os.O_RDWR | os.O_CREAT,
    "new, exclusive": os.O_RDWR | os.O_CREAT | os.O_EXCL,
    "old": os.O_RDWR,
    "overwritten": os.O_RDWR | os.O_TRUNC,
    "appended": os.O_RDWR | os.O_APPEND,
}


@pytest.mark.parametrize("how", OPENED)
def test_any_two_changes(twins: Twins, how: str) -> None:
    """Every order of two changes: what the descriptor shows after each, and what the name shows after the close."""

    def steps(directory: Path) -> list[object]:
        found: list[object] = []
        for number, (one, two) in enumerate(itertools.product(STEPS, repeat=2)):
            path = directory / str(number)
            if not how.startswith("new"):
                path.write_bytes(b"old value")
                path.chmod(0o604)
            fd = os.open(path, OPENED[how], 0o640)
            seen: list[object] = [one, two]
            for step in (one, two):
                STEPS[step](fd)
                seen += [_about(os.fstat(fd)), os.listxattr(fd)]
            os.close(fd)
            found.append([*seen, _about(path.stat()), os.listxattr(path), path.read_bytes()])
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    assert len(found) == len(STEPS) ** 2
    last = {tuple(row[:2]): row for row in found}
    assert last["write", "futimens"][-3][4] is True
    assert last["futimens", "write"][-3][4] is False
    assert last["fsetxattr", "write"][-2] == ["user.a"]


@pytest.mark.parametrize("change", ["fchmod", "fchown", "futimens", "fsetxattr"])
def test_seen_before_the_close(twins: Twins, change: str) -> None:
    """Attributes of a name that exists change at once for everybody, though its writer goes on."""

    def steps(directory: Path) -> list[object]:
        path = directory / "k"
        path.write_bytes(b"old value")
        with Other() as other:
            other("os.stat(path), os.listxattr(path)", path=str(path))
            fd = os.open(path, os.O_RDWR)
            STEPS[change](fd)
            info = other("os.stat(path).st_mode & 0o7777, os.stat(path).st_uid, os.stat(path).st_mtime_ns")
            found = [(info[0], info[1], info[2] == PAST), other("os.listxattr(path)")]
            os.close(fd)
        return [*found, _about(path.stat()), os.listxattr(path)]

    found = twins.same(steps)
    changed = {"fchmod": (0o750, 0, False), "fchown": (0o644, 1001, False), "futimens": (0o644, 0, True)}
    assert found[0] == changed.get(change, (0o644, 0, False))
    assert found[1] == (["user.a"] if change == "fsetxattr" else [])


@pytest.mark.parametrize("change", ["fchmod", "fchown", "futimens", "fsetxattr"])
def test_through_a_reader(twins: Twins, change: str) -> None:
    """The owner changes attributes through a descriptor for reading too, and no value is put."""

    def steps(directory: Path) -> list[object]:
        path = directory / "k"
        path.write_bytes(b"value")
        number = path.stat().st_ino
        fd = os.open(path, os.O_RDONLY)
        STEPS[change](fd)
        found = [_about(os.fstat(fd)) == _about(path.stat()), os.listxattr(fd), path.stat().st_ino == number]
        os.close(fd)
        return [*found, _about(path.stat())]

    found = twins.same(steps)
    assert found[0] is found[2] is True


@pytest.mark.parametrize("through", ["path", "descriptor"])
@pytest.mark.parametrize("lost", ["removed", "replaced"])
def test_shown_to_a_reader_when_the_name_is_gone(twins: Twins, lost: str, through: str) -> None:
    """What changed since it was opened stays as it was when the name went, and can be changed further."""

    def steps(directory: Path) -> list[object]:
        path = directory / "k"
        path.write_bytes(b"value")
        (directory / "new").write_bytes(b"another")
        fd = os.open(path, os.O_RDONLY)
        changed = fd if through == "descriptor" else path
        os.chmod(changed, 0o750)
        os.chown(changed, 1001, 2000)
        os.setxattr(changed, "user.a", b"set")
        os.utime(changed, ns=(PAST, PAST))
        if lost == "removed":
            path.unlink()
        else:
            (directory / "new").rename(path)
        found = [_about(os.fstat(fd)), os.listxattr(fd)]
        os.fchmod(fd, 0o600)
        found.append(_about(os.fstat(fd)))
        os.close(fd)
        return found

    shown = (1001, 2000, 5, True)
    assert twins.same(steps) == [(0o750, *shown), ["user.a"], (0o600, *shown)]


def test_attributes_that_somebody_else_sets_meanwhile(twins: Twins) -> None:
    """chmod, chown and setfattr by path while a writer is at work: still there after its close, and shown to it."""

    def steps(directory: Path) -> list[object]:
        after, shown = [], []
        for flags in (os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
            path = directory / "k"
            path.write_bytes(b"old value")
            path.chmod(0o600)
            with Other() as other:
                other("fd = os.open(path, flags); os.write(fd, b'one')", path=str(path), flags=flags)
                path.chmod(0o751)
                os.chown(path, 1002, 1003)
                os.setxattr(path, "user.meanwhile", b"x")
                shown.append(other("os.fstat(fd)[0] & 0o7777, os.fstat(fd)[4], os.listxattr(fd)"))
                other("os.write(fd, b'two'); os.close(fd)")
            info = path.stat()
            after.append((oct(info.st_mode), info.st_uid, info.st_gid, os.listxattr(path)))
            path.unlink()
        return [after, shown]

    after, shown = twins.same(steps)
    assert after == [("0o100751", 1002, 1003, ["user.meanwhile"])] * 3
    assert shown == [(0o751, 1002, ["user.meanwhile"])] * 3


def test_times_of_an_open_file_move_with_its_writes(twins: Twins) -> None:
    """The writer's own fstat: mtime and ctime go forward with each write, ctime with each change of attributes."""

    def steps(directory: Path) -> list[object]:
        found = []
        for existing in (False, True):
            path = directory / f"k{existing}"
            if existing:
                path.write_bytes(b"value")
            fd = os.open(path, os.O_RDWR | os.O_CREAT)
            for step in ("write", "write", "fchmod", "ftruncate"):
                before = os.fstat(fd)
                tick(fd)
                STEPS[step](fd)
                after = os.fstat(fd)
                found.append((step, after.st_mtime_ns > before.st_mtime_ns, after.st_ctime_ns > before.st_ctime_ns))
            os.close(fd)
        return found

    moves = [("write", True, True), ("write", True, True), ("fchmod", False, True), ("ftruncate", True, True)]
    assert twins.same(steps) == moves * 2


def test_a_time_of_zero(twins: Twins) -> None:
    """1970 is a time like any other: the writer's descriptor shows it before the close."""

    def steps(directory: Path) -> list[object]:
        fd = os.open(directory / "k", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"value")
        os.utime(fd, ns=(0, 0))
        found = [os.fstat(fd).st_mtime_ns, os.fstat(fd).st_atime_ns]
        os.close(fd)
        return [*found, (directory / "k").stat().st_mtime_ns]

    assert twins.same(steps) == [0, 0, 0]


@pytest.mark.parametrize("flags", [os.O_TRUNC, os.O_APPEND])
def test_its_size_in_another_thread(pipeline: Path, flags: int) -> None:
    """A descriptor shows its own Put in every thread of its process, whoever else puts the key."""
    path = pipeline / "k"
    path.write_bytes(b"old")
    fd = os.open(path, os.O_WRONLY | flags)
    os.write(fd, b"own")
    size = os.fstat(fd).st_size
    with Other() as other, ThreadPoolExecutor(1) as thread:
        other("fd = os.open(path, os.O_WRONLY | os.O_TRUNC); os.write(fd, b'of another process')", path=path)
        seen = thread.submit(lambda: (os.fstat(fd).st_size, os.lseek(fd, 0, os.SEEK_END))).result()
    os.close(fd)
    assert seen == (size, size)


def test_its_size_once_another_descriptor_is_closed(pipeline: Path) -> None:
    """Two Puts of one thread: when the second is closed, the first descriptor shows the first again."""
    path = pipeline / "k"
    first = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(first, b"first")
    second = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(second, b"the second")
    assert os.fstat(second).st_size == 10
    os.close(second)
    assert os.fstat(first).st_size == 5
    os.close(first)
    assert path.read_bytes() == b"first"
