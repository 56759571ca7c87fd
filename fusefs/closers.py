"""Who closes a file that is open for writing: a process that goes on or exits, or one that a signal killed.

FLUSH names nobody, because pyfuse3 does not pass its caller on. But whoever closes waits in it until we answer, a
dying process too: it is PF_EXITING and not a zombie yet, and its exit code holds the signal (proc(5), stat). So the
closer is looked for in /proc: first the thread that opened the file, which nearly always closes it, then its threads
and children, and where that does not settle it everybody. What a daemon may not see (another PID namespace, for one
that is not root another user's process) it takes for a plain close.

Most of /proc/PID waits for a process that is inside execve(2). That one may be waiting for us, to close what it does
not take along, or for another filesystem that never answers. So the event loop reads only what waits for nobody: statm,
task, children. Others do not look at such a process either; where one gets there between two looks, a thread waits for
as long as it likes, so these threads are kept from all others.
"""

import functools
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import NamedTuple

import trio

from fusefs.callers import threads
from fusefs.openers import LEAVING, Life, life_of
from fusefs.tasks import Opener

_PF_EXITING = 0x4
_SIGNAL_BITS = 0x7F
_FAMILY_AT_MOST = 1000
_LOOK_AT_MOST_S = 10.0
_SEARCH_AT_MOST_S = 2.0
_ASLEEP_WITHIN_S = 0.05
"""How long a closer may take from its request to where it waits for the answer, on a busy machine."""
_AGAIN_S = 0.001
"""Between two looks, in which it may get there: on one processor it does not while we look."""
_LOOKS = 8
"""How many threads look at who waits for nobody."""
_SEARCHES = 100
"""How many threads search, of which some may wait for ever."""
# close, dup2, dup3, close_range: where a thread that lives on can be waiting for its FLUSH.
_CLOSING_CALLS = {
    "x86_64": frozenset({b"3", b"33", b"292", b"436"}),
    "aarch64": frozenset({b"57", b"24", b"436"}),
}.get(platform.machine(), frozenset())
_RUNNING = b"running"


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
    closing: bool
    """Whether it exits and has not closed everything yet."""
    signal: int
    """What kills it; 0 for an exit of its own."""


class Closers:
    """Finds out who closes the files of one mount."""

    def __init__(self, request_timeout: float) -> None:
        """`request_timeout`: for how many seconds a FLUSH may wait; this takes a part of that."""
        self._looks = trio.CapacityLimiter(_LOOKS)
        self._searches = trio.CapacityLimiter(_SEARCHES)
        self._look_s = min(_LOOK_AT_MOST_S, request_timeout / 4)
        self._search_s = min(_SEARCH_AT_MOST_S, request_timeout / 4)

    async def closing(self, by: Opener, again: bool, elsewhere: Callable[[], set[int]]) -> Closing:
        """How the descriptor whose FLUSH is being served was closed. `by` has opened it.

        `again`: another of its descriptors was closed before. `elsewhere` gives the threads that opened other files:
        one of them that dies closes those.
        """
        opener = by.holder
        if not opener:
            return Closing.PLAIN
        life = _life(opener)
        if life in LEAVING and not by.process.has_ended and _life(by.process.number) is Life.ALIVE:
            opener, life = by.process.number, Life.ALIVE  # one of its threads ends, and another has the file
        if life is Life.IN_EXEC:
            return Closing.PLAIN
        if life is Life.ALIVE and not again and await self._all_go_on(opener):
            return Closing.PLAIN
        if life is Life.EXITING and len(threads(opener)) == 1 and (task := _task(opener)) is not None and task.closing:
            return Closing.KILLED if task.signal else Closing.PLAIN
        search = functools.partial(_search, opener, life, elsewhere())
        with trio.move_on_after(self._search_s):
            return await trio.to_thread.run_sync(search, abandon_on_cancel=True, limiter=self._searches)
        return Closing.PLAIN

    async def _all_go_on(self, opener: int) -> bool:
        """As the function; False where that takes too long.

        In a thread: the event loop has looked at what is soon done (see fusefs.openers), and this is a family of many.
        """
        with trio.move_on_after(self._look_s):
            return await trio.to_thread.run_sync(_all_go_on, opener, abandon_on_cancel=True, limiter=self._looks)
        return False


