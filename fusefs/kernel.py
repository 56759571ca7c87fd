"""What the kernel was allowed to cache, and making it forget.

An entry that stands for a published object may be cached for `LONG_S`; whatever takes the name away behind the kernel's
back has to come through here. Invalidating an entry takes the directory's lock, which a request being served may
hold: never wait for it on the event loop, and in a handler only where the kernel holds no directory lock (FLUSH).
"""

import errno
import logging
import math

import pyfuse3
import trio

from engine.model import Removed

LONG_S = 60.0
"""How long the kernel may keep entries and attributes without asking."""

_WAIT_AT_MOST_S = 5.0

log = logging.getLogger(__name__)


class KernelCache:
    """The kernel's references to inodes, and which of them it may hold under a name for long."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[tuple[int, bytes]](math.inf)
        self._lookups: dict[int, int] = {}
        self._cached: set[int] = set()

    def looked_up(self, ino: int, *, cached: bool) -> None:
        """The kernel was told of an inode; `cached`: under a name that it keeps."""
        self._lookups[ino] = self._lookups.get(ino, 0) + 1
        if cached:
            self._cached.add(ino)

    def forget(self, ino: int, count: int) -> bool:
        """The kernel dropped `count` references. Returns whether these were the last."""
        left = self._lookups.get(ino, 0) - count
        if left > 0:
            self._lookups[ino] = left
            return False
        self._lookups.pop(ino, None)
        self._cached.discard(ino)
        return True

    def knows(self, ino: int) -> bool:
        """Whether the kernel may still ask about this inode."""
        return ino in self._lookups

    def may_cache(self, ino: int) -> bool:
        """Whether the kernel may answer for this inode's name without asking."""
        return ino in self._cached

    def drop_soon(self, gone: Removed) -> None:
        """Have an entry forgotten as soon as its directory is free; for where waiting could deadlock."""
        if gone.ino in self._cached:
            self._cached.discard(gone.ino)
            self._send.send_nowait((gone.parent, gone.name))

    def drop_name_soon(self, parent: int, name: bytes) -> None:
        """The same for a name of which only another process knows what it stood for."""
        self._send.send_nowait((parent, name))

    async def run(self) -> None:
        """Carry out what is to be dropped soon, for as long as the mount is there."""
        async for parent, name in self._receive:
            await trio.to_thread.run_sync(_invalidate, parent, name, abandon_on_cancel=True)

    def drop_attributes(self, ino: int) -> None:
        """Have cached attributes forgotten. Takes no lock that a request could hold."""
        if ino in self._lookups:
            try:
                pyfuse3.invalidate_inode(ino, attr_only=True)
            except OSError as error:
                log.debug("attributes of inode %d were not cached: %s", ino, error)

    async def drop(self, parent: int, name: bytes, ino: int) -> None:
        """Have an entry forgotten before this returns, or at least asked for, if its directory is busy for long."""
        self._cached.discard(ino)
        with trio.move_on_after(_WAIT_AT_MOST_S):
            await trio.to_thread.run_sync(_invalidate, parent, name, abandon_on_cancel=True)


def _invalidate(parent: int, name: bytes) -> None:
    try:
        pyfuse3.invalidate_entry(parent, name)
    except FileNotFoundError:
        pass  # the kernel had dropped it by itself
    except OSError as error:
        # Gone with the mount, or with the directory: then there is nothing cached either.
        if error.errno not in (errno.ENOTCONN, errno.ENODEV, errno.EINVAL, errno.EBADF, errno.ENOTDIR):
            log.warning("the kernel would not forget an entry of inode %d: %s", parent, error)
