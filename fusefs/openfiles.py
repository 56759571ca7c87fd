"""Which files a process has open (proc(5): /proc/PID/fd).

Nothing that a process does with its files may hold up the mount. None of them is asked for anything, and what is
looked up is looked up by another thread, for which the event loop waits for a moment only (see fusefs.glances).
"""

import os
import re
import stat
import time
from collections.abc import Collection

from fusefs.glances import in_time
from fusefs.mountapi import device_of
from fusefs.mountinfo import fdinfo

_INO = re.compile(rb"^ino:\s*(\d+)$", re.MULTILINE)
_LOOKED_AT_S = 0.01
"""For how long the files of a process are looked at, the lowest first: some 10 us for each."""


def holds(
    pid: int, inos: Collection[int], *, for_writing: bool, connection: int | None = None, otherwise: bool = False
) -> bool:
    """Whether the process of thread `pid` has a file with one of these inode numbers open.

    `connection`: the minor number of the device that the file has to be on; None: of any. `otherwise`: the answer for a
    process out of sight, for one that has hundreds of files open before this one, and for one that cannot be looked at
    in time.
    """
    found = in_time(pid, lambda: _holds(pid, inos, for_writing, connection), otherwise=None) if pid else None
    return otherwise if found is None else found


def _holds(pid: int, inos: Collection[int], for_writing: bool, connection: int | None) -> bool | None:
    # The time that this thread runs: how busy others keep the machine is not to change the answer.
    until = time.thread_time() + _LOOKED_AT_S
    try:
        with os.scandir(f"/proc/{pid}/fd") as fds:
            for fd in fds:
                if time.thread_time() > until:
                    return None
                if _is_one_of(fd.path, inos, connection) and (not for_writing or _is_for_writing(fd)):
                    return True
    except OSError:
        return None
    return False


def _is_one_of(path: str, inos: Collection[int], connection: int | None) -> bool:
    """Whether a link in /proc/PID/fd stands for one of these inodes; not where it was closed just now. Raises OSError.

    /proc/PID/fdinfo tells more, but asks the file what else there is to tell: an epoll waits there for whoever has
    it locked, who may be waiting for us. A descriptor of our own with O_PATH stands for the same inode, and for no file
    that could be asked.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Which filesystem it is on is asked of the inode: a table of mounts is as long as whoever made it likes.
        return ino_in(fdinfo(fd)) in inos and (connection is None or device_of(fd) == (0, connection))
    finally:
        os.close(fd)


def _is_for_writing(fd: os.DirEntry[str]) -> bool:
    """Whether a file was opened for writing: its link in /proc/PID/fd has that permission."""
    return bool(fd.stat(follow_symlinks=False).st_mode & stat.S_IWUSR)


def ino_in(info: bytes) -> int | None:
    """The inode number in a file of /proc/PID/fdinfo; None where it is missing."""
    ino = _INO.search(info)
    return None if ino is None else int(ino[1])
