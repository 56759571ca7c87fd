"""Reading values: at once what needs no disk, else whole windows, fetched in a thread.

The kernel asks for 128 KiB at a time, several requests ahead. A hop to a thread costs as much as reading that
much, so one hop fetches 1 MiB, which is kept for the requests that follow. Contents never change, so a window is right
as long as it is kept.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from fusefs.background import Job

if TYPE_CHECKING:
    from fusefs.state import MountState

WINDOW_BYTES = 1024 * 1024
_WINDOWS = 32
_THREADS = 400
_EMBEDDED_THREADS = 40


class ReadAhead:
    """The windows of large values read last, of all open files together: 32 MiB at the most."""

    def __init__(self, state: "MountState") -> None:
        self._state = state
        self._contents = state.store.contents
        self._windows: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._coming: dict[tuple[int, int], Job[bytes]] = {}
        # The embedded engine reads in one thread at a time; of others, some values may come while many do not.
        self._threads = trio.CapacityLimiter(_EMBEDDED_THREADS if self._contents.shares_catalog else _THREADS)

    async def read(self, content: int, size: int, offset: int, length: int) -> bytes | bytearray | memoryview:
        """`length` bytes from `offset`, fewer at the end of the value's `size`. Raises StoreError."""
        end = min(size, offset + length)
        if offset >= end:
            return b""
        found = self._contents.read_now(content, offset, end - offset)
        if found is not None:
            return found
        first, last = offset // WINDOW_BYTES, (end - 1) // WINDOW_BYTES
        if first == last:
            window = await self._window(content, first)
            start = offset - first * WINDOW_BYTES
            return memoryview(window)[start : start + end - offset]
        pieces = []
        while offset < end:
            stop = min(end, (offset // WINDOW_BYTES + 1) * WINDOW_BYTES)
            pieces.append(await self.read(content, size, offset, stop - offset))
            offset = stop
        return b"".join(pieces)

    async def _window(self, content: int, position: int) -> bytes:
        key = content, position
        window = self._windows.get(key)
        if window is not None:
            self._windows.move_to_end(key)
            return window
        job = self._coming.get(key)
        if job is None:
            job = self._coming[key] = self._state.background.start(
                lambda: self._contents.read(content, position * WINDOW_BYTES, WINDOW_BYTES),
                self._threads,
                lambda job: self._arrived(key, job),
            )
        # As long as the first may who asked for it: the kernel itself asks again for what it did not get.
        await job.wait()
        return job.result()

    def _arrived(self, key: tuple[int, int], job: Job[bytes]) -> None:
        del self._coming[key]
        if job.error is None:
            self._windows[key] = job.result()
            if len(self._windows) > _WINDOWS:
                self._windows.popitem(last=False)
