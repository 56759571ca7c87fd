"""Reading large values: at once what needs no disk, else whole windows, fetched in a thread.

The kernel asks for 128 KiB at a time, several requests ahead. A hop to a thread costs as much as reading that
much, so one hop fetches 1 MiB, which is kept for the requests that follow. Contents never change, so a window is right
as long as it is kept.
"""

from collections import OrderedDict

import trio

from engine.contents import Contents

WINDOW_BYTES = 1024 * 1024
_WINDOWS = 32


class ReadAhead:
    """The windows of large values read last, of all open files together: 32 MiB at the most."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._windows: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._coming: dict[tuple[int, int], trio.Event] = {}

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
        while (window := self._windows.get(key)) is None:
            coming = self._coming.get(key)
            if coming is not None:
                # Somebody else fetches it; when that fails, this one tries, and hears the reason itself.
                await coming.wait()
                continue
            self._coming[key] = trio.Event()
            try:
                window = await trio.to_thread.run_sync(
                    self._contents.read, content, position * WINDOW_BYTES, WINDOW_BYTES
                )
                self._windows[key] = window
                if len(self._windows) > _WINDOWS:
                    self._windows.popitem(last=False)
            finally:
                self._coming.pop(key).set()
        self._windows.move_to_end(key)
        return window
