"""Who closes a file that is open for writing: a process that goes on or exits, or one that a signal killed.

FLUSH names nobody, because pyfuse3 does not pass its caller on. But whoever closes waits in it until we answer, a
dying process too: it is PF_EXITING and not a zombie yet, and its exit code holds the signal (proc(5), stat). So the
closer is looked for in /proc: first the thread that opened the file, which nearly always closes it, then its threads
and children, then everybody. What a daemon may not see (another PID namespace, for one that is not root another
user's process) it takes for a plain close.
"""

import os
import platform
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import NamedTuple

import trio

_PF_EXITING = 0x4
_SIGNAL_BITS = 0x7F
_FAMILY_AT_MOST = 1000
# close, dup2, dup3, close_range, execve, execveat: where a process that lives on can be waiting for its FLUSH.
_CLOSING_CALLS = {
    "x86_64": frozenset({b"3", b"33", b"292", b"436", b"59", b"322"}),
    "aarch64": frozenset({b"57", b"24", b"436", b"221", b"281"}),
}.get(platform.machine(), frozenset())


class Closing(Enum):
    """How a descriptor was closed."""

    PLAIN = 1
    """By close(2), or by an exit of any status."""
    KILLED = 2
    """By a signal that killed its holder in the middle of its work."""
    HELPER_KILLED = 3
    """As KILLED, but the holder had the descriptor from a process that lives and has written something itself.

    That one decides what becomes of the value: `(a; b; c) > k` is one Put.
    """


class _Task(NamedTuple):
    waiting: bool
    """Whether it exits and has not closed everything yet."""
    exiting: bool
    signal: int
    """What kills it; 0 for an exit of its own."""


async def closing(opener: int, elsewhere: Callable[[], set[int]]) -> Closing:
    """How the descriptor whose FLUSH is being served was closed. `opener` is the thread that opened it.

    `elsewhere` are threads that opened other files: one of them that dies closes those.
    """
    if not opener:
        return Closing.PLAIN
    task = _task(opener)
    alive = task is not None and not task.exiting
    if task is not None and task.waiting:
        return Closing.KILLED if task.signal else Closing.PLAIN
    if alive:
        if _is_closing(opener):
            return Closing.PLAIN
        family = list(_family(opener))
        leaving = [pid for pid in family if (found := _task(pid)) is not None and found.waiting]
        killed = _killed_writer(leaving)
        if killed or leaving or any(map(_is_closing, family)):
            return _judge(opener, killed)
    everybody = await trio.to_thread.run_sync(_everybody)
    killed = _killed_writer(everybody - elsewhere())
    return _judge(opener if alive else 0, killed)


def _judge(opener: int, killed: bool) -> Closing:
    if not killed:
        return Closing.PLAIN
    return Closing.HELPER_KILLED if opener and _has_written(opener) else Closing.KILLED


def _killed_writer(pids: Iterable[int]) -> bool:
    """Whether one of these processes is being killed after it has written something."""
    return any((task := _task(pid)) is not None and task.waiting and task.signal and _has_written(pid) for pid in pids)


def _everybody() -> set[int]:
    """The processes that are exiting and wait for something."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return {pid for pid in pids if (task := _task(pid)) is not None and task.waiting}


def _task(pid: int) -> _Task | None:
    """The state of a thread; None when it is gone or out of sight."""
    text = _read(f"{pid}/stat")
    if not text:
        return None
    fields = text.rpartition(b")")[2].split()
    state, flags, threads = fields[0], int(fields[6]), int(fields[17])
    exiting = bool(flags & _PF_EXITING)
    # The first thread of a process is a zombie as soon as it has ended itself, while another still closes the files.
    waiting = exiting and (state in b"SD" or (state == b"Z" and threads > 1))
    return _Task(waiting, exiting, int(fields[-1]) & _SIGNAL_BITS)


def _is_closing(pid: int) -> bool:
    """Whether a thread that lives is waiting in a system call that closes something."""
    return _read(f"{pid}/syscall").partition(b" ")[0] in _CLOSING_CALLS


def _has_written(pid: int) -> bool:
    """Whether a process called write(2) at all, since it was started or forked; True where that cannot be seen."""
    counted = _read(f"{pid}/io").partition(b"syscw: ")[2].split(maxsplit=1)
    return not counted or counted[0] != b"0"


def _family(pid: int) -> Iterator[int]:
    """The other threads of a process, and what it started, as far as it still hangs together."""
    todo, seen = [pid], {pid}
    while todo and len(seen) < _FAMILY_AT_MOST:
        process = todo.pop()
        try:
            threads = list(map(int, os.listdir(f"/proc/{process}/task")))
        except OSError:
            continue
        children = [int(child) for thread in threads for child in _read(f"{process}/task/{thread}/children").split()]
        for member in (*threads, *children):
            if member not in seen:
                seen.add(member)
                yield member
        todo += children


def _read(path: str) -> bytes:
    """A file below /proc; nothing where it is gone or forbidden."""
    try:
        fd = os.open(f"/proc/{path}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 4096)
    except OSError:
        return b""
    finally:
        os.close(fd)
