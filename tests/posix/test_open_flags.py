"""Flags of open(2), and paths that are written in unusual ways."""

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.posix.twins import Twins, outcome
from tests.support.processes import Other
from tests.support.shared_mount import refused

pytestmark = pytest.mark.mount

WRITE, CREATE, TRUNCATE = os.O_WRONLY, os.O_CREAT, os.O_TRUNC
NOFOLLOW, DIRECTORY, PATH = os.O_NOFOLLOW, os.O_DIRECTORY, os.O_PATH
FLAGS = {
    "read": os.O_RDONLY,
    "write": WRITE,
    "both": os.O_RDWR,
    "neither": os.O_ACCMODE,
    "truncate": WRITE | TRUNCATE,
    "create": WRITE | CREATE,
    "create to read": os.O_RDONLY | CREATE,
    "create exclusively": WRITE | CREATE | os.O_EXCL,
    "create and truncate": WRITE | CREATE | TRUNCATE,
    "nofollow": NOFOLLOW,
    "nofollow to write": WRITE | NOFOLLOW,
    "nofollow to create": WRITE | CREATE | NOFOLLOW,
    "directory": DIRECTORY,
    "directory to write": WRITE | DIRECTORY,
    "directory that is created": CREATE | DIRECTORY,
    "directory that is created to write": WRITE | CREATE | DIRECTORY,
    "directory, nofollow": DIRECTORY | NOFOLLOW,
    "path": PATH,
    "path, nofollow": PATH | NOFOLLOW,
    "path, directory": PATH | DIRECTORY,
    "path, create": PATH | CREATE,
    "noatime": os.O_NOATIME,
    "sync": WRITE | os.O_SYNC,
    "dsync": WRITE | os.O_DSYNC,
    "rsync": os.O_RDWR | os.O_RSYNC,
    "nonblock": os.O_NONBLOCK,
    "noctty": os.O_NOCTTY | os.O_RDWR,
}
PATHS = [
    "k",
    "d",
    "to_k",
    "to_d",
    "dangling",
    "loop",
    "missing",
    "missing/k",
    "k/",
    "k/.",
    "k/..",
    "d/",
    "d/.",
    "d/../k",
]
PATHS += [
    "to_d/in",
    "to_d/",
    "to_k/",
    "dangling/",
    "missing/",
    "d//in",
    "d/missing/../in",
    "d/long/in",
    "",
    ".",
    "d/..",
]


def _furnish(directory: Path) -> None:
    (directory / "k").write_bytes(b"value")
    (directory / "d").mkdir()
    (directory / "d/in").write_bytes(b"in")
    for name, target in (("to_k", "k"), ("to_d", "d"), ("dangling", "made"), ("loop", "loop"), ("d/long", "../d/../d")):
        (directory / name).symlink_to(target)


def _state(directory: Path) -> list[tuple[object, ...]]:
    """The names in a directory, what they are, and their values."""
    found: list[tuple[object, ...]] = []
    for path in sorted(directory.rglob("*")):
        kind = stat.S_IFMT(path.lstat().st_mode)
        found.append((str(path.relative_to(directory)), kind, path.read_bytes() if kind == stat.S_IFREG else None))
    return found


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_flags_and_paths(twins: Twins, flags: int) -> None:
    """Every path with these flags: the same kind of file, or the same errno, and the same is there afterwards."""

    def attempt(directory: Path, path: str) -> object:
        fd = os.open(os.fspath(directory) + "/" + path if path else "", flags, 0o644)
        try:
            return stat.S_IFMT(os.fstat(fd).st_mode), os.fstat(fd).st_size if stat.S_ISREG(os.fstat(fd).st_mode) else 0
        finally:
            os.close(fd)

    def steps(directory: Path) -> object:
        found = []
        for number, path in enumerate(PATHS):
            below = directory / str(number)
            below.mkdir()
            _furnish(below)
            found.append((path, outcome(attempt, below, path), _state(below)))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    assert dict(row[:2] for row in found)["missing/k"] in ("ENOENT", "EINVAL")


