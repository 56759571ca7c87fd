"""Whether mounts of ours are served: asked of the mount itself, not of a cache, and never waited for long."""

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


class State(Enum):
    """What a mountpoint is at the moment."""

    SERVING = "serving"
    DEAD = "dead"
    """Its daemon is gone; every use of it fails with ENOTCONN."""
    STUCK = "stuck"
    """Its daemon is there and does not answer."""
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
    deadline = time.monotonic() + seconds
    askers = [_start_asking(os.fsdecode(mount.path)) for mount in asked]
    return [_status(mount, _answer(asker, deadline)) for mount, asker in zip(asked, askers, strict=True)]


def _status(mount: Mount, state: State) -> Status:
    path = os.fsdecode(mount.path)
    return Status(path, state, mount.source.decode("utf-8", "backslashreplace"), _server(path, mount.uid))


def _start_asking(path: str) -> int:
    """Ask in a process of its own: one whose request is not answered cannot end, not even by a signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.closerange(0, 3)  # whoever reads our output is not to wait for a process that cannot end
            os.statvfs(path)
            code = 0
        finally:
            os._exit(code)  # whatever went wrong: nobody serves the mount
    return pid


def _answer(pid: int, deadline: float) -> State:
    ended = os.pidfd_open(pid)
    try:
        if not select.select([ended], [], [], max(0, deadline - time.monotonic()))[0]:
            os.kill(pid, signal.SIGKILL)
            return State.STUCK
        return State.SERVING if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 else State.DEAD
    finally:
        os.close(ended)


def _server(path: str, uid: int | None) -> int | None:
    try:
        return server(path, uid) or None
    except MountError:
        return None  # somebody else's, or served in another container
