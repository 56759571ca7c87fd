"""Locks on one byte of a file that go with the file's open description, however its process ends.

They hold between two descriptions of one process as well (fcntl(2), F_OFD_SETLK).
"""

import fcntl
import os
import struct

_FLOCK = struct.Struct("hhqqi4x")


def take(fd: int, kind: int, byte: int = 0, *, length: int = 1, wait: bool = False) -> None:
    """Lock bytes, with F_RDLCK or F_WRLCK, for as long as this description of the file is open.

    Raises OSError when another has a lock on it that does not go with this one, unless it is to be waited for.
    """
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, length, 0))


def is_taken(fd: int, byte: int) -> bool:
    """Whether another description of the file has a byte locked."""
    return _in_the_way(fd, byte, 1) is not None


def holder(fd: int, byte: int, length: int) -> int | None:
    """The process that keeps these bytes from being locked for writing; None where none does or it cannot be told."""
    pid = _in_the_way(fd, byte, length)
    return pid if pid is not None and pid > 0 else None


def any_taken(fd: int) -> bool:
    """Whether another description of the file has any byte locked."""
    return _in_the_way(fd, 0, 0) is not None


def _in_the_way(fd: int, byte: int, length: int) -> int | None:
    """The process with a lock on these bytes (length 0: to the end), -1 where that is not told; None without one."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, length, 0))
    kind, _, _, _, pid = _FLOCK.unpack(answer[: _FLOCK.size])
    return None if kind == fcntl.F_UNLCK else int(pid)
