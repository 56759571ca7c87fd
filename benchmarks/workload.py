"""What is measured: the calls of one process that stores and fetches small objects, and one large one."""

import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

VALUE = b"x" * 100
MIB = 1024 * 1024


def put(paths: list[str]) -> None:
    """Write a small object to each path, new or not."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for path in paths:
        fd = os.open(path, flags, 0o644)
        os.write(fd, VALUE)
        os.close(fd)


def get(paths: list[str]) -> None:
    """Read each path."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, 4096)
        os.close(fd)


def stat(paths: list[str]) -> None:
    """Ask for the attributes of each path."""
    for path in paths:
        os.stat(path)


def rate(operation: Callable[[list[str]], None], paths: list[str]) -> float:
    """Return how many of `paths` the operation does in a second."""
    start = perf_counter()
    operation(paths)
    return len(paths) / (perf_counter() - start)


def measure_small(directory: Path, round_number: int, count: int) -> dict[str, float]:
    """Return operations a second, by name. Leaves `directory` as it was."""
    paths = [f"{directory}/key-{round_number}-{number}" for number in range(count)]
    figures = {
        "puts": rate(put, paths),
        "overwrites": rate(put, paths),
        # What was just written is not in the page cache whole: the first get asks the filesystem, the next does not.
        "first gets": rate(get, paths),
        "gets": rate(get, paths),
        # A get makes the kernel forget the access time, so that each of these is a request too.
        "stats": rate(stat, paths),
    }
    for path in paths:
        os.unlink(path)
    return figures


def write_large(path: Path, mib: int) -> float:
    """Return MiB a second, until close() has returned."""
    block = os.urandom(MIB)
    start = perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for _ in range(mib):
        write_whole(fd, block)
    os.close(fd)
    return mib / (perf_counter() - start)


def write_whole(fd: int, block: bytes) -> None:
    """write(2) may take less than it is given."""
    view = memoryview(block)
    while view:
        view = view[os.write(fd, view) :]


def read_large(path: Path, mib: int) -> float:
    """Return MiB a second, with nothing of it in the page cache before."""
    buffer = bytearray(MIB)
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    start = perf_counter()
    length = 0
    while got := os.readv(fd, [buffer]):
        length += got
    seconds = perf_counter() - start
    os.close(fd)
    if length != mib * MIB:
        raise RuntimeError(f"{path}: wrote {mib * MIB} bytes, read {length}")
    return mib / seconds


def measure_large(directory: Path, round_number: int, mib: int) -> dict[str, float]:
    """Return MiB a second, by name. Leaves `directory` as it was."""
    path = directory / f"large-{round_number}"
    figures = {"write": write_large(path, mib), "read": read_large(path, mib)}
    path.unlink()
    return figures
