"""What a worker process of the mount machine can be told to do. Its text is sent to it: nothing but the standard
library is there, and the names of the loop of `tests.support.processes.Other`.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import stat
from typing import Any

files: dict[int, int] = {}
"""What is open: the machine's number of a descriptor, and its own."""
parents: list[Any] = []
"""Channels of those it was forked from: left open, since their numbers would be taken by files."""
FAR = 300
"""Where descriptors go that are not to take the numbers which the files get."""
NOTE = "user.note"
_AT_FDCWD = -100

libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def start(fd: int, path: bytes, flags: int) -> None:
    descriptor = os.open(path, flags, 0o644)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, "this is what reading it would say")
    files[fd] = descriptor


def duplicate(fd: int, new: int) -> None:
    files[new] = os.dup(files[fd])


def write(fd: int, offset: int | None, data: bytes) -> None:
    written = os.write(files[fd], data) if offset is None else os.pwrite(files[fd], data, offset)
    assert written == len(data)


def close(fd: int) -> int:
    """Close, and return the errno: the descriptor is gone in any case."""
    try:
        os.close(files.pop(fd))
    except OSError as error:
        return error.errno or 0
    return 0


def settle(directory: bytes) -> None:
    """Have everything that was closed committed: others may see it up to a second later else."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def rename(old: bytes, new: bytes, flags: int) -> None:
    if libc.renameat2(_AT_FDCWD, old, _AT_FDCWD, new, flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def content(descriptor: int) -> bytes:
    pieces = []
    at = 0
    while piece := os.pread(descriptor, 1 << 20, at):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


def look(paths: list[bytes]) -> tuple[dict[int, bytes], list[bytes]]:
    """What the descriptors read, and which of the paths are there."""
    return {fd: content(descriptor) for fd, descriptor in files.items()}, [
        path for path in paths if os.path.lexists(path)
    ]


def walk(top: bytes) -> tuple[dict[bytes, bytes | None], dict[bytes, int]]:
    """All below a directory: objects with values, symlinks with targets, directories with None; and the mtimes."""
    found: dict[bytes, bytes | None] = {}
    times: dict[bytes, int] = {}

    def visit(directory: bytes, path: bytes) -> None:
        for name in os.listdir(directory):
            full, key = directory + b"/" + name, path + name
            info = os.lstat(full)
            if stat.S_ISDIR(info.st_mode):
                found[key] = None
                visit(full, key + b"/")
            elif stat.S_ISLNK(info.st_mode):
                found[key] = b"-> " + os.readlink(full)
            else:
                found[key] = whole(full)
                times[key] = info.st_mtime_ns

    visit(top, b"")
    return found, times


def whole(path: bytes) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        value = content(descriptor)
        assert os.fstat(descriptor).st_size == len(value)
        return value + (b" note " + os.getxattr(descriptor, NOTE) if os.listxattr(descriptor) else b"")
    finally:
        os.close(descriptor)


def by_path(top: bytes, paths: list[bytes]) -> dict[bytes, bytes | None]:
    """What these paths lead to, None for nothing, with all that the kernel remembers of them."""
    found: dict[bytes, bytes | None] = {}
    for path in paths:
        try:
            found[path] = whole(top + path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
                raise
            found[path] = None
    return found


def drop_dead() -> list[str]:
    """The daemon is dead: let everything go, and say what the descriptors answered before."""
    answers = []
    for descriptor in files.values():
        try:
            os.fsync(descriptor)
            answers.append("success")
        except OSError as error:
            answers.append(errno.errorcode[error.errno or 0])
        with contextlib.suppress(OSError):
            os.close(descriptor)
    files.clear()
    return answers


def drop_all() -> None:
    for fd in list(files):
        close(fd)


def fork(address: str, fds: dict[int, int]) -> int:
    """Fork a child that goes on in the loop, with orders and answers through a socket. The parent gets its pid."""
    global orders, answers, files
    pid = os.fork()
    if pid == 0:
        parents.append((orders, answers))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)
            ends = [fcntl.fcntl(connection.fileno(), fcntl.F_DUPFD_CLOEXEC, FAR) for _ in range(2)]
        orders, answers = os.fdopen(ends[0], "rb"), os.fdopen(ends[1], "wb")
        files = {new: files[old] for old, new in fds.items()}
        return os.getpid()
    return pid


orders: Any
answers: Any
