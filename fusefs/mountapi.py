"""System calls for mounts that Python does not offer: open_tree(2), move_mount(2), umount2(2), fsopen(2), statx(2).

All of them raise OSError. Most need root, and some a newer kernel than ours has to be (ENOSYS, EINVAL).
"""

import ctypes
import os
import struct
from typing import Any

# The same on all architectures.
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW = -100, 0x100
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOVE_MOUNT_BENEATH = 0x200
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_AT_EMPTY_PATH, _AT_STATX_DONT_SYNC = 0x1000, 0x4000
_STATX = struct.Struct("136x 2I 112x")
"""struct statx, of which the device is all that is there for everybody."""
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8

_libc = ctypes.CDLL(None, use_errno=True)


def clone(path: str) -> int:
    """A descriptor of the mount that `path` is in, attached nowhere and without what is mounted in it."""
    return _checked(_libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC))


def attach(tree: int, path: str, *, beneath: bool = False) -> None:
    """Mount what `clone` returned on `path`; `beneath` what is mounted there, which takes a kernel from 6.5 on."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | (_MOVE_MOUNT_BENEATH if beneath else 0)
    _checked(_libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(path), flags))


def detach(path: str) -> None:
    """Take away what is mounted on `path`; who has something open in it keeps that."""
    # Not umount(8): that looks at the path before, and what is mounted there may be dead.
    _checked(_libc.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW))


def unmount(path: str) -> None:
    """Unmount what is mounted on `path`, unless it is in use (EBUSY)."""
    _checked(_libc.umount2(os.fsencode(path), _UMOUNT_NOFOLLOW))


def directory_below(path: str) -> int:
    """A descriptor of the directory `path` itself, whatever is mounted on it."""
    parent, name = os.path.split(path)
    tree = clone(parent)
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
    finally:
        os.close(tree)


def mount_nowhere(kind: bytes) -> int:
    """A descriptor of the root of a filesystem of this kind, to which no path leads."""
    context = _checked(_libc.syscall(_FSOPEN, kind, _FSOPEN_CLOEXEC))
    try:
        _checked(_libc.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0))
        return _checked(_libc.syscall(_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0))
    finally:
        os.close(context)


def device_of(fd: int) -> tuple[int, int]:
    """The major and minor number of the filesystem that a descriptor is in, which is asked for nothing."""
    return _device(fd, b"", _AT_EMPTY_PATH)


def device_at(path: str) -> tuple[int, int]:
    """The same of what is uppermost at `path`. Takes no descriptor."""
    return _device(_AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW)


def _device(directory: int, path: bytes, flags: int) -> tuple[int, int]:
    told = ctypes.create_string_buffer(_STATX.size)
    _checked(_libc.statx(directory, path, flags | _AT_STATX_DONT_SYNC, 0, told))
    major, minor = _STATX.unpack(told.raw)
    return major, minor


def _checked(result: Any) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)
