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
_THREADS = threading.BoundedSemaphore(8)
"""Those that may be looking: who cannot end waits for a process that goes on as soon as the event loop does."""


def in_time(look: Callable[[], Seen], otherwise: Seen) -> Seen:
    """What a thread finds out within a moment; `otherwise` where it does not."""
    answer: SimpleQueue[Seen] = SimpleQueue()

    def answer_and_end() -> None:
        try:
            answer.put(look())
        finally:
            _THREADS.release()

    if not _THREADS.acquire(blocking=False):
        return otherwise
    try:
        threading.Thread(target=answer_and_end, daemon=True).start()
    except RuntimeError:  # there can be no more threads
        _THREADS.release()
        return otherwise
    try:
        return answer.get(timeout=_WAITED_FOR_S)
    except Empty:
        return otherwise
