"""What the kernel was allowed to cache, and making it forget.

An entry that stands for a published object may be cached for `LONG_S`; whatever takes the name away behind the kernel's
back has to come through here. Invalidating an entry takes the directory's lock, which a request being served may
hold: never wait for it on the event loop, and in a handler only where the kernel holds no directory lock (FLUSH). Any
client may hold it for as long as it likes, who lists a directory into memory that is not there yet. So one thread at
most waits for a directory, and no other directory, nor anything else that threads do, waits for that one.
"""

import errno
import functools
import logging
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import pyfuse3
import trio

from engine.model import Removed
from fusefs.pulse import Pulse

LONG_S = 60.0
"""How long the kernel may keep entries and attributes without asking."""
DIRECTORY_S = 0.5
"""The same for the attributes of a directory: no news tell that another process changed what is in it."""

_WAIT_AT_MOST_S = 5.0
_LEAVING_AT_MOST_S = 1.0
"""How long who comes to a directory that is leaving waits for its name to be forgotten."""
_THREADS = 100
"""For how many directories are waited at once."""
_AT_ONCE = 64
"""How many names of a directory one thread has the kernel forget."""
_SENT_BACK_AT_MOST = 1000
_READ_AHEAD_KIB = 1024

log = logging.getLogger(__name__)


class _Name(NamedTuple):
    """An entry that is to be forgotten."""

    name: bytes
    dropped: trio.Event


