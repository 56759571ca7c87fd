"""How long a request may wait, counted in the time for which the event loop has been running.

Not by a clock: a process that was stopped (SIGSTOP, a suspended machine) has lost no time when it goes on, and neither
have those who wait for it. So a task adds up the time between its turns, of which a long one counts as a short one.
The same turns are the sign of life that the watchdog looks for (fusefs.watchdog).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from engine.errors import TimedOutError

_BEATS = 20
"""How often the time goes on while a request waits."""


class Pulse:
    """The bound on what the requests of one mount wait for. Belongs to the event loop."""

    def __init__(self, seconds: float, alive: Callable[[], None]) -> None:
        """`seconds`: how long a request may wait. `alive` is told of every turn."""
        self.seconds = seconds
        self._alive = alive
        self.now = 0.0
        """For how many seconds the mount has been running."""
        self._waits: dict[trio.CancelScope, float] = {}
        """What is waited for, and until when."""
        self._until: dict[trio.lowlevel.Task, float] = {}
        """When the requests that wait are to be answered, by the task that serves each."""

    async def run(self) -> None:
        """Let the time go on, for as long as the mount is there."""
        interval = self.seconds / _BEATS
        last = time.monotonic()
        while True:
            self._alive()
            await trio.sleep(interval)
            now = time.monotonic()
            self.now += min(now - last, 2 * interval)
            last = now
            for scope in [scope for scope, until in self._waits.items() if until <= self.now]:
                scope.cancel()

    @contextmanager
    def bounded(self, since: float | None = None) -> Iterator[None]:
        """Wait in the block no longer than the request that this task serves may. Raises TimedOutError.

        `since`: when somebody else began to wait for the same; nobody is to wait for it longer than that one may.
        What is waited for has to bear to be left alone: a thread goes on.
        """
        until = self._until.get(trio.lowlevel.current_task(), self.now + self.seconds)
        if since is not None:
            until = min(until, since + self.seconds)
        scope = trio.CancelScope()
        if until <= self.now:
            scope.cancel()
        self._waits[scope] = until
        try:
            with scope:
                yield
        finally:
            del self._waits[scope]
        if scope.cancelled_caught:
            raise TimedOutError(f"it took longer than {self.seconds:g} seconds")

    def begin_waiting(self) -> None:
        """The request that this task serves waits for the first time: all of its waits have one end."""
        self._until[trio.lowlevel.current_task()] = self.now + self.seconds

    def end_waiting(self) -> None:
        """It is about to be answered."""
        del self._until[trio.lowlevel.current_task()]
