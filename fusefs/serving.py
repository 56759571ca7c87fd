"""How requests are waited for: in the shortest way there is, and through trio's scheduler only when we have to.

pyfuse3 gives every request several turns of the scheduler: a lock, the wait for its file, and another task to wait in
its place. That costs more than most requests do. It finds all three in its global name `trio`, as its asyncio mode
shows, so that is where ours are put:

- As long as there is another request to serve, it is served at once; the rest of the mount has its turn after
  `_TURN_NS`, and whenever there is nothing to serve.
- The next request often follows within microseconds of an answer, so it is looked for a little before the scheduler is
  made to wait for it.
- Another task waits for requests only once a handler has to wait for something itself (`Serving.go_on`), and one of
  the two goes when that is done.

docs/performance.md has the figures.
"""

import functools
import os
import select
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from time import perf_counter_ns
from types import TracebackType
from typing import Any, Protocol, TypeVar

import pyfuse3
import trio

from fusefs.pulse import Pulse

_TURN_NS = 1_000_000
"""For how long requests are served before timers, and what comes back from threads, have a turn."""
_TURNS_NS = 4_000_000
"""For how long requests are served before what they did is settled."""
_LOOK_NS = 50_000
"""For how long a request that may follow at once is looked for."""
_SETTLE_MS = 1
"""For how long a request is waited for that can share what is about to be settled."""

Result = TypeVar("Result")


class Turns(Protocol):
    """What is told when requests are served, one after the other, and when they are not any more."""

    def begin_turn(self) -> None:
        """Requests are served from here on."""

    def settle(self) -> None:
        """Something else may run next."""

    @property
    def unsettled(self) -> bool:
        """Whether `settle` has work that more requests could share."""


class Serving:
    """The tasks that serve the requests of this process's mount."""

    def __init__(self, turns: Turns, pulse: Pulse) -> None:
        self._turns = turns
        self._pulse = pulse
        self._poll = select.poll()
        self._polled: int | None = None
        self._turn_ends = self._settled_by = 0
        self._spares: list[Callable[[], None]] = []
        """Starts a further task that waits for requests. pyfuse3 asks for one whenever nobody else waits."""

    async def serve(self, most_at_once: int) -> None:
        """Serve requests until the mount ends, at most so many at once."""
        pyfuse3.trio = _Trio(self)  # type: ignore[attr-defined]
        try:
            # No task waits beside another: whoever comes back from a handler that had to wait, and finds one, ends.
            await pyfuse3.main(min_tasks=0, max_tasks=most_at_once)
        finally:
            pyfuse3.trio = trio  # type: ignore[attr-defined]

    def go_on(self, handler: Coroutine[Any, Any, Result], trap: Any) -> Generator[Any, Any, Result]:
        """Run the rest of a handler that has to wait for the first time: others are served meanwhile."""
        if self._spares:
            self._spares.pop()()
        self._pulse.begin_waiting()
        try:
            while True:
                try:
                    sent = yield trap
                except BaseException as error:
                    trap = handler.throw(error)
                else:
                    trap = handler.send(sent)
        except StopIteration as done:
            result: Result = done.value
            return result
        finally:
            self._pulse.end_waiting()

    async def give_turn(self) -> None:
        """Let the rest of the mount run, if it has not for a while."""
        now = perf_counter_ns()
        if now > self._turn_ends:
            if now > self._settled_by:
                self._turns.settle()
                self._settled_by = now + _TURNS_NS
            await trio.lowlevel.checkpoint()
            self._turn_ends = perf_counter_ns() + _TURN_NS

    async def wait_readable(self, fd: int) -> None:
        """Return once there is a request. Raises trio.ClosedResourceError when the mount is to end."""
        if self._polled != fd:
            self._poll.register(fd, select.POLLIN)
            self._polled = fd
        if not self._follows(self._poll.poll):
            self._turns.settle()
            await trio.lowlevel.wait_readable(fd)
            now = perf_counter_ns()
            self._turn_ends, self._settled_by = now + _TURN_NS, now + _TURNS_NS
        self._turns.begin_turn()

    def _follows(self, poll: Callable[[int], object]) -> bool:
        """Whether there is a request, now or in a moment."""
        if poll(0):
            return True
        until = perf_counter_ns() + _LOOK_NS
        while perf_counter_ns() < until:
            os.sched_yield()  # whoever is about to send it may need this processor
            if poll(0):
                return True
        return self._turns.unsettled and bool(poll(_SETTLE_MS))

    def keep_spare(self, start: Callable[[], None]) -> None:
        """Have another task at hand, to be started when the one that serves has to wait."""
        self._spares.append(start)

    def drop_spares(self) -> None:
        self._spares.clear()


class _Lock:
    """pyfuse3's lock around the wait for a request. Only one task waits, so it has nothing to lock."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def __aenter__(self) -> None:
        # Here and not after the wait: pyfuse3 looks next whether the mount is to end, and may not miss that.
        await self._serving.give_turn()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


class _Nursery:
    """A nursery that starts the first task, and keeps the others for when they are needed."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery
        self._started = False

    async def __aenter__(self) -> "_Nursery":
        self._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return await self._manager.__aexit__(kind, error, traceback)
        finally:
            self._serving.drop_spares()

    def start_soon(self, function: Callable[..., Awaitable[object]], *arguments: object, name: str) -> None:
        start = functools.partial(self._nursery.start_soon, _until_unmounted, function, *arguments, name=name)
        if self._started:
            self._serving.keep_spare(start)
        else:
            self._started = True
            start()


async def _until_unmounted(serve: Callable[..., Awaitable[object]], *arguments: object) -> None:
    """Serve requests to the end of the mount, which the kernel tells as ENODEV (pyfuse3 sees to that), or as
    ECONNABORTED where it comes between taking a request from the queue and handing it over (fuse_dev_do_read).
    """
    with suppress(ConnectionAbortedError):
        await serve(*arguments)


class _Lowlevel:
    """trio.lowlevel as pyfuse3 is to see it."""

    def __init__(self, serving: Serving) -> None:
        self.wait_readable = serving.wait_readable

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)


class _Trio:
    """trio as pyfuse3 is to see it."""

    def __init__(self, serving: Serving) -> None:
        self.lowlevel = _Lowlevel(serving)
        self.Lock = functools.partial(_Lock, serving)
        self.open_nursery = functools.partial(_Nursery, serving)

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)
