"""Who opens files: threads, which may end long before those are closed, and whose numbers others are given then."""

import math
import os
import time
from typing import NamedTuple

from fusefs.callers import identity_of, process_of, started_at

TAKEN_FOR_KNOWN_S = 1.0
"""For how long a number is taken for that of the same thread, once it was, where the kernel does not tell them apart:
to ask when it was started costs as much as a request."""
_KNOWN_AT_MOST = 1000


class Task(NamedTuple):
    """A thread, or the first one of a process."""

    number: int
    identity: int
    """See `fusefs.callers.identity_of`; 0 where that is not known."""

    def began(self) -> float:
        """When who has this number now was started, in seconds since the machine was; 0 where that is out of sight.

        Infinity where it is somebody else for certain, or nobody. Waits as `started_at` does.
        """
        if not self.number:
            return 0.0
        try:
            os.kill(self.number, 0)
        except ProcessLookupError:
            return math.inf
        except OSError:
            pass  # somebody else's
        if self.identity and identity_of(self.number) not in (0, self.identity):
            return math.inf
        return started_at(self.number)

    @property
    def has_ended(self) -> bool:
        """Whether nobody has this number any more, or another one; not where that is out of sight. Waits for nobody."""
        if self.identity:
            return identity_of(self.number) != self.identity
        return bool(self.number) and not os.path.exists(f"/proc/{self.number}")


class Opener(NamedTuple):
    """A thread that opened a file."""

    thread: Task
    process: Task
    at: float
    """When, in seconds since the machine was started: whoever was started later is another."""

    @property
    def holder(self) -> int:
        """The number of the thread; where that has ended, of its process, another thread of which has the file."""
        if self.thread == self.process or not self.thread.has_ended or self.process.has_ended:
            return self.thread.number
        return self.process.number


class Known(NamedTuple):
    """A thread whose process is known."""

    thread: Task
    process: Task
    until: float

    def is_now(self, identity: int, now: float) -> bool:
        """Whether the thread with its number is still this one."""
        return self.thread.identity == identity and now <= self.until


class Processes:
    """The processes of the threads that opened files lately."""

    def __init__(self) -> None:
        self._known: dict[int, Known] = {}

    def opener(self, number: int) -> Opener:
        """The thread of this number, which opens a file now."""
        thread, now = Task(number, identity_of(number)), since_boot()
        known = self._known.get(number)
        if known is None or not known.is_now(thread.identity, now):
            if len(self._known) >= _KNOWN_AT_MOST:
                self._known.clear()
            process = process_of(number)
            until = math.inf if thread.identity else now + TAKEN_FOR_KNOWN_S
            first = thread if process == number else Task(process, identity_of(process))
            known = self._known[number] = Known(thread, first, until)
        return Opener(thread, known.process, now)


def since_boot() -> float:
    """Seconds since the machine was started, as /proc counts them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
