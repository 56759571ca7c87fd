"""Drafts behind the event loop: large values leave memory in a thread while the writer goes on writing.

A small draft never waits, so a Put of one is served without yielding; only a large one takes the lock. A thread is not
waited for longer than a request may take. It goes on then, and has the draft until it is done: whoever gives the draft
up waits for that (`idle`).
"""

from collections.abc import Callable

import trio

from engine.contents import Contents
from engine.drafts import Draft
from engine.errors import StoreError, TimedOutError
from fusefs.background import Background, Job

SPILL_BYTES = 4 * 1024 * 1024
"""How much of a large value is gathered before it is stored; twice that is held at most."""


class SpillingDraft:
    """A draft that stores what it gathers in the background."""

    def __init__(self, contents: Contents, background: Background, base: int = 0, base_size: int = 0) -> None:
        self.draft = Draft(contents, base, base_size)
        self._contents = contents
        self._background = background
        self._lock: trio.Lock | None = None
        """Held by whoever changes or stores a large draft."""
        self._job: Job[None] | None = None
        """What a thread is doing with the draft."""
        self._alone = False
        """Whether nobody may write to the draft meanwhile."""
        self._failure: StoreError | None = None

    @property
    def size(self) -> int:
        return self.draft.size

    @property
    def busy(self) -> bool:
        """Whether a thread has the draft."""
        return self._job is not None

    @property
    def settles_at_once(self) -> bool:
        """Whether `settle` waits for nothing."""
        return self._job is None and self.draft.large is None and self._contents.shares_catalog

    def read(self, offset: int, length: int) -> bytes:
        return self.draft.read(offset, length)

    async def write(self, offset: int, data: bytes) -> None:
        """Write into the draft, waiting only while the disk is behind. Raises StoreError, also of an earlier piece."""
        if self.draft.large is None and self._job is None:
            self.draft.write(offset, data)
            return
        lock = await self._acquire()
        try:
            if self._alone:
                await self._wait()
            self._raise_failure()
            self.draft.write(offset, data)
            large = self.draft.large
            if large is not None and large.unstored_bytes >= SPILL_BYTES:
                await self._wait()
                self._raise_failure()
                batch = large.take(whole=True)
                self._begin(lambda: large.store(batch), alone=False)
        finally:
            lock.release()

    async def append(self, data: bytes) -> None:
        await self.write(self.draft.size, data)

    async def truncate(self, size: int) -> None:
        """Cut or lengthen the draft. Raises StoreError."""
        if self.draft.large is None and self._job is None:
            self.draft.truncate(size)
            return
        lock = await self._acquire()
        try:
            await self._wait()
            self._raise_failure()
            self.draft.truncate(size)
        finally:
            lock.release()

    async def settle(self, *, patiently: bool = False) -> None:
        """Have everything stored but what travels in the catalog's own transaction. Raises StoreError.

        `patiently`: however long it takes, where no request waits for it.
        """
        if self.settles_at_once:
            return
        lock = await self._acquire()
        try:
            await self._wait(patiently=patiently)
            self._raise_failure()
            job = self._begin(lambda: self._contents.settle(self.draft), alone=True)
            await self._wait(patiently=patiently)
            if job.error is not None:
                raise job.error
        finally:
            lock.release()

    async def idle(self) -> None:
        """Return once no thread has the draft any more, however long that takes."""
        while self._job is not None:
            await self._job.wait_patiently()

    async def _acquire(self) -> trio.Lock:
        if self._lock is None:
            self._lock = trio.Lock()
        try:
            self._lock.acquire_nowait()  # without a turn of the scheduler, as nearly always
        except trio.WouldBlock:
            with self._background.pulse.bounded():
                await self._lock.acquire()
        return self._lock

    async def _wait(self, *, patiently: bool = False) -> None:
        """Wait for the thread that has the draft. Raises TimedOutError; what becomes of the draft is open then."""
        if self._job is None:
            return
        if patiently:
            await self.idle()
            return
        try:
            await self._job.wait()
        except TimedOutError as error:
            self._failure = self._failure or error
            raise

    def _begin(self, work: Callable[[], None], *, alone: bool) -> Job[None]:
        self._alone = alone
        self._job = self._background.start(work, self._background.drafts, self._end)
        return self._job

    def _end(self, job: Job[None]) -> None:
        if not self._alone and job.error is not None:
            self._failure = job.error
        self._job, self._alone = None, False

    def _raise_failure(self) -> None:
        # The writer hears of it at its next call; the value has a hole now, so it never becomes good again.
        if self._failure is not None:
            raise self._failure
