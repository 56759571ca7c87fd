"""What /proc tells of the process behind a request."""

import os
import re
from collections.abc import Collection
from typing import NamedTuple

_FLAGS = re.compile(r"^flags:\s*([0-7]+)$", re.MULTILINE)
_GROUPS = re.compile(r"^Groups:(.*)$", re.MULTILINE)
_INO = re.compile(r"^ino:\s*(\d+)$", re.MULTILINE)


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
            with open(f"/proc/{self.pid}/status") as status:
                groups = _GROUPS.search(status.read())
        except OSError:
            return False
        return groups is not None and str(gid) in groups[1].split()


def same_process(pid: int, other: int) -> bool:
    """Whether two threads belong to one process."""
    return pid == other or os.path.exists(f"/proc/{pid}/task/{other}")


def holds(pid: int, inos: Collection[int], *, for_writing: bool) -> bool:
    """Whether the process of thread `pid` has a file with one of these inode numbers open (proc(5): /proc/PID/fdinfo).

    Reads nothing of the mount itself, so it cannot wait for us. False for a process that is gone or out of sight.
    """
    if not pid:
        return False
    directory = f"/proc/{pid}/fdinfo"
    try:
        for fd in os.listdir(directory):
            with open(f"{directory}/{fd}") as info:
                text = info.read()
            ino, flags = _INO.search(text), _FLAGS.search(text)
            if ino is None or flags is None or int(ino[1]) not in inos:
                continue
            if not for_writing or int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY:
                return True
    except OSError:
        return False
    return False
