"""The calls of a process that stores and fetches objects: what one request is, and how long each of many takes."""

import os
from collections.abc import Callable, Iterable
from functools import cache
from time import perf_counter

VALUE = b"x" * 100
MIB = 1024 * 1024
RENAMED = "-renamed"

Operation = Callable[[str], object]


def put(path: str) -> None:
    """Write a small object, new or not."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(fd, VALUE)
    os.close(fd)


def append(path: str) -> None:
    """Add as much again to an object."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, VALUE)
    os.close(fd)


def get(path: str) -> None:
    """Read a small object whole."""
    fd = os.open(path, os.O_RDONLY)
    if not os.read(fd, 4096):
        raise RuntimeError(f"{path} is empty")
    os.close(fd)


def stat(path: str) -> None:
    """Ask for the attributes of an object."""
    os.stat(path)


def rename(path: str) -> None:
    """Give an object another name in the same directory."""
    os.rename(path, path + RENAMED)


def remove_renamed(path: str) -> None:
    """Remove what `rename` made of the object."""
    os.unlink(path + RENAMED)


SEQUENCE: dict[str, Operation] = {
    "put": put,
    "overwrite": put,
    "append": append,
    # What was just written is not in the page cache whole: the first get asks the filesystem, the next need not.
    "get first": get,
    "get": get,
    # A get makes the kernel forget the access time: the first stat behind it is a request, the next need not be.
    "stat": stat,
    "stat again": stat,
    "rename": rename,
    "rm": remove_renamed,
}
"""One after the other on the same names, which it leaves as they were: gone."""


def timed(operation: Operation, paths: Iterable[str]) -> list[float]:
    """Do it to each path. Returns the seconds of each."""
    seconds = []
    before = perf_counter()
    for path in paths:
        operation(path)
        after = perf_counter()
        seconds.append(after - before)
        before = after
    return seconds


@cache
def random_block() -> bytes:
    """What large objects consist of. Made once: it takes longer than writing it does."""
    return os.urandom(MIB)


def write_large(path: str, size: int, *, sync: bool = False) -> None:
    """Write an object of `size` bytes, until close(), and before it fsync(), have returned."""
    block = random_block()[:size]
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for _ in range(size // len(block)):
        write_whole(fd, block)
    if sync:
        os.fsync(fd)
    os.close(fd)


def write_whole(fd: int, block: bytes) -> None:
    """write(2) may take less than it is given."""
    view = memoryview(block)
    while view:
        view = view[os.write(fd, view) :]


def drop_pages(path: str) -> None:
    """Have nothing of a file in the page cache that belongs to it."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def read_large(path: str, size: int) -> None:
    """Read an object whole."""
    buffer = bytearray(min(size, MIB))
    fd = os.open(path, os.O_RDONLY)
    length = 0
    while got := os.readv(fd, [buffer]):
        length += got
    os.close(fd)
    if length != size:
        raise RuntimeError(f"{path}: wrote {size} bytes, read {length}")
