"""name_to_handle_at(2) and open_by_handle_at(2), which Python does not offer: a file by number instead of by name."""

import ctypes
import os
from pathlib import Path

_AT_FDCWD = -100
_MAX_HANDLE_BYTES = 128

_libc = ctypes.CDLL(None, use_errno=True)


class FileHandle(ctypes.Structure):
    """struct file_handle. Of FUSE it holds the inode's number in two halves, the upper first, and its generation."""

    _fields_ = (
        ("handle_bytes", ctypes.c_uint32),
        ("handle_type", ctypes.c_int32),
        ("inode_high", ctypes.c_uint32),
        ("inode_low", ctypes.c_uint32),
        ("generation", ctypes.c_uint32),
        ("_rest", ctypes.c_char * (_MAX_HANDLE_BYTES - 12)),
    )

    def of_inode(self, ino: int) -> "FileHandle":
        """The handle of another inode of the same filesystem."""
        other = FileHandle.from_buffer_copy(self)
        other.inode_high, other.inode_low = ino >> 32, ino & 0xFFFFFFFF
        return other


def handle_of(path: Path) -> FileHandle:
    """Raises OSError."""
    handle = FileHandle(handle_bytes=_MAX_HANDLE_BYTES)
    mount = ctypes.c_int()
    _check(_libc.name_to_handle_at(_AT_FDCWD, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0))
    return handle


def open_handle(mounted: Path, handle: FileHandle, flags: int = os.O_RDONLY) -> int:
    """Open by handle, on the filesystem that `mounted` is in. Raises OSError."""
    top = os.open(mounted, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return _check(_libc.open_by_handle_at(top, ctypes.byref(handle), flags))
    finally:
        os.close(top)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
