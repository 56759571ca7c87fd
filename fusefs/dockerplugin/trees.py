"""Removes directories of any depth: shutil.rmtree calls itself for each level, and jobs may make a great many."""

import os

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str) -> None:
    """Remove a directory with all that is in it, and follow no symlink. Holds two descriptors at the most.

    Raises OSError; FileNotFoundError also where somebody else removes or moves something of it at the same time.
    """
    above: list[tuple[os.stat_result, list[str]]] = []
    """The directories on the way down, and those in them that are left to be removed."""
    fd = os.open(path, _DIRECTORY)
    try:
        left = _remove_files(fd)
        while left or above:
            if left:
                above.append((os.fstat(fd), left))
                fd = _step(fd, left[-1])
                left = _remove_files(fd)
            else:
                fd = _step(fd, "..")
                seen, left = above.pop()
                if not os.path.samestat(seen, os.fstat(fd)):
                    raise FileNotFoundError
                os.rmdir(left.pop(), dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(path)


def _step(fd: int, name: str) -> int:
    """Go from one directory to the next."""
    there = os.open(name, _DIRECTORY, dir_fd=fd)
    os.close(fd)
    return there


def _remove_files(fd: int) -> list[str]:
    """Remove all but the directories, and return the names of those."""
    with os.scandir(fd) as scan:
        entries = list(scan)
    left = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            left.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=fd)
    return left