class KernelCache:
    """The kernel's references to inodes, and which of them it may hold under a name for long."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._nursery: trio.Nursery | None = None
        self._threads = trio.CapacityLimiter(_THREADS)
        self._dropping: dict[int, deque[_Name]] = {}
        """What is to be forgotten, by directory: each has a task while there is something."""
        self._known: dict[int, int] = {}
        """The kernel's references to each inode, times two; and one when it may hold the inode under a name for long.

        One small number for both: the kernel may know millions of inodes.
        """
        self._current: set[int] = set()
        """The directories of which it may have the attributes as they are."""
        self._leaving: dict[int, trio.Event] = {}
        """Those that are gone, whose names it may still have: what tells when it has not any more."""
        self._sent_back: dict[int, int] = {}
        """The threads that were sent back from one of those. Who has a path does not come again: it is gone by then."""

    def looked_up(self, ino: int, *, cached: bool) -> None:
        """The kernel was told of an inode; `cached`: under a name that it keeps."""
        self.listed((ino,), cached=cached)

    def listed(self, inos: Iterable[int], *, cached: bool) -> None:
        """The same for many."""
        known, flag = self._known, 1 if cached else 0
        for ino in inos:
            known[ino] = known.get(ino, 0) + 2 | flag

    def forget(self, ino: int, count: int) -> bool:
        """The kernel dropped `count` references. Returns whether these were the last."""
        left = self._known.get(ino, 0) - 2 * count
        if left > 1:
            self._known[ino] = left
            return False
        self._known.pop(ino, None)
        self._current.discard(ino)
        self._leaving.pop(ino, None)
        return True

    def knows(self, ino: int) -> bool:
        """Whether the kernel may still ask about this inode."""
        return ino in self._known

    def may_cache(self, ino: int) -> bool:
        """Whether the kernel may answer for this inode's name without asking."""
        return bool(self._known.get(ino, 0) & 1)

    def _note_dropped(self, ino: int) -> None:
        if ino in self._known:
            self._known[ino] &= ~1

    def drop_soon(self, gone: Removed) -> None:
        """Have an entry forgotten as soon as its directory is free; for where waiting could deadlock."""
        if self.may_cache(gone.ino):
            self._note_dropped(gone.ino)
            self.drop_name_soon(gone.parent, gone.name)

    def drop_name_soon(self, parent: int, name: bytes) -> trio.Event:
        """The same for a name of which only another process knows what it stood for. Returns what tells when."""
        known = self._dropping.get(parent)
        names = self._dropping.setdefault(parent, deque())
        names.append(_Name(name, dropped := trio.Event()))
        if known is None and self._nursery is not None:
            self._nursery.start_soon(self._drop_all, parent, names)
        return dropped

    def drop_tree_soon(self, parent: int, name: bytes, ino: int) -> None:
        """The same for a pipeline or run that is gone with all that is in it.

        Nobody finds it by its path from now on: on every path that leads into a directory or to it, the kernel looks at
        its attributes, and it has to ask for these. Whom `leaves` then refuses (ESTALE) has the names looked up again.
        """
        if ino in self._known:
            self._current.discard(ino)
            self.drop_attributes(ino)
            # Also where its own name is not cached: with it go the entries below, for who works inside.
            self._leaving[ino] = self.drop_name_soon(parent, name)

    def leaves(self, ino: int) -> bool:
        """Whether the kernel may still lead to this directory by a path, although that is gone."""
        return ino in self._leaving and not self._leaving[ino].is_set()

    async def send_back(self, ino: int, thread: int) -> bool:
        """Whether a thread that was led to a directory that leaves is to come back by its path, if it has one: once.

        Until the directory has left, but not for long: the caller may hold the lock that this takes (rename).
        """
        if self._sent_back.get(thread) == ino:
            return False  # nor the next time: one stat(2) asks twice for what the kernel is not to keep
        if thread:  # else it is one that we cannot tell from others
            if len(self._sent_back) == _SENT_BACK_AT_MOST:
                self._sent_back.clear()
            self._sent_back[thread] = ino
        with trio.move_on_after(_LEAVING_AT_MOST_S):
            await self._leaving[ino].wait()
        return True

    async def run(self) -> None:
        """Carry out what is to be dropped soon, for as long as the mount is there."""
        async with trio.open_nursery() as nursery:
            for parent, names in self._dropping.items():
                nursery.start_soon(self._drop_all, parent, names)
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def _drop_all(self, parent: int, names: deque[_Name]) -> None:
        while names:
            some = [names.popleft() for _ in range(min(len(names), _AT_ONCE))]
            forget = functools.partial(_invalidate_all, parent, [name.name for name in some])
            try:
                await trio.to_thread.run_sync(forget, abandon_on_cancel=True, limiter=self._threads)
            except Exception:
                log.exception("the kernel was not told to forget entries of inode %d", parent)
            for name in some:
                name.dropped.set()
        del self._dropping[parent]

    def drop_attributes(self, ino: int) -> None:
        """Have cached attributes forgotten. Takes no lock that a request could hold."""
        if ino in self._known:
            try:
                pyfuse3.invalidate_inode(ino, attr_only=True)
            except OSError as error:
                log.debug("attributes of inode %d were not cached: %s", ino, error)

    def told_of_directory(self, ino: int) -> None:
        """The kernel was told the attributes of a directory."""
        self._current.add(ino)

    def created_in(self, directory: int) -> None:
        """The kernel drops the attributes by itself, with the answer to a CREATE."""
        self._current.discard(directory)

    def drop_directory(self, ino: int) -> None:
        """What is in a directory changes without a request for that: as `drop_attributes`, if it may have them."""
        if ino in self._current:
            self._current.discard(ino)
            self.drop_attributes(ino)

    def ask_to_drop(self, *entries: tuple[int, bytes, int]) -> list[trio.Event]:
        """Have entries forgotten soon; each is told by its directory, its name and what that stands for.

        Returns what `wait_for` waits for.
        """
        for _, _, ino in entries:
            self._note_dropped(ino)
        return [self.drop_name_soon(parent, name) for parent, name, _ in entries]

    async def wait_for(self, asked: list[trio.Event]) -> None:
        """Return once entries are forgotten, or at least asked for, if their directory is busy for long.

        Takes those out of the list: nobody else waits as long for the same. Raises TimedOutError.
        """
        if not asked:
            return
        waited = {*asked}
        try:
            with self._pulse.bounded(), trio.move_on_after(_WAIT_AT_MOST_S):
                for dropped in waited:
                    await dropped.wait()
        finally:
            asked[:] = [dropped for dropped in asked if dropped not in waited]


def read_further_ahead(connection: int) -> None:
    """Have the kernel ask for more of a large value at once, where we may: it begins with 128 KiB (sysfs, class/bdi).

    `connection` is the minor number of the mount's device.
    """
    try:
        with open(f"/sys/class/bdi/0:{connection}/read_ahead_kb", "w") as setting:
            setting.write(str(_READ_AHEAD_KIB))
    except OSError as error:
        log.debug("reading ahead is left as it is: %s", error)


def _invalidate_all(parent: int, names: Iterable[bytes]) -> None:
    for name in names:
        _invalidate(parent, name)


def _invalidate(parent: int, name: bytes) -> None:
    try:
        pyfuse3.invalidate_entry(parent, name)
    except FileNotFoundError:
        pass  # the kernel had dropped it by itself
    except OSError as error:
        # Gone with the mount, or with the directory: then there is nothing cached either.
        if error.errno not in (errno.ENOTCONN, errno.ENODEV, errno.EINVAL, errno.EBADF, errno.ENOTDIR):
            log.warning("the kernel would not forget an entry of inode %d: %s", parent, error)
