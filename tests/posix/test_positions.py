"""Reading and writing at positions: vectors, appends, shared offsets, limits."""

import fcntl
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.posix.twins import Twins, outcome
from tests.support.processes import Other

pytestmark = pytest.mark.mount

EDIT = os.O_RDWR | os.O_CREAT


def _on(path: Path, flags: int, *steps: Callable[[int], object]) -> list[object]:
    """What the steps give on a descriptor, and what is there after its close."""
    fd = os.open(path, flags, 0o644)
    try:
        found = [outcome(step, fd) for step in steps]
    finally:
        os.close(fd)
    return [*found, path.read_bytes()]


def test_vectors(twins: Twins) -> None:
    """readv, writev, preadv and pwritev; more than IOV_MAX parts are EINVAL, parts of no length count for nothing."""

    def steps(directory: Path) -> object:
        first, second, third = bytearray(3), bytearray(0), bytearray(90)
        return _on(
            directory / "k",
            EDIT,
            lambda fd: os.writev(fd, [b"ab", b"", b"cdef"]),
            lambda fd: os.pwritev(fd, [b"x" * 5000, b"y" * 70_000], 3),
            lambda fd: os.writev(fd, [b"z"] * 1024),
            lambda fd: os.writev(fd, [b"z"] * 1025),
            lambda fd: os.writev(fd, [b"", b""]),
            lambda fd: os.lseek(fd, 0, os.SEEK_CUR),
            lambda fd: (os.preadv(fd, [first, second, third], 75_000), bytes(first + third)),
            lambda fd: (os.lseek(fd, 1, os.SEEK_SET), os.readv(fd, [first, third]), bytes(first + third)),
            lambda fd: os.preadv(fd, [first], 1 << 40),
            lambda fd: os.pwritev(fd, [b"n"], -2),
            lambda fd: os.preadv(fd, [first], -2),
        )

    found = twins.same(steps)
    assert found[:6] == [6, 75_000, 1024, "EINVAL", 0, 1030]
    assert found[6][0] == 3
    assert found[8:11] == [0, "EINVAL", "EINVAL"]


def test_flags_of_pwritev(twins: Twins) -> None:
    """RWF_APPEND writes at the end and leaves the position, RWF_DSYNC and RWF_SYNC write."""

    def steps(directory: Path) -> object:
        return _on(
            directory / "k",
            EDIT,
            lambda fd: os.write(fd, b"0123456789"),
            lambda fd: os.pwritev(fd, [b"end"], 2, os.RWF_APPEND),
            lambda fd: os.lseek(fd, 0, os.SEEK_CUR),
            lambda fd: os.pwritev(fd, [b"AB"], 2, os.RWF_DSYNC),
            lambda fd: os.pwritev(fd, [b"C"], 5, os.RWF_SYNC),
            lambda fd: os.pwritev(fd, [b"D"], 5, 1 << 20),
        )

    assert twins.same(steps) == [10, 3, 10, 2, 1, "ENOTSUP", b"01AB4C6789end"]


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
def test_a_write_of_nothing(twins: Twins, flags: int) -> None:
    """write(2) of 0 bytes changes nothing, wherever the position is: neither the value nor its times."""

    def steps(directory: Path) -> object:
        (directory / "k").write_bytes(b"value")
        before = (directory / "k").stat()
        found = _on(
            directory / "k",
            flags,
            lambda fd: os.write(fd, b""),
            lambda fd: os.pwrite(fd, b"", 100),
            lambda fd: os.lseek(fd, 50, os.SEEK_SET) and os.write(fd, b""),
            lambda fd: os.fstat(fd).st_size,
        )
        after = (directory / "k").stat()
        return [*found, after.st_mtime_ns == before.st_mtime_ns, after.st_ino == before.st_ino]

    assert twins.same(steps) == [0, 0, 0, 5, b"value", True, True]


def test_append_and_pwrite(twins: Twins) -> None:
    """With O_APPEND every write goes to the end, pwrite too, as Linux has it; reads go where they are told."""

    def steps(directory: Path) -> object:
        (directory / "k").write_bytes(b"01234")
        return _on(
            directory / "k",
            os.O_RDWR | os.O_APPEND,
            lambda fd: os.lseek(fd, 0, os.SEEK_CUR),
            lambda fd: os.pwrite(fd, b"ab", 1),
            lambda fd: os.lseek(fd, 0, os.SEEK_CUR),
            lambda fd: (os.lseek(fd, 1, os.SEEK_SET), os.write(fd, b"c"), os.lseek(fd, 0, os.SEEK_CUR)),
            lambda fd: os.read(fd, 10),
            lambda fd: os.pread(fd, 3, 4),
            lambda fd: (os.ftruncate(fd, 3), os.write(fd, b"d"), os.lseek(fd, 0, os.SEEK_CUR)),
            lambda fd: os.pread(fd, 10, 0),
        )

    assert twins.same(steps) == [0, 2, 0, (1, 1, 8), b"", b"4ab", (None, 1, 4), b"012d", b"012d"]


