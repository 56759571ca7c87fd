"""Open files: READ, WRITE, FLUSH, FSYNC, RELEASE, and changes of their sizes."""

import os

from engine.catalog.puts import How
from engine.drafts import SMALL_BYTES
from engine.errors import InternalError, StoreError, TimedOutError, TooLargeError
from fusefs.callers import Caller
from fusefs.closers import Closers, Closing
from fusefs.copies import PrivateCopy
from fusefs.durability import sync
from fusefs.handles import Handle, KeptHandle, PeekHandle, ReadHandle, WriteHandle
from fusefs.openers import Openers
from fusefs.opening import Opening
from fusefs.publication import Publication
from fusefs.reading import ReadAhead
from fusefs.releasing import Releasing
from fusefs.state import MountState, StaleError
from fusefs.writers import Writers


class Files:
    """The open files of one mount."""

    def __init__(self, state: MountState, opening: Opening, publication: Publication) -> None:
        self._state = state
        self._publication = publication
        self._releasing = Releasing(state, publication)
        self._opening = opening
        self._readahead = ReadAhead(state)
        self._openers = Openers()
        self._closers = Closers(state.pulse.seconds)
        self._reads_at_once = not state.store.contents.waits

    async def open(self, ino: int, flags: int, caller: Caller) -> int:
        """Open an inode. Raises StaleError when the name is to be looked up again, and StoreError."""
        number = self._opening.open(ino, flags, caller)
        handle = self._state.handles[number]
        if flags & os.O_TRUNC and isinstance(handle, WriteHandle) and handle.writers.size_of(handle.copy):
            try:
                await self._truncate(handle, 0)
            except BaseException:
                await self.release(number)  # the kernel hears of no handle
                raise
        return number

    async def read(self, number: int, offset: int, length: int) -> bytes | bytearray | memoryview:
        """Up to `length` bytes; fewer only at the end. Raises StoreError."""
        handle = self._state.handles[number]
        if isinstance(handle, ReadHandle):
            node = handle.node
            if node.size <= SMALL_BYTES and self._reads_at_once:
                return self._state.store.contents.read(node.content, offset, length)
            return await self._readahead.read(node.content, node.size, offset, length)
        return self._read_private(handle, offset, length)

    def _read_private(self, handle: Handle, offset: int, length: int) -> bytes:
        assert isinstance(handle, (WriteHandle, PeekHandle))
        writers = handle.writers
        copy = handle.copy
        if copy.how is not How.APPEND:
            return copy.spool.read(offset, length)
        base = writers.before(copy)
        content, size = (0, 0) if base is None else (base.content, base.size)
        before = self._state.store.contents.read(content, offset, min(length, max(0, size - offset)))
        return before + copy.spool.read(max(0, offset - size), length - len(before))

    async def write(self, number: int, offset: int, data: bytes) -> int:
        """Write into the private copy. Raises StoreError, TooLargeError for more than max_object_size."""
        handle = self._state.handles[number]
        assert isinstance(handle, WriteHandle)
        try:
            await self._write(handle, offset, data)
        except Exception as error:
            failure = error if isinstance(error, StoreError) else InternalError(f"a write failed: {error!r}")
            self._publication.spoil(handle.writers, handle.copy, failure)
            raise
        return len(data)

    async def _write(self, handle: WriteHandle, offset: int, data: bytes) -> None:
        if handle.copy.how is How.APPEND and not handle.appends:
            await self._turn_into_edit(handle, handle.writers.size_of(handle.copy))
        writers, copy = handle.writers, handle.copy
        handle.note_change()
        self._opening.note_change(writers, copy, handle.opener)
        self._begin_change(writers, copy, len(data) + (copy.spool.size if handle.appends else offset))
        if handle.appends:
            await copy.spool.append(data)
        else:
            await copy.spool.write(offset, data)

    def _begin_change(self, writers: Writers, copy: PrivateCopy, end: int) -> None:
        """Before a copy is changed up to the position `end`.

        Raises TooLargeError, QuotaError and StoreFullError, and why an earlier change failed.
        """
        if copy.failure is not None:
            raise copy.failure
        self._check_size(writers, copy, end + (self._before(writers, copy) if copy.how is How.APPEND else 0))
        if copy.prepared or copy.has_intent or not copy.changed:
            self._publication.before_change(writers, copy)
        if copy.how is How.IF_ABSENT:
            copy.how = How.REPLACE
        writers.last = copy

    def _before(self, writers: Writers, copy: PrivateCopy) -> int:
        """The size of what an append is shown behind, or of what an edit replaces."""
        base = writers.before(copy)
        return 0 if base is None else base.size

    def _check_size(self, writers: Writers, copy: PrivateCopy, size: int) -> None:
        """Of the whole value. Raises TooLargeError, QuotaError and StoreFullError."""
        most = self._state.max_object_size
        if most and size > most:
            raise TooLargeError(f"an object of this store has at most {most} bytes")
        if size > SMALL_BYTES and not copy.unlinked:  # a smaller value is looked at when it is closed
            self._state.store.tree.require_possible(writers.parent, size, self._before(writers, copy))

    async def truncate(self, number: int, size: int) -> None:
        """ftruncate(2). Raises StoreError."""
        handle = self._state.handles[number]
        assert isinstance(handle, WriteHandle)
        await self._truncate(handle, size)

    async def truncate_opened(self, writers: Writers, size: int, pid: int) -> None:
        """truncate(2) by the path of what is open for writing: a new name, or one in /proc.

        Raises StaleError when that is not the caller's own, and StoreError.
        """
        copy = writers.openings.own_copy(pid)
        handle = next((handle for handle in self._state.handles.writers() if handle.copy is copy), None)
        if handle is None:
            raise StaleError
        await self._truncate(handle, size)

    async def _truncate(self, handle: WriteHandle, size: int) -> None:
        handle.note_change()
        self._opening.note_change(handle.writers, handle.copy, handle.opener)
        if handle.copy.how is How.APPEND:
            await self._turn_into_edit(handle, size)
        else:
            await self.truncate_copy(handle.writers, handle.copy, size)

    async def truncate_copy(self, writers: Writers, copy: PrivateCopy, size: int) -> None:
        """Cut or lengthen a private copy. Raises StoreError."""
        self._begin_change(writers, copy, size)
        try:
            await copy.spool.truncate(size)
        except TimedOutError as error:
            self._publication.spoil(writers, copy, error)
            raise

    async def _turn_into_edit(self, handle: WriteHandle, size: int) -> None:
        """What was only appended to is cut or edited: from here on it replaces the value, by that and the appended.

        Only what is left of that is copied, and leaves memory meanwhile. The kernel holds writes back until it is done.
        Where it is refused, or fails, what was appended is appended all the same. Raises StoreError.
        """
        writers, old = handle.writers, handle.copy
        if old.failure is not None:
            raise old.failure
        self._check_size(writers, old, size)
        if writers.before(old) is None:
            old.how = How.REPLACE
            await self.truncate_copy(writers, old, size)
            return
        await old.spool.settle()
        copy = self._opening.new_copy(writers, How.REPLACE, base=writers.before(old))
        end = copy.spool.size
        try:
            for offset in range(0, min(old.spool.size, size - end), SMALL_BYTES):
                await copy.spool.write(end + offset, old.spool.read(offset, SMALL_BYTES))
            await copy.spool.truncate(size)
        except BaseException:
            self._publication.discard(writers, copy)
            raise
        copy.take_over(old)
        if writers.before(old) is writers.base:
            copy.file = writers.file  # what a value of another file is copied from keeps its owner and mode
        copy.touch()
        for _, peek in self._state.handles.peeking(old):
            peek.copy = copy
        self._publication.discard(writers, old)
        for each in self._state.handles.writers():
            if each.copy is old:
                each.copy = copy
        writers.last = copy

    async def flush(self, number: int) -> None:
        """One descriptor of the file is closed; others may be open. Raises StoreError, which close() returns."""
        handle = self._state.handles[number]
        if isinstance(handle, WriteHandle):
            handle.note_close(await self._closing(handle))
            if handle.closing is Closing.PLAIN:
                await self._publication.prepare(handle)
            else:
                self._publication.leave_unfinished(handle)

    async def _closing(self, handle: WriteHandle) -> Closing:
        if not handle.closed_before and self._openers.nobody_exits(handle.by.holder):
            return Closing.PLAIN
        return await self._closers.closing(handle.by, handle.closed_before, lambda: self._other_openers(handle))

    def _other_openers(self, handle: WriteHandle) -> set[int]:
        return {other.opener.pid for other in self._state.handles.writers()} - {handle.opener.pid}

    async def fsync(self, number: int) -> None:
        """Publish what is written so far and make it survive a power cut. Raises StoreError."""
        handle = self._state.handles[number]
        if isinstance(handle, WriteHandle):
            await self._publication.sync(handle)
        await sync(self._state)

    async def release(self, number: int) -> None:
        """The last descriptor is closed."""
        handle = self._state.handles.pop(number)
        if isinstance(handle, WriteHandle):
            self._releasing.release(handle)
        elif isinstance(handle, PeekHandle):
            self._releasing.release_peek(handle)
        elif isinstance(handle, ReadHandle):
            if isinstance(handle, KeptHandle):
                handle.writers.openings.remove(handle)
                self._state.let_go(handle)
            else:
                self._state.closed(handle.node)

    async def truncate_path(self, writers: Writers, size: int, caller: Caller) -> None:
        """truncate(2) by path, on the private inode that the caller was led to: a Put of its own. Raises StoreError."""
        self._opening.follow_others(writers)
        copy = self._opening.new_copy(writers, How.REPLACE, base=writers.base)
        writers.handles += 1  # or they would end when it takes longer than they are kept for who is expected
        try:
            self._opening.note_change(writers, copy, caller)
            await self.truncate_copy(writers, copy, size)
            await self._publication.publish_now(writers, copy)
        finally:
            writers.handles -= 1
            if writers.last is copy:
                writers.last = None
            self._publication.discard(writers, copy)
