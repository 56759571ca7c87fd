"""Whether mounts of ours are served: asked of the mount itself, not of a cache, and never waited for long."""

import errno
import os
import select
import signal
import time
from dataclasses import dataclass
from enum import Enum

from fusefs.errors import MountError
from fusefs.mountinfo import Mount, mount_at, mounts, resolved
from fusefs.presence import server

ANSWER_SECONDS = 5.0
"""How long a mount has to answer."""
_AT_ONCE = 8
"""How many mounts of one other user are asked at once: what asks one that never answers may be there for ever."""
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
_OUT_OF_REACH = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR)
"""What the way to a mount says, and never a mount: a directory that is private, or has something mounted over it."""


class State(Enum):
    """What a mountpoint is at the moment."""

    SERVING = "serving"
    DEAD = "dead"
    """Its daemon is gone; every use of it fails with ENOTCONN."""
    STUCK = "stuck"
    """Its daemon is there and does not answer, or with an error."""
    UNKNOWN = "unknown"
    """It cannot be asked: we are not let in, or do not get there; or too many of the same user's do not answer."""
    NOT_MOUNTED = "not mounted"


@dataclass(frozen=True, slots=True)
class Status:
    """One mountpoint."""

    path: str
    state: State
    store: str = ""
    pid: int | None = None
    """The process that serves it, as far as can be told."""


def status_of(mountpoint: str, seconds: float = ANSWER_SECONDS) -> Status:
    """Ask the mount on `mountpoint`."""
    path = resolved(mountpoint)
    mount = mount_at(os.fsencode(path))
    if mount is None or not mount.ours:
        return Status(path, State.NOT_MOUNTED)
    return _ask([mount], seconds)[0]


def all_statuses(seconds: float = ANSWER_SECONDS) -> list[Status]:
    """Ask all mounts of ours that this process can see, all at once: any user can make many that never answer."""
    # A mount that covers another is asked in its place; binds of one are seen as mounts, too.
    uppermost = {mount.path: mount for mount in mounts()}
    return _ask([mount for mount in uppermost.values() if mount.ours], seconds)


def _ask(asked: list[Mount], seconds: float) -> list[Status]:
    found = _Questions(asked).answers(time.monotonic() + seconds)
    return [_status(mount, state) for mount, state in zip(asked, found, strict=True)]


def _status(mount: Mount, state: State) -> Status:
    path = os.fsdecode(mount.path)
    return Status(path, state, mount.source.decode("utf-8", "backslashreplace"), _server(path, mount.uid))


class _Questions:
    """Questions to mounts, each asked by a process of its own: one that is not answered may not end, whatever we do."""

    def __init__(self, asked: list[Mount]) -> None:
        self._asked = asked
        self._waiting = list(range(len(asked)))
        self._askers: dict[int, tuple[int, int]] = {}
        """By the descriptor that tells of its end: which mount a process asks, and its id."""
        self._ends = select.poll()
        self._states = [State.UNKNOWN] * len(asked)

    def answers(self, deadline: float) -> list[State]:
        self._ask_more()
        while self._askers and (ended := self._ends.poll(max(0.0, deadline - time.monotonic()) * 1000)):
            for fd, _ in ended:
                number, pid = self._forget(fd)
                self._states[number] = _state_of(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            self._ask_more()
        for fd in list(self._askers):
            number, pid = self._forget(fd)
            self._states[number] = State.STUCK
            os.kill(pid, signal.SIGKILL)
        return self._states

    def _ask_more(self) -> None:
        for number in list(self._waiting):
            if self._has_room(self._asked[number].uid):
                self._waiting.remove(number)
                pid = _start_asking(os.fsdecode(self._asked[number].path))
                fd = os.pidfd_open(pid)
                self._askers[fd] = number, pid
                self._ends.register(fd, select.POLLIN)

    def _has_room(self, uid: int | None) -> bool:
        others = sum(self._asked[number].uid == uid for number, _ in self._askers.values())
        return uid == os.geteuid() or others < _AT_ONCE

    def _forget(self, fd: int) -> tuple[int, int]:
        self._ends.unregister(fd)
        os.close(fd)
        return self._askers.pop(fd)


_STATES = (State.SERVING, State.DEAD, State.UNKNOWN)
"""What the exit code of a process says that asked; STUCK where it is another."""


def _state_of(code: int) -> State:
    return _STATES[code] if 0 <= code < len(_STATES) else State.STUCK


def _start_asking(path: str) -> int:
    pid = os.fork()
    if pid == 0:
        code = len(_STATES)
        try:
            os.closerange(0, 3)  # whoever reads our output is not to wait for a process that cannot end
            code = _code(path)
        finally:
            os._exit(code)
    return pid


def _code(path: str) -> int:
    try:
        # The kernel itself answers those whom the mount does not let in, dead or alive, and fills in nothing.
        state = State.SERVING if os.statvfs(path).f_bsize else State.UNKNOWN
    except OSError as error:
        if error.errno not in (*_DEAD, *_OUT_OF_REACH):
            raise
        state = State.DEAD if error.errno in _DEAD else State.UNKNOWN
    return _STATES.index(state)


def _server(path: str, uid: int | None) -> int | None:
    try:
        return server(path, uid) or None
    except MountError:
        return None  # somebody else's, or served in another container