@pytest.mark.parametrize("first", [b"", b"abc"], ids=["untouched", "written"])
@pytest.mark.parametrize("flags", [0, os.O_APPEND, os.O_TRUNC, os.O_CREAT, os.O_CREAT | os.O_APPEND])
def test_truncated_by_the_path_of_a_descriptor(twins: Twins, flags: int, first: bytes) -> None:
    """truncate(2) of /proc/PID/fd/N is ftruncate(2) of N: the writer goes on with what is left, and its times move."""

    def steps(directory: Path) -> list[object]:
        found: list[object] = []
        for size in (0, 2, 20):
            path = directory / str(size)
            if not flags & os.O_CREAT:
                path.write_bytes(b"0123456789")
            fd = os.open(path, os.O_RDWR | flags)
            os.write(fd, first)
            os.utime(fd, (5, 5))
            before = os.fstat(fd).st_size
            os.truncate(f"/proc/self/fd/{fd}", size)
            info = os.fstat(fd)
            # Where the size stays as it is, POSIX leaves the times to the filesystem, and a tmpfs does not move them.
            moved = before == size or info.st_mtime > 5
            found += [info.st_size, moved, os.pread(fd, 100, 0), os.write(fd, b"X"), os.pread(fd, 100, 0)]
            os.close(fd)
            found.append(path.read_bytes())
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    assert found[:3] == [0, True, b""]


def test_truncated_by_the_path_of_one_of_two_descriptors(run: Path) -> None:
    """Of two Puts of one key it cuts that of the descriptor's own process."""
    (run / "k").write_bytes(b"0123456789")
    with Other() as other:
        fd = os.open(run / "k", os.O_RDWR | os.O_TRUNC)
        os.write(fd, b"mine")
        other("fd = os.open(path, os.O_RDWR | os.O_TRUNC); os.write(fd, b'other')", path=run / "k")
        os.truncate(f"/proc/self/fd/{fd}", 2)
        assert (os.pread(fd, 100, 0), other("os.pread(fd, 100, 0)")) == (b"mi", b"other")
        os.close(fd)
        assert (run / "k").read_bytes() == b"mi"
    assert (run / "k").read_bytes() == b"other"


def test_append_switched_on(twins: Twins) -> None:
    """O_APPEND set by fcntl holds from then on."""

    def steps(directory: Path) -> object:
        (directory / "k").write_bytes(b"01234")
        return _on(
            directory / "k",
            os.O_RDWR,
            lambda fd: os.write(fd, b"A"),
            lambda fd: fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND),
            lambda fd: os.pwrite(fd, b"ab", 1),
            lambda fd: os.write(fd, b"c"),
        )

    assert twins.same(steps) == [1, 0, 2, 1, b"A1234abc"]


def test_append_switched_off(twins: Twins) -> None:
    """The documented deviation: what was opened with O_APPEND goes on appending when fcntl takes that away."""
    path = twins.mine / "k"
    path.write_bytes(b"01234")
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    os.write(fd, b"ab")
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    os.pwrite(fd, b"X", 1)
    assert os.pread(fd, 10, 0) == b"01234abX"
    os.close(fd)
    assert path.read_bytes() == b"01234abX"


def test_duplicates_share_a_position(twins: Twins) -> None:
    """dup, dup2, and a child's copy: one position; a second open has its own."""
    in_child = "child = os.fork()\nif child == 0:\n os.write(fd, b'child')\n os._exit(0)\nos.waitpid(child, 0)"

    def steps(directory: Path) -> object:
        with Other() as process:
            process("fd = os.open(path, flags, 0o644)", path=str(directory / "k"), flags=EDIT)
            process("os.write(fd, b'one'); second = os.dup(fd); os.write(second, b'two')")
            process("third = os.dup2(fd, 77); os.lseek(third, -1, os.SEEK_CUR); os.write(fd, b'3')")
            process(in_child)
            found = process("[os.lseek(each, 0, os.SEEK_CUR) for each in (fd, second, third)]")
            process("apart = os.open(path, os.O_RDWR); os.write(apart, b'O')")
            return [found, process("os.read(second, 9), os.pread(fd, 99, 0)")]

    assert twins.same(steps) == [[11, 11, 11], (b"", b"Onetw3child")]