def _all_go_on(opener: int) -> bool:
    """Whether nobody exits in the process of the opener, or of what it started."""
    return all(_life(pid) is not Life.EXITING for pid in _family(opener))


def _search(opener: int, life: Life, elsewhere: set[int]) -> Closing:
    """Find out who closes. In a thread of its own: this may wait for processes that wait for us."""
    task = _task(opener) if life is Life.EXITING else None
    if task is not None and task.closing:
        return Closing.KILLED if task.signal else Closing.PLAIN
    alive = opener if life is Life.ALIVE else 0
    family = [alive, *_family(opener)] if alive else []
    leaving = _leaving(family)
    running = list[int]()
    if _one_closes(family, running, in_exec=not leaving):
        return Closing.PLAIN
    if not leaving:
        leaving = _leaving(pid for pid in _everybody() if pid not in elsewhere)
    found = _judge(alive, leaving)
    # To take the close of one who lives for that of another who dies would lose what it was told is put.
    if found is not Closing.PLAIN and _one_closes_soon(running):
        return Closing.PLAIN
    return found


def _one_closes(pids: Iterable[int], running: list[int], *, in_exec: bool = False) -> bool:
    """Whether a thread waits in a system call that closes something; adds those that run, up to where one does.

    `in_exec`: execve(2) counts, which may be closing.
    """
    for pid in pids:
        if _life(pid) is Life.IN_EXEC:
            if in_exec:
                return True
            continue
        call = _read(f"{pid}/syscall").partition(b" ")[0].strip()
        if call in _CLOSING_CALLS:
            return True
        if call == _RUNNING:
            running.append(pid)
    return False


def _one_closes_soon(running: list[int]) -> bool:
    """Whether one of these is on its way from its request to where it waits for us."""
    until = time.monotonic() + _ASLEEP_WITHIN_S
    while running and time.monotonic() < until:
        time.sleep(_AGAIN_S)
        still: list[int] = []
        if _one_closes(running, still):
            return True
        running = still
    return False


def _judge(opener: int, leaving: dict[int, int]) -> Closing:
    """What to make of the processes that are closing everything, one of which has this file."""
    if not any(signal and _has_written(pid) for pid, signal in leaving.items()):
        return Closing.PLAIN
    return Closing.HELPER_KILLED if opener and _has_written(opener) else Closing.KILLED


def _leaving(pids: Iterable[int]) -> dict[int, int]:
    """Those of some threads that exit and have not closed everything yet, and the signals that kill them."""
    exiting = (pid for pid in pids if _life(pid) is Life.EXITING)  # costs little for all others
    return {pid: task.signal for pid in exiting if (task := _task(pid)) is not None and task.closing}


def _life(pid: int) -> Life:
    return life_of(_read(f"{pid}/statm").split())


def _task(pid: int) -> _Task | None:
    """The state of a thread; None when it is gone or out of sight. Waits while the process is inside execve(2)."""
    text = _read(f"{pid}/stat")
    return task_in(text) if text else None


def task_in(stat: bytes) -> _Task:
    """What /proc/PID/stat tells. The process chose its name, in brackets, which may hold brackets, too."""
    fields = stat.rpartition(b")")[2].split()
    state, flags, threads = fields[0], int(fields[6]), int(fields[17])
    # The first thread of a process is a zombie as soon as it has ended itself, while another still closes the files.
    waits = state in b"SD" or (state == b"Z" and threads > 1)
    return _Task(bool(flags & _PF_EXITING) and waits, int(fields[-1]) & _SIGNAL_BITS)


def _has_written(pid: int) -> bool:
    """Whether a process called write(2) at all, since it was started or forked; True where that cannot be seen.

    It cannot be seen inside execve(2).
    """
    if _life(pid) is Life.IN_EXEC:
        return True
    counted = _read(f"{pid}/io").partition(b"syscw: ")[2].split(maxsplit=1)
    return not counted or counted[0] != b"0"


def _family(pid: int) -> Iterator[int]:
    """The other threads of a process, and what it started, as far as it still hangs together."""
    todo, seen = [pid], {pid}
    while todo and len(seen) < _FAMILY_AT_MOST:
        process = todo.pop()
        own = threads(process)
        children = [int(child) for thread in own for child in _read(f"{process}/task/{thread}/children").split()]
        for member in (*own, *children):
            if member not in seen:
                seen.add(member)
                yield member
        todo += children


def _everybody() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:  # no descriptor is left for it
        return []


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
