"""What /proc tells of the process behind a request."""

import os
import re
from collections.abc import Collection
from itertools import islice
from typing import NamedTuple

# Bytes, because a process chooses its name, which is among them: as text, one that is no UTF-8 could not be read, and a
# carriage return in it would begin a line.
_FLAGS = re.compile(rb"^flags:\s*([0-7]+)$", re.MULTILINE)
_GROUPS = re.compile(rb"^Groups:(.*)$", re.MULTILINE)
_INO = re.compile(rb"^ino:\s*(\d+)$", re.MULTILINE)
_FDS_AT_MOST = 2048
"""How many files of a process are looked at, the lowest first: the event loop waits, 10 us for each."""


class Caller(NamedTuple):
    """Who sent a request."""

    pid: int
    """The thread; 0 when it is out of sight, in another PID namespace."""
    uid: int
    gid: int

    def in_group(self, gid: int) -> bool:
        """Whether the caller belongs to a group, also by a supplementary one (proc(5): /proc/PID/status)."""
        if gid == self.gid:
            return True
        try:
            with open(f"/proc/{self.pid}/status", "rb") as status:
                return gid in groups_in(status.read())
        except OSError:
            return False


def same_process(pid: int, other: int) -> bool:
    """Whether two threads belong to one process."""
    return pid == other or os.path.exists(f"/proc/{pid}/task/{other}")


def holds(pid: int, inos: Collection[int], *, for_writing: bool) -> bool:
    """Whether the process of thread `pid` has a file with one of these inode numbers open (proc(5): /proc/PID/fdinfo).

    Reads nothing of the mount itself, so it cannot wait for us. False for a process that is gone or out of sight, and
    for one that has thousands open before this one.
    """
    if not pid:
        return False
    try:
        with os.scandir(f"/proc/{pid}/fdinfo") as fds:
            for fd in islice(fds, _FDS_AT_MOST):
                opened = _opened(fd.path)
                if opened is None or opened[0] not in inos:
                    continue
                if not for_writing or opened[1] & os.O_ACCMODE != os.O_RDONLY:
                    return True
    except OSError:
        return False
    return False


def _opened(path: str) -> tuple[int, int] | None:
    """As `opened_in`; None also for what another thread of the process has just closed."""
    try:
        with open(path, "rb") as info:
            return opened_in(info.read())
    except OSError:
        return None


def groups_in(status: bytes) -> set[int]:
    """The supplementary groups in /proc/PID/status."""
    groups = _GROUPS.search(status)
    return set() if groups is None else {int(gid) for gid in groups[1].split()}


def opened_in(info: bytes) -> tuple[int, int] | None:
    """The inode number and the flags in a file of /proc/PID/fdinfo; None where one is missing."""
    ino, flags = _INO.search(info), _FLAGS.search(info)
    return None if ino is None or flags is None else (int(ino[1]), int(flags[1], 8))
