"""What /proc tells of the process behind a request."""

import math
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

# Bytes, because a process chooses its name, which is among them: as text, one that is no UTF-8 could not be read, and a
# carriage return in it would begin a line.
_GROUPS = re.compile(rb"^Groups:(.*)$", re.MULTILINE)
_PROCESS = re.compile(rb"^Tgid:\s*(\d+)$", re.MULTILINE)
_PARENT = re.compile(rb"^PPid:\s*(\d+)$", re.MULTILINE)
_CAPABILITIES = re.compile(rb"^CapEff:\s*(\w+)$", re.MULTILINE)
_GENERATIONS_AT_MOST = 8
_STATE, _THREADS, _START_TIME = 0, 17, 19
"""Which fields of /proc/PID/stat these are, counted behind the name."""
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
START_KNOWN_TO_S = 1 / _TICKS_A_SECOND
"""`started_at` is up to so much before the thread was started."""
_PIDFD_THREAD = os.O_EXCL


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
        return gid in self.groups()

    def groups(self) -> frozenset[int]:
        """The supplementary groups of the caller."""
        return frozenset(groups_in(_status(self.pid)))

    def capable(self, capability: int, uid: int, gid: int | None = None) -> bool:
        """Whether a capability (its number) holds for a file of this owner, and group where that counts, too.

        As the kernel does (capabilities(7)): those have to be there in the user namespace of the caller.
        """
        found = _CAPABILITIES.search(_status(self.pid))
        if found is None or not int(found[1], 16) >> capability & 1:
            return False
        return _is_mapped(self.pid, "uid_map", uid) and (gid is None or _is_mapped(self.pid, "gid_map", gid))


def lineage(pid: int) -> Iterator[int]:
    """The process of thread `pid`, then its parent, and so on.

    A file that a process has open may be one that an ancestor opened: descriptors are inherited. Waits for nobody (see
    fusefs.closers), as status is read without the locks that execve(2) holds.
    """
    for _ in range(_GENERATIONS_AT_MOST):
        status = _status(pid)
        yield _process_in(status, pid)
        parent = _PARENT.search(status)
        pid = 0 if parent is None else int(parent[1])
        if not pid:
            return


def ancestry(pid: int) -> Iterator[tuple[int, int]]:
    """As `lineage`, each with the one of them that is its child; 0 for the first."""
    child = 0
    for process in lineage(pid):
        yield process, child
        child = process


def identity_of(pid: int) -> int:
    """What only this thread ever is, whoever gets its number after it. Waits for nobody.

    0 when it is gone or out of sight, or where the kernel cannot tell: before Linux 6.9 (pidfds have no inodes).
    """
    return _inode_of(pid, _PIDFD_THREAD) if _HAS_IDENTITIES else 0


def _inode_of(pid: int, flags: int = 0) -> int:
    try:
        pidfd = os.pidfd_open(pid, flags)
    except OSError:
        return 0
    try:
        return os.fstat(pidfd).st_ino
    finally:
        os.close(pidfd)


def _has_identities() -> bool:
    """Before Linux 6.9, one inode stands for all that has no name."""
    other = os.eventfd(0)
    try:
        return _inode_of(os.getpid()) not in (0, os.fstat(other).st_ino)
    finally:
        os.close(other)


_HAS_IDENTITIES = _has_identities()


def process_of(pid: int) -> int:
    """The process of a thread; the number of the thread when it is gone or out of sight. Waits as `lineage` does."""
    try:
        os.close(os.pidfd_open(pid))
    except OSError:  # of all threads of a process, it is one for the first only
        return _process_in(_status(pid), pid)
    return pid


def _process_in(status: bytes, pid: int) -> int:
    process = _PROCESS.search(status)
    return pid if process is None else int(process[1])


def threads(pid: int) -> list[int]:
    """The threads of the process of thread `pid`; none when it is gone or out of sight."""
    try:
        return list(map(int, os.listdir(f"/proc/{pid}/task")))
    except OSError:
        return []


def started_at(pid: int) -> float:
    """When a thread was started, in seconds since the machine was; 0 when it is gone or out of sight.

    A zombie is as one that is never started: it has closed its files.

    Waits while its process is inside execve(2): not for the event loop (see fusefs.closers).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    if fields[_STATE] == b"Z" and fields[_THREADS] == b"1":  # with more, others of its process go on
        return math.inf
    return int(fields[_START_TIME]) / _TICKS_A_SECOND


def _is_mapped(pid: int, which: str, number: int) -> bool:
    """Whether there is a user or group, of a number in our user namespace, in that of a thread (user_namespaces(7))."""
    try:
        with open(f"/proc/{pid}/{which}", "rb") as ranges:
            mapped = [[*map(int, line.split())] for line in ranges]
    except OSError:
        return False
    return any(first <= number < first + count for _, first, count in mapped)


def _status(pid: int) -> bytes:
    """/proc/PID/status; nothing when the thread is gone or out of sight."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            return status.read()
    except OSError:
        return b""


def groups_in(status: bytes) -> set[int]:
    """The supplementary groups in /proc/PID/status."""
    groups = _GROUPS.search(status)
    return set() if groups is None else {int(gid) for gid in groups[1].split()}
