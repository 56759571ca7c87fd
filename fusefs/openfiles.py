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

_INO = re.compile(rb"^ino:\s*(\d+)$", re.MULTILINE)
_MOUNT = re.compile(rb"^mnt_id:\s*(\d+)$", re.MULTILINE)
_FDINFO_BYTES = 4096
_LOOKED_AT_S = 0.01
"""For how long the files of a process are looked at, the lowest first: some 10 us for each."""


def holds(pid: int, inos: Collection[int], *, for_writing: bool, connection: int | None = None) -> bool:
    """Whether the process of thread `pid` has a file with one of these inode numbers open.

    `connection`: the minor number of the device that the file has to be on; None: of any. False for a process out of
    sight, for one that has hundreds of files open before this one, and for one that cannot be looked at in time.
    """
    return pid != 0 and in_time(lambda: _holds(pid, inos, for_writing, connection), otherwise=False)


def _holds(pid: int, inos: Collection[int], for_writing: bool, connection: int | None) -> bool:
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


def ino_in(info: bytes) -> int | None:
    """The inode number in a file of /proc/PID/fdinfo; None where it is missing."""
    ino = _INO.search(info)
    return None if ino is None else int(ino[1])
