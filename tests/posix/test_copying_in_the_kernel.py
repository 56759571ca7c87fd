"""copy_file_range(2), sendfile(2) and splice(2): inside the mount, into it and out of it."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.posix.twins import Twins, outcome
from tests.support.processes import sh
from tests.support.shared_mount import refused

pytestmark = pytest.mark.mount

SIZE = 700_001
VALUE = bytes(range(251)) * (SIZE // 251 + 1)
VALUE = VALUE[:SIZE]


def _opened(directory: Path) -> tuple[int, int]:
    """A descriptor of an object that has a value, and one of an object to be written."""
    (directory / "from").write_bytes(VALUE)
    return os.open(directory / "from", os.O_RDONLY), os.open(directory / "to", os.O_RDWR | os.O_CREAT | os.O_TRUNC)


def _all(copy: Callable[[int], int], size: int) -> int:
    """Copy until there is nothing more, and return how much that was."""
    done = 0
    while count := copy(size - done):
        done += count
    return done


def _range(source: int, target: int, size: int, at: int | None, to: int | None) -> int:
    def copy(rest: int) -> int:
        done = size - rest
        return os.copy_file_range(
            source, target, rest, None if at is None else at + done, None if to is None else to + done
        )

    return _all(copy, size)


@pytest.mark.parametrize("to", [None, 0, 5000, 1_000_000])
@pytest.mark.parametrize("at", [None, 0, 65_537])
def test_copy_file_range(twins: Twins, at: int | None, to: int | None) -> None:
    """With offsets or without: the same bytes, the same positions afterwards."""

    def steps(directory: Path) -> list[object]:
        source, target = _opened(directory)
        os.write(target, b"before")
        os.lseek(source, 100, os.SEEK_SET)
        count = _range(source, target, 300_000, at, to)
        positions = [os.lseek(fd, 0, os.SEEK_CUR) for fd in (source, target)]
        rest = _range(source, target, 2 * SIZE, SIZE - 10, 0)
        for fd in (source, target):
            os.close(fd)
        return [count, rest, positions, (directory / "to").read_bytes()]

    found = twins.same(steps)
    assert found[:2] == [300_000, 10]
    start = 100 if at is None else at
    assert found[3].endswith(VALUE[start + 10 : start + 300_000])


def test_copy_file_range_inside_one_object(twins: Twins) -> None:
    """From one part of an object to another through one descriptor; overlapping parts are EINVAL."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(VALUE)
        fd = os.open(directory / "k", os.O_RDWR)
        count = _range(fd, fd, 100_000, 0, 400_000)
        overlapping = outcome(os.copy_file_range, fd, fd, 100_000, 0, 50_000)
        os.close(fd)
        return [count, overlapping, (directory / "k").read_bytes()]

    assert twins.same(steps) == [100_000, "EINVAL", VALUE[:400_000] + VALUE[:100_000] + VALUE[500_000:]]


def test_copy_file_range_that_is_refused(twins: Twins) -> None:
    """Descriptors that cannot be copied from or to, as on a local filesystem; nothing is written."""

    def steps(directory: Path) -> list[object]:
        source, target = _opened(directory)
        (directory / "appended").write_bytes(b"x")
        appending = os.open(directory / "appended", os.O_WRONLY | os.O_APPEND)
        itself = os.open(directory, os.O_RDONLY)
        reading, writing = os.pipe()
        pairs = [(source, source), (target, source), (source, appending), (itself, target), (source, writing)]
        found: list[object] = [outcome(os.copy_file_range, one, other, 10) for one, other in pairs]
        for fd in (source, target, appending, itself, reading, writing):
            os.close(fd)
        return [*found, (directory / "to").read_bytes(), (directory / "appended").read_bytes()]

    assert twins.same(steps) == ["EBADF", "EBADF", "EBADF", "EISDIR", "EINVAL", b"", b"x"]


def test_copy_file_range_to_another_filesystem(run: Path, local: Path) -> None:
    """Into the mount and out of it the kernel refuses, EXDEV, as between any two kinds; tools cope with that."""
    for one, other in ((run, local), (local, run)):
        fds = [*_opened(one), *_opened(other)]
        with refused(errno.EXDEV):
            os.copy_file_range(fds[0], fds[3], 100)
        for fd in fds:
            os.close(fd)
        sh('cp "$one"/from "$other"/copy; cmp "$one"/from "$other"/copy', run, one=one, other=other)


Copy = Callable[[int, int, int, int | None], int]


def _sendfile(source: int, target: int, size: int, at: int | None) -> int:
    return _all(lambda rest: os.sendfile(target, source, None if at is None else at + size - rest, rest), size)


def _splice(source: int, target: int, size: int, at: int | None) -> int:
    reading, writing = os.pipe()

    def copy(rest: int) -> int:
        offset = None if at is None else at + size - rest
        count = os.splice(source, writing, min(rest, 50_000), offset_src=offset)
        return _all(lambda left: os.splice(reading, target, left), count) if count else 0

    try:
        return _all(copy, size)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("at", [None, 0, 65_537, SIZE - 5, SIZE])
@pytest.mark.parametrize("copy", [_sendfile, _splice])
@pytest.mark.parametrize("way", ["inside", "in", "out"])
def test_sendfile_and_splice(run: Path, local: Path, way: str, copy: Copy, at: int | None) -> None:
    """Inside the mount, into it and out of it: the bytes and the positions are those of a copy between local files."""

    def steps(one: Path, other: Path) -> list[object]:
        source, unused = _opened(one)
        os.close(unused)
        target = os.open(other / "to", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.write(target, b"before")
        os.lseek(source, 7, os.SEEK_SET)
        count = copy(source, target, SIZE, at)
        positions = [os.lseek(fd, 0, os.SEEK_CUR) for fd in (source, target)]
        for fd in (source, target):
            os.close(fd)
        return [count, positions, (other / "to").read_bytes()]

    one, other = {"inside": (run, run), "in": (local, run), "out": (run, local)}[way]
    found = steps(one, other)
    assert found == steps(local, local)
    assert found[2] == b"before" + VALUE[7 if at is None else at :]


def test_sendfile_to_a_socket(run: Path) -> None:
    """A server sends an object to its client."""
    (run / "k").write_bytes(VALUE[:100_000])
    one, other = socket.socketpair()
    with one, other, (run / "k").open("rb") as file:
        one.settimeout(30)
        assert one.sendfile(file, 10, 50_000) == 50_000
        found = b""
        while len(found) < 50_000:
            found += other.recv(65_536)
    assert found == VALUE[10:50_010]


def test_splice_to_an_offset(twins: Twins) -> None:
    """From a pipe to the middle of an object; to one that is open for appending it is EINVAL."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(b"0" * 100)
        reading, writing = os.pipe()
        os.write(writing, b"piped")
        fd = os.open(directory / "k", os.O_RDWR)
        count = os.splice(reading, fd, 5, offset_dst=50)
        os.close(fd)
        os.write(writing, b"piped")
        fd = os.open(directory / "k", os.O_WRONLY | os.O_APPEND)
        appending = outcome(os.splice, reading, fd, 5)
        for each in (fd, reading, writing):
            os.close(each)
        return [count, appending, (directory / "k").read_bytes()]

    assert twins.same(steps) == [5, "EINVAL", b"0" * 50 + b"piped" + b"0" * 45]
