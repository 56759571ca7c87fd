"""Read-only views of directories of the mount: bind mounts. All of it blocks: call it in a thread.

The kernel refuses writes through them (EROFS), whoever asks and whatever the engine was told for the container.
"""

import contextlib
import ctypes
import os

from fusefs.dockerplugin.errors import VolumeError
from fusefs.mountapi import detach
from fusefs.mountinfo import mount_at, mounts

# mount(2).
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND = 1, 2, 4, 32, 4096

_libc = ctypes.CDLL(None, use_errno=True)


def bind(source: str, target: str) -> None:
    """Show `source` read-only at `target`, which is made. A view of what `source` was before is replaced.

    Raises VolumeError.
    """
    if _shows(source, target):
        return
    unbind(target)
    try:
        os.makedirs(target, 0o700, exist_ok=True)
        _mount(source, target, _BIND)
        try:
            # A bind mount takes its flags in a second step only. Nobody is told of it before that.
            _mount(None, target, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
        except OSError:
            unbind(target)
            raise
    except OSError as error:
        raise VolumeError(f"{source} cannot be bound read-only to {target}: {error.strerror}") from error


def unbind(target: str) -> None:
    """Take the view and its directory away; containers that have it keep it. Raises VolumeError."""
    while mount_at(os.fsencode(target)) is not None:
        try:
            detach(target)
        except OSError as error:
            raise VolumeError(f"{target} cannot be unmounted: {error.strerror}") from error
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(target)


def unbind_all(directory: str) -> None:
    """Take away every view in `directory`. Raises VolumeError."""
    inside = os.fsencode(directory) + b"/"
    for mount in mounts():
        if mount.path.startswith(inside):
            unbind(os.fsdecode(mount.path))


def _shows(source: str, target: str) -> bool:
    """Whether `target` is a living, read-only view of the directory that `source` is now.

    It is not where the daemon died and was mounted anew, or where a run expired and was made again.
    """
    if mount_at(os.fsencode(target)) is None:
        return False
    try:
        read_only = os.statvfs(target).f_flag & os.ST_RDONLY
        return bool(read_only) and os.path.samestat(os.stat(source), os.stat(target))
    except OSError:
        return False


def _mount(source: str | None, target: str, flags: int) -> None:
    given = None if source is None else os.fsencode(source)
    if _libc.mount(given, os.fsencode(target), None, ctypes.c_ulong(flags), None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
