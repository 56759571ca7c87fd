"""What /proc tells of the process behind a request."""

import os
import re
import stat
import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

# Bytes, because a process chooses its name, which is among them: as text, one that is no UTF-8 could not be read, and a
# carriage return in it would begin a line.
_GROUPS = re.compile(rb"^Groups:(.*)$", re.MULTILINE)
_PARENT = re.compile(rb"^PPid:\s*(\d+)$", re.MULTILINE)
_INO = re.compile(rb"^ino:\s*(\d+)$", re.MULTILINE)
_MOUNT = re.compile(rb"^mnt_id:\s*(\d+)$", re.MULTILINE)
_GENERATIONS_AT_MOST = 8
_LOOKED_AT_S = 0.01
"""For how long the files of a process are looked at, the lowest first: the event loop waits, some 10 us for each."""
_FDINFO_BYTES = 4096


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


def holds(pid: int, inos: Collection[int], *, for_writing: bool, connection: int | None = None) -> bool:
    """Whether the process of thread `pid` has a file with one of these inode numbers open (proc(5): /proc/PID/fd).

    `connection`: the minor number of the device that the file has to be on; None: of any.

    `pid` has to be waiting for the answer to a request: its process cannot be inside execve(2) then, for which this
    would wait. It waits for nothing else, whatever the process does with its files: none of them is asked for anything
    (see `_info`). False for a process out of sight, and for one that has hundreds of files open before this one.
    """
    if not pid:
        return False
    # The time that this thread runs: how busy others keep the machine is not to change the answer.
    until = time.thread_time() + _LOOKED_AT_S
    try:
        with os.scandir(f"/proc/{pid}/fd") as fds:
            for fd in fds:
                if time.thread_time() > until:
                    return False
                info = _info(fd.path)
                found = ino_in(info) in inos and (connection is None or _is_on(connection, pid, info))
                if found and (not for_writing or _is_for_writing(fd)):
                    return True
    except OSError:
        return False
    return False


def _info(path: str) -> bytes:
    """What is to be told of the inode that a link in /proc/PID/fd stands for; nothing of what was closed just now.

    /proc/PID/fdinfo tells more, but asks the file what else there is to tell: an epoll waits there for whoever has
    it locked, who may be waiting for us. A descriptor of our own with O_PATH stands for the same inode, and for no file
    that could be asked.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(info, _FDINFO_BYTES)
        finally:
            os.close(info)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _is_on(connection: int, pid: int, info: bytes) -> bool:
    """Whether a file that a process has open is on a device of FUSE, by the mount that /proc/PID/fdinfo names.

    True also where that one is out of sight: another namespace has it, or it was unmounted meanwhile.
    """
    mount = _MOUNT.search(info)
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as table:
            fields = (line.split(b" ", 3) for line in table)
            device = next((known[2] for known in fields if mount is not None and known[0] == mount[1]), None)
    except OSError:
        return True
    return device in (None, b"0:%d" % connection)


def _is_for_writing(fd: os.DirEntry[str]) -> bool:
    """Whether a file was opened for writing: its link in /proc/PID/fd has that permission."""
    return bool(fd.stat(follow_symlinks=False).st_mode & stat.S_IWUSR)


def groups_in(status: bytes) -> set[int]:
    """The supplementary groups in /proc/PID/status."""
    groups = _GROUPS.search(status)
    return set() if groups is None else {int(gid) for gid in groups[1].split()}


def ino_in(info: bytes) -> int | None:
    """The inode number in a file of /proc/PID/fdinfo; None where it is missing."""
    ino = _INO.search(info)
    return None if ino is None else int(ino[1])
