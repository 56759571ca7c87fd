"""What /proc tells of the process behind a request."""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

# Bytes, because a process chooses its name, which is among them: as text, one that is no UTF-8 could not be read, and a
# carriage return in it would begin a line.
_GROUPS = re.compile(rb"^Groups:(.*)$", re.MULTILINE)
_PARENT = re.compile(rb"^PPid:\s*(\d+)$", re.MULTILINE)
_GENERATIONS_AT_MOST = 8


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


def lineage(pid: int) -> Iterator[set[int]]:
    """The threads of the process of thread `pid`, then those of its parent, and so on.

    A file that a process has open may be one that an ancestor opened: descriptors are inherited. Waits for nobody (see
    fusefs.closers), as status is read without the locks that execve(2) holds.
    """
    for _ in range(_GENERATIONS_AT_MOST):
        yield _threads(pid) | {pid}
        pid = _parent(pid)
        if not pid:
            return


def _threads(pid: int) -> set[int]:
    try:
        return {*map(int, os.listdir(f"/proc/{pid}/task"))}
    except OSError:
        return set()


def _parent(pid: int) -> int:
    """0: none that can be seen."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            parent = _PARENT.search(status.read())
    except OSError:
        return 0
    return 0 if parent is None else int(parent[1])


def groups_in(status: bytes) -> set[int]:
    """The supplementary groups in /proc/PID/status."""
    groups = _GROUPS.search(status)
    return set() if groups is None else {int(gid) for gid in groups[1].split()}
