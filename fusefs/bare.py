"""The bare mountpoint: the directory below a mount refuses writes after the daemon has died.

The dead mount refuses them itself. But where somebody takes it away (umount -l, a service manager), jobs would fill an
ordinary empty directory with success. So the directory is made immutable (FS_IMMUTABLE_FL, chattr(1)) then, for root's
jobs too, until it is mounted on again or unmounted in order. A mark tells our flag from one that was there before.

A daemon that leaves its mount dead in any case has it immutable for as long as it serves. Others do not: who has
unmounted wants to remove the directory, and the daemon needs a moment to find out.
"""

import contextlib
import inspect
import os
from array import array
from collections.abc import Iterator
from fcntl import ioctl

# FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of a 64-bit system, ioctl_iflags(2).
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
_IMMUTABLE = 0x10
_MARK = "trusted.fusefs.bare"


def protect(directory: int) -> None:
    """Make a directory refuse writes, by its descriptor.

    Raises OSError where the filesystem or our rights do not allow it: only root may, and not every filesystem can.
    """
    flags = array("L", [0])
    ioctl(directory, _GET_FLAGS, flags)
    if not flags[0] & _IMMUTABLE:
        os.setxattr(directory, _MARK, b"1")
        ioctl(directory, _SET_FLAGS, array("L", [flags[0] | _IMMUTABLE]))


PROTECT = f"""
import os
from array import array
from fcntl import ioctl
_GET_FLAGS, _SET_FLAGS, _IMMUTABLE, _MARK = {_GET_FLAGS}, {_SET_FLAGS}, {_IMMUTABLE}, {_MARK!r}
{inspect.getsource(protect)}"""
"""`protect` as a program: for a process that outlives the daemon and has nothing of ours."""


def is_protected(path: str) -> bool:
    """Whether a directory was protected by us and not given back."""
    try:
        return bool(os.getxattr(path, _MARK))
    except OSError:
        return False


@contextlib.contextmanager
def bare_mountpoint(path: str) -> Iterator[int]:
    """A descriptor of the directory `path`, which leads to it although something is mounted there by then."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def release(path: str) -> None:
    """Make a directory that was protected an ordinary one again. Leaves alone what others made immutable."""
    with contextlib.suppress(OSError), bare_mountpoint(path) as directory:
        release_directory(directory)


def release_directory(directory: int) -> None:
    """The same by a descriptor, which leads to it although something is mounted there."""
    with contextlib.suppress(OSError):
        os.getxattr(directory, _MARK)
        flags = array("L", [0])
        ioctl(directory, _GET_FLAGS, flags)
        ioctl(directory, _SET_FLAGS, array("L", [flags[0] & ~_IMMUTABLE]))
        os.removexattr(directory, _MARK)