def test_a_long_chain_of_symlinks(twins: Twins) -> None:
    """Forty symlinks are followed, one more is ELOOP."""

    def steps(directory: Path) -> list[object]:
        (directory / "0").write_bytes(b"end")
        for number in range(1, 42):
            (directory / str(number)).symlink_to(str(number - 1))
        return [outcome((directory / str(number)).read_bytes) for number in (40, 41)]

    assert twins.same(steps) == [b"end", "ELOOP"]


@pytest.fixture
def handle(twins: Twins) -> Iterator[list[int]]:
    """An O_PATH descriptor of a directory, in both places."""
    fds = []
    for directory in twins:
        _furnish(directory)
        fds.append(os.open(directory / "d", os.O_PATH))
    yield fds
    for fd in fds:
        os.close(fd)


def test_a_path_descriptor_of_a_directory(handle: list[int]) -> None:
    """One can go on from it, into it and make things in it; it cannot be listed, changed or synced."""

    def steps(fd: int) -> list[object]:
        inside = os.open("in", os.O_RDONLY, dir_fd=fd)
        found: list[object] = [os.read(inside, 9), stat.S_ISDIR(os.fstat(fd).st_mode)]
        os.close(inside)
        os.close(os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        os.mkdir("sub", dir_fd=fd)
        os.rename("new", "sub/moved", src_dir_fd=fd, dst_dir_fd=fd)
        found.append(os.stat("sub/moved", dir_fd=fd).st_size)
        with Other([fd]) as other:
            other("os.fchdir(fd)", fd=fd)
            found.append(sorted(other("os.listdir('.')")))
        for step in (
            lambda: os.listdir(fd),
            lambda: os.fchmod(fd, 0o700),
            lambda: os.fchown(fd, -1, -1),
            lambda: os.fsync(fd),
            lambda: os.getxattr(fd, "user.a"),
            lambda: os.fstatvfs(fd).f_namemax,
            lambda: os.listdir(f"/proc/self/fd/{fd}") == [],
        ):
            found.append(outcome(step))
        return found

    mine, local = (steps(fd) for fd in handle)
    assert mine == local
    assert mine[4:9] == ["EBADF"] * 5


def test_a_path_descriptor_of_an_object(twins: Twins) -> None:
    """It tells what it is, is read only by way of /proc, and names the file whatever the path does."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(b"value")
        fd = os.open(directory / "k", os.O_PATH)
        before = os.fstat(fd).st_ino
        second = os.dup(fd)
        found: list[object] = [
            outcome(os.read, second, 1),
            outcome(os.pwrite, second, b"x", 0),
            outcome(os.lseek, second, 0, os.SEEK_END),
            outcome(os.ftruncate, second, 0),
            outcome(os.fchmod, second, 0o600),
            Path(f"/proc/self/fd/{fd}").read_bytes(),
            os.path.samestat(os.fstat(second), os.stat(directory / "k")),
        ]
        os.rename(directory / "k", directory / "moved")
        found.append(os.fstat(fd).st_ino == before == (directory / "moved").stat().st_ino)
        (directory / "other").write_bytes(b"other")
        os.rename(directory / "other", directory / "moved")
        found += [os.fstat(fd).st_size, os.fstat(fd).st_ino == before]
        os.close(fd)
        os.close(second)
        return found

    found = twins.same(steps)
    assert found == [*["EBADF"] * 5, b"value", True, True, 5, True]


def test_a_path_descriptor_of_a_symlink(twins: Twins) -> None:
    """With O_NOFOLLOW it is the symlink itself; without a name readlinkat(2) and stat tell of it."""

    def steps(directory: Path) -> list[object]:
        (directory / "l").symlink_to("target")
        fd = os.open(directory / "l", os.O_PATH | os.O_NOFOLLOW)
        found = [stat.S_ISLNK(os.fstat(fd).st_mode), os.readlink("", dir_fd=fd), outcome(os.read, fd, 1)]
        os.close(fd)
        return found

    assert twins.same(steps) == [True, "target", "EBADF"]


def test_a_directory_descriptor_goes_with_its_directory(twins: Twins) -> None:
    """What is opened relative to a descriptor is found after the directory was moved, and ENOENT once it is removed."""

    def steps(directory: Path) -> list[object]:
        (directory / "a/b").mkdir(parents=True)
        (directory / "a/b/k").write_bytes(b"value")
        with Other() as other:
            other("fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY); os.fchdir(fd)", path=str(directory / "a/b"))
            os.rename(directory / "a", directory / "z")
            os.rename(directory / "z/b", directory / "y")
            found = [other("open('k', 'rb').read()"), other("os.stat('k', dir_fd=fd).st_size")]
            found.append(other("os.getcwd()").removeprefix(str(directory)))
            found.append(other("sorted(os.listdir('..'))"))
            (directory / "y/k").unlink()
            (directory / "y").rmdir()
            for code in ("open('k', 'w')", "os.mkdir('d', dir_fd=fd)", "os.stat('k', dir_fd=fd)", "os.getcwd()"):
                found.append(outcome(other, code))
            return found

    assert twins.same(steps) == [b"value", 5, "/y", ["y", "z"], "ENOENT", "ENOENT", "ENOENT", "ENOENT"]


def test_tmpfile_in_any_directory(run: Path) -> None:
    """O_TMPFILE is refused, in every directory, and python's TemporaryFile does without."""
    (run / "d").mkdir()
    for directory in (run, run / "d"):
        for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_EXCL):
            with refused(errno.EOPNOTSUPP):
                os.open(directory, os.O_TMPFILE | flags, 0o600)
    with Other() as other:
        code = "import tempfile\nwith tempfile.TemporaryFile(dir=path) as f: f.write(b'x'); f.seek(0); found = f.read()"
        other(code, path=str(run / "d"))
        assert other("found, os.listdir(path)") == (b"x", [])


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC], ids=["sync", "dsync"])
def test_synchronous_writes(twins: Twins, flag: int) -> None:
    """With O_SYNC and O_DSYNC every kind of write does what it does without."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(b"0123456789")
        fd = os.open(directory / "k", os.O_RDWR | flag)
        found: list[object] = [os.write(fd, b"ab"), os.pwrite(fd, b"c", 5), os.writev(fd, [b"d", b"e"]), os.read(fd, 9)]
        os.ftruncate(fd, 8)
        os.close(fd)
        fd = os.open(directory / "k", os.O_WRONLY | os.O_APPEND | flag)
        os.write(fd, b"end")
        os.close(fd)
        return [*found, (directory / "k").read_bytes()]

    assert twins.same(steps) == [2, 1, 2, b"4c6789", b"abde4c67end"]


def test_direct_reads_and_writes(run: Path) -> None:
    """O_DIRECT works with aligned buffers, for reading, writing, and both; the other sees ordinary bytes."""
    block = 64 * 1024
    with mmap.mmap(-1, block) as buffer:
        buffer[:] = bytes(range(256)) * 256
        value = buffer[:]
        fd = os.open(run / "k", os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        for _ in range(3):
            assert os.write(fd, buffer) == block
        os.close(fd)
        assert (run / "k").read_bytes() == value * 3
        fd = os.open(run / "k", os.O_RDWR | os.O_DIRECT)
        buffer[:] = bytes(block)
        assert os.preadv(fd, [buffer], block) == block
        assert buffer[:] == value
        buffer[:4096] = b"!" * 4096
        assert os.pwritev(fd, [memoryview(buffer)[:4096]], 4096) == 4096
        os.close(fd)
        fd = os.open(run / "k", os.O_RDONLY | os.O_DIRECT)
        assert os.preadv(fd, [buffer], 0) == block
        assert buffer[:8193] == value[:4096] + b"!" * 4096 + value[8192:8193]
        assert os.preadv(fd, [buffer], 3 * block - 4096) == 4096
        assert os.preadv(fd, [buffer], 3 * block) == 0
        os.close(fd)
