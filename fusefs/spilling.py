"""Drafts behind the event loop: large values leave memory in a thread while the writer goes on writing.

A small draft never waits, so a Put of one is served without yielding; only a large one takes the lock.
"""

import logging

import trio

from engine.contents import Contents
from engine.drafts import Draft
from engine.errors import InternalError, StoreError

log = logging.getLogger(__name__)

SPILL_BYTES = 4 * 1024 * 1024
"""How much of a large value is gathered before it is stored; twice that is held at most."""


class SpillingDraft:
    """A draft that stores what it gathers in the background."""

    def __init__(self, contents: Contents, nursery: trio.Nursery, base: int = 0, base_size: int = 0) -> None:
        self.draft = Draft(contents, base, base_size)
        self._contents = contents
        self._nursery = nursery
        self._lock: trio.Lock | None = None
        """Held by whoever changes or stores a large draft."""
        self._stored: trio.Event | None = None
        """Set when what is being stored in the background is stored; None when nothing is."""
        self._failure: StoreError | None = None

    @property
    def size(self) -> int:
        return self.draft.size

    def read(self, offset: int, length: int) -> bytes:
        return self.draft.read(offset, length)

    async def write(self, offset: int, data: bytes) -> None:
        """Write into the draft, waiting only while the disk is behind. Raises StoreError, also of an earlier piece."""
        if self.draft.large is None:
            self.draft.write(offset, data)
            return
        lock = self._exclusive()
        try:
            lock.acquire_nowait()  # without a turn of the scheduler, as nearly always
        except trio.WouldBlock:
            await lock.acquire()
        try:
            self._raise_failure()
            self.draft.write(offset, data)
            if self.draft.large.unstored_bytes >= SPILL_BYTES:
                await self._wait()
                batch = self.draft.large.take(whole=True)
                self._stored = trio.Event()
                self._nursery.start_soon(self._store, batch, self._stored)
        finally:
            lock.release()

    async def append(self, data: bytes) -> None:
        await self.write(self.draft.size, data)

    async def truncate(self, size: int) -> None:
        """Cut or lengthen the draft. Raises StoreError."""
        if self.draft.large is None:
            self.draft.truncate(size)
            return
        async with self._exclusive():
            await self._wait()
            self._raise_failure()
            self.draft.truncate(size)

    async def settle(self) -> None:
        """Have everything stored but what travels in the catalog's own transaction. Raises StoreError."""
        if self.draft.large is None and self._contents.shares_catalog:
            return
        async with self._exclusive():
            await self._wait()
            self._raise_failure()
            await trio.to_thread.run_sync(self._contents.settle, self.draft)

    async def idle(self) -> None:
        """Return once nothing is stored in the background any more."""
        if self._stored is not None:
            await self._stored.wait()

    def _exclusive(self) -> trio.Lock:
        if self._lock is None:
            self._lock = trio.Lock()
        return self._lock

    async def _wait(self) -> None:
        if self._stored is not None:
            await self._stored.wait()
            self._stored = None

    async def _store(self, batch: object, stored: trio.Event) -> None:
        large = self.draft.large
        assert large is not None
        try:
            await trio.to_thread.run_sync(large.store, batch)
        except StoreError as error:
            self._failure = error
        except Exception as error:
            # In the background there is no handler that would turn it into EIO; the writer's next request is one.
            log.exception("a piece of a large value could not be stored")
            self._failure = InternalError(f"a piece of the value could not be stored: {error}")
        finally:
            stored.set()

    def _raise_failure(self) -> None:
        # The writer hears of it at its next call; the value has a hole now, so it never becomes good again.
        if self._failure is not None:
            raise self._failure
