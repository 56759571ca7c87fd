"""What threads do for the requests of one mount: waited for as long as a request may take, and going on after that.

No thread can be stopped that waits for a disk or a content engine. So a request waits for a job, and gives that up when
its time is over; the job has whatever it works on until it is done.
"""

import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

import trio

from engine.errors import InternalError, StoreError
from fusefs.pulse import Pulse

_THREADS = 100
"""How many threads store drafts, and how many sync the store, at once: no more wait for a disk that does not answer."""

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Job(Generic[Result]):
    """Something that a thread does."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self.since = pulse.now
        self._done = trio.Event()
        self.error: StoreError | None = None
        self._result: list[Result] = []

    def end(self, result: Result | None = None, error: StoreError | None = None) -> None:
        if result is not None:
            self._result.append(result)
        self.error = error
        self._done.set()

    @property
    def ended(self) -> bool:
        return self._done.is_set()

    async def wait(self, since: float | None = None) -> None:
        """Wait for its end, as long as the first who waits may. Raises TimedOutError.

        `since`: when the first began, if that was not with this job.
        """
        with self._pulse.bounded(self.since if since is None else since):
            await self._done.wait()

    async def wait_patiently(self) -> None:
        """Wait for its end, however long that takes: not in a request."""
        await self._done.wait()

    def result(self) -> Result:
        """What came of it, when it has ended. Raises StoreError."""
        if self.error is not None:
            raise self.error
        return self._result[0]


class Background:
    """The jobs of one mount."""

    def __init__(self, nursery: trio.Nursery, pulse: Pulse) -> None:
        self.nursery = nursery
        self.pulse = pulse
        self.drafts = trio.CapacityLimiter(_THREADS)
        self._syncs = trio.CapacityLimiter(_THREADS)
        self.upkeep = trio.CapacityLimiter(1)
        self._syncing: dict[Job[None], None] = {}
        """The syncs that are under way, the oldest first."""

    def start(
        self,
        work: Callable[[], Result],
        threads: trio.CapacityLimiter,
        then: Callable[[Job[Result]], None] = lambda job: None,
    ) -> Job[Result]:
        """Have a thread do some work, and the event loop `then`."""
        job: Job[Result] = Job(self.pulse)
        self.nursery.start_soon(self._do, job, work, threads, then)
        return job

    async def _do(
        self,
        job: Job[Result],
        work: Callable[[], Result],
        threads: trio.CapacityLimiter,
        then: Callable[[Job[Result]], None],
    ) -> None:
        result, failure = None, None
        try:
            result = await trio.to_thread.run_sync(work, limiter=threads)
        except StoreError as error:
            failure = error
        except Exception as error:
            # In the background there is no handler that would turn it into EIO; that of who waits is one.
            log.exception("what a thread did for a request failed")
            failure = InternalError(f"what a thread did failed: {error}")
        job.end(result, failure)
        then(job)

    def now_or_later(self, step: Coroutine[Any, Any, None], *, now: bool) -> None:
        """Do something that waits for nothing, `now`, or else behind the request that asks for it."""
        if now:
            with suppress(StopIteration):
                step.send(None)
                raise AssertionError("it had to wait")
        else:
            self.nursery.start_soon(self._later, step)

    async def _later(self, step: Coroutine[Any, Any, None]) -> None:
        try:
            await step
        except Exception:
            log.exception("a value that was closed could not be seen to")

    async def sync(self, work: Callable[[], None]) -> None:
        """Sync the store. Raises StoreError.

        Behind a sync that is not answered nobody waits longer than its own request: the kernel keeps a directory locked
        while it is synced, and all who wait there would wait for one after the other.
        """
        job = self.start(work, self._syncs, self._syncing.__delitem__)
        self._syncing[job] = None
        await job.wait(next(iter(self._syncing)).since)
        if job.error is not None:
            raise job.error