def test_the_end_of_a_growing_file(twins: Twins) -> None:
    """SEEK_END is where the file ends now, through each descriptor of those who edit it."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(b"01234")
        one, two = os.open(directory / "k", os.O_RDWR), os.open(directory / "k", os.O_RDWR)
        found: list[object] = []
        for change in (
            lambda: os.pwrite(one, b"abc", 5),
            lambda: os.ftruncate(two, 2),
            lambda: os.write(two, b"x" * 70_000),
            lambda: os.pwrite(one, b"y", 1_000_000),
        ):
            change()
            found += [(os.lseek(fd, -1, os.SEEK_END), os.read(fd, 9), os.fstat(fd).st_size) for fd in (one, two)]
            os.lseek(two, 0, os.SEEK_SET)
        for fd in (one, two):
            os.close(fd)
        return found

    found = twins.same(steps)
    assert found[:4] == [(7, b"c", 8), (7, b"c", 8), (1, b"1", 2), (1, b"1", 2)]
    assert found[-1] == (1_000_000, b"y", 1_000_001)


def test_seeking(twins: Twins) -> None:
    """lseek beyond the end and back, before the start, and with a whence that does not exist."""

    def steps(directory: Path) -> object:
        (directory / "k").write_bytes(b"01234")
        return [
            _on(
                directory / "k",
                flags,
                lambda fd: os.lseek(fd, 100, os.SEEK_SET),
                lambda fd: os.read(fd, 10),
                lambda fd: os.lseek(fd, -101, os.SEEK_CUR),
                lambda fd: os.lseek(fd, -6, os.SEEK_END),
                lambda fd: os.lseek(fd, -5, os.SEEK_END),
                lambda fd: os.lseek(fd, 0, 99),
                lambda fd: os.lseek(fd, -1, os.SEEK_SET),
                lambda fd: os.read(fd, 3),
            )
            for flags in (os.O_RDONLY, os.O_RDWR)
        ]

    expected = [100, b"", "EINVAL", "EINVAL", 0, "EINVAL", "EINVAL", b"012", b"01234"]
    assert twins.same(steps) == [expected, expected]


_LIMITED = """
import resource
def attempt(step):
    try:
        return step()
    except OSError as error:
        return error.errno
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
found = [
    attempt(step)
    for step in (
        lambda: os.write(fd, b"x" * 990),
        lambda: os.write(fd, b"y" * 20),
        lambda: os.write(fd, b"z"),
        lambda: os.pwrite(fd, b"z", 1000),
        lambda: os.ftruncate(fd, 1001),
        lambda: os.posix_fallocate(fd, 0, 2000),
        lambda: os.pwrite(fd, b"0", 0),
        lambda: os.fstat(fd).st_size,
        lambda: os.truncate(path + ".old", 1001),
    )
]
os.close(fd)
"""


def test_a_limit_on_the_size_of_files(twins: Twins) -> None:
    """RLIMIT_FSIZE: what fits is written, the rest is EFBIG."""

    def steps(directory: Path) -> object:
        (directory / "k.old").write_bytes(b"old")
        with Other() as process:
            process(_LIMITED, path=str(directory / "k"))
            found = process("found")
        assert (directory / "k.old").read_bytes() == b"old"
        return [*found, (directory / "k").read_bytes()]

    too_big = 27
    expected = [990, 10, too_big, too_big, too_big, too_big, 1, 1000, too_big]
    assert twins.same(steps) == [*expected, b"0" + b"x" * 989 + b"y" * 10]


def test_the_signal_of_that_limit(twins: Twins) -> None:
    """SIGXFSZ ends the process that goes over its limit."""

    def steps(directory: Path) -> object:
        process = Other()
        try:
            process("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))")
            process("signal.signal(signal.SIGXFSZ, signal.SIG_DFL)")
            process.begin(
                "fd = os.open(path, 65, 0o644)\nwhile True: os.write(fd, b'x' * 300)", path=str(directory / "k")
            )
            return process.process.wait(30)
        finally:
            process.process.kill()
            process.stop()

    assert twins.same(steps) == -signal.SIGXFSZ
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
