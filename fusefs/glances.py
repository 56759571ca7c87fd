"""What a thread finds out for the event loop, which waits for a moment only.

Much of /proc/PID waits for a process inside execve(2), which may be closing a file of ours there, and so wait for us.
"""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

Seen = TypeVar("Seen")

_WAITED_FOR_S = 0.2
"""For how long the event loop waits: on a machine where much else runs it may take longer."""
_THREADS = threading.BoundedSemaphore(64)
"""Those that may be looking. Most that cannot end wait for a process that goes on as soon as the event loop does; but
one may also wait in its execve(2) for a filesystem of its own, for ever."""
_looked_at: set[int] = set()
"""Whom a thread looks at that nobody waits for any more: one for each is enough."""


def in_time(pid: int, look: Callable[[], Seen], otherwise: Seen) -> Seen:
    """What a thread finds out about another one within a moment; `otherwise` where it does not."""
    if pid in _looked_at:
        return otherwise
    answer: SimpleQueue[Seen] = SimpleQueue()

    def answer_and_end() -> None:
        try:
            seen = look()
        finally:  # before it is told: the next look may be asked for at once
            _looked_at.discard(pid)
            _THREADS.release()
        answer.put(seen)

    if not _THREADS.acquire(blocking=False):
        return otherwise
    _looked_at.add(pid)
    try:
        threading.Thread(target=answer_and_end, daemon=True).start()
    except RuntimeError:  # there can be no more threads
        _looked_at.discard(pid)
        _THREADS.release()
        return otherwise
    try:
        return answer.get(timeout=_WAITED_FOR_S)
    except Empty:
        return otherwise
