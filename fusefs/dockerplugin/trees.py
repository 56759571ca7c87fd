"""Removes directories of any depth: shutil.rmtree calls itself for each level, and jobs may make a great many."""

import errno
import os
from threading import Event

from fusefs.mountinfo import mount_number

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str, stop: Event) -> None:
    """Remove a directory with all that is in it, and follow no symlink. Holds two descriptors at the most.

    Nothing more is removed once `stop` is set: InterruptedError. What is mounted there is left alone: EXDEV. Raises
    OSError; FileNotFoundError also where somebody else removes or moves something of it at the same time.
    """
    above: list[tuple[os.stat_result, list[str]]] = []
    """The directories on the way down, and those in them that are left to be removed."""
    fd = os.open(os.path.dirname(path), _DIRECTORY)
    try:
        fd = _step_down(fd, os.path.basename(path))
        left = _remove_files(fd, stop)
        while left or above:
            if left:
                above.append((os.fstat(fd), left))
                fd = _step_down(fd, left[-1])
                left = _remove_files(fd, stop)
            else:
                fd = _step_up(fd)
                seen, left = above.pop()
                if not os.path.samestat(seen, os.fstat(fd)):
                    raise FileNotFoundError
                _check(stop)
                os.rmdir(left.pop(), dir_fd=fd)
    finally:
        os.close(fd)
    _check(stop)
    os.rmdir(path)


def _check(stop: Event) -> None:
    if stop.is_set():
        raise InterruptedError


def _step_down(fd: int, name: str) -> int:
    """Go from a directory to one in it, but not into another mount: what is there is no part of the tree."""
    there = os.open(name, _DIRECTORY, dir_fd=fd)
    if mount_number(there) != mount_number(fd):
        os.close(there)
        raise OSError(errno.EXDEV, "something is mounted in it", name)
    os.close(fd)
    return there


def _step_up(fd: int) -> int:
    """Go from a directory to the one above."""
    there = os.open("..", _DIRECTORY, dir_fd=fd)
    os.close(fd)
    return there


def _remove_files(fd: int, stop: Event) -> list[str]:
    """Remove all but the directories, and return the names of those."""
    with os.scandir(fd) as scan:
        entries = list(scan)
    left = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            left.append(entry.name)
        else:
            _check(stop)
            os.unlink(entry.name, dir_fd=fd)
    return left
