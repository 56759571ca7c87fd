"""Open files: CREATE, OPEN, READ, WRITE, FLUSH, FSYNC, RELEASE."""

import os

from engine.catalog.puts import How, Put
from engine.drafts import SMALL_BYTES, Draft
from engine.errors import ExistsError, IsDirectoryError, NotFoundError, NotPermittedError, StoreError, TooLargeError
from engine.model import Kind, Node
from engine.names import check_part
from fusefs.closers import Closing, closing
from fusefs.handles import Handle, PeekHandle, ReadHandle, WriteHandle
from fusefs.publication import Publication, sync
from fusefs.reading import ReadAhead
from fusefs.spilling import SpillingDraft
from fusefs.state import MountState, StaleError
from fusefs.writers import PrivateCopy, Writers, how_to_open


class Files:
    """The open files of one mount."""

    def __init__(self, state: MountState, publication: Publication) -> None:
        self._state = state
        self._publication = publication
        self._readahead = ReadAhead(state.store.contents)
        self._copies = 0

    def create(
        self, parent: int, name: bytes, mode: int, flags: int, caller: tuple[int, int, int]
    ) -> tuple[int, Node, bool]:
        """Open a name that the kernel believes free. `caller` is (thread id, uid, gid).

        Returns the handle, the inode, and whether that inode is a private one. Raises StoreError.
        """
        check_part(name)
        pid, uid, gid = caller
        node = self._state.store.tree.child(parent, name)
        writers = self._state.writers.at(parent, name)
        if flags & os.O_EXCL and (node is not None or writers is not None):
            raise ExistsError("the name is taken, or another writer has it open to create it")
        if node is not None and node.kind != Kind.OBJECT:
            raise IsDirectoryError("the name is taken by something that is no object")
        if writers is None:
            writers = self._begin(parent, name, node, mode, uid, gid)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            return self._create_for_reading(writers, node)
        return self._attach(writers, flags, pid, creates=node is None), writers.as_node(pid), True

    def _begin(self, parent: int, name: bytes, node: Node | None, mode: int, uid: int, gid: int) -> Writers:
        if node is not None:
            return self._state.writers.edit(node)
        directory = self._state.store.tree.node(parent)
        if directory is None:
            raise NotFoundError("the directory is gone")
        if not directory.scope:
            raise NotPermittedError("objects live inside a pipeline or a run")
        group = directory.gid if directory.mode & 0o2000 else gid
        return self._state.writers.begin(parent, name, None, mode & 0o7777, uid, group)

    def _create_for_reading(self, writers: Writers, node: Node | None) -> tuple[int, Node, bool]:
        """A creation that cannot write (flock FILE command) has nothing to wait for: it is published at once."""
        if node is None:
            ino = self._state.store.contents.numbers.take()
            put = Put(ino, writers.parent, writers.name, writers.mode, writers.uid, writers.gid, how=How.IF_ABSENT)
            published = self._state.store.publisher.publish(put, Draft(self._state.store.contents))
            self._state.report(published.effects)
            node = published.node
            if writers.handles:
                self._state.writers.rebase(writers, node)
        if writers.idle:
            self._state.writers.end(writers)
        self._state.opened(node)
        return self._state.handles.add(ReadHandle(node)), node, False

    async def open(self, ino: int, flags: int, pid: int) -> int:
        """Open an inode. Raises StaleError when the name is to be looked up again, and StoreError."""
        writers = self._state.writers.of(ino)
        for_reading = flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_TRUNC
        if writers is not None:
            if for_reading:
                if writers.base is not None or not writers.held_by(pid):
                    raise StaleError
                writers.handles += 1
                return self._state.handles.add(PeekHandle(writers))
            if not writers.expects(pid) and not writers.held_by(pid):
                raise StaleError
            handle = self._attach(writers, flags, pid, creates=False)
            writers.expected.pop(pid, None)
            copy = writers.opened_by[pid]
            if flags & os.O_TRUNC and copy.spool.size:
                await self.truncate_copy(writers, copy, 0)
            return handle
        if not for_reading:
            self.expect_writer(ino, pid)
            raise StaleError
        node = self._state.value(ino)
        if node is None:
            raise StaleError
        self._state.opened(node)
        return self._state.handles.add(ReadHandle(node))

    def expect_writer(self, ino: int, pid: int) -> None:
        """A published object is to be written: its caller is about to look the name up again, for the private inode."""
        # What was looked up last may have another name by now, so the catalog is asked first.
        node = self._state.store.tree.node(ino) or self._state.value(ino)
        current = None if node is None else self._state.store.tree.child(node.parent, node.name)
        if current is not None and current.kind == Kind.OBJECT:
            self._state.writers.edit(current).expect(pid)

    def _attach(self, writers: Writers, flags: int, pid: int, *, creates: bool) -> int:
        new = writers.base is None
        how = how_to_open(flags, creates=creates and new)
        replaces = bool(flags & (os.O_TRUNC | os.O_EXCL))
        copy = writers.edit
        if copy is None or not self._shares(copy, replaces, how, own=new and not creates):
            copy = self._new_copy(writers, how, replaces)
            copy.exclusive = bool(flags & os.O_EXCL)
        if replaces:
            writers.last = copy
            writers.mtime_ns = None
        if writers.edit is None and how is not How.APPEND and (new or not replaces):
            writers.edit = copy
        copy.holders += 1
        writers.handles += 1
        writers.opened_by[pid] = copy
        changes = replaces or (new and creates)
        return self._state.handles.add(
            WriteHandle(writers, copy, pid, appends=bool(flags & os.O_APPEND), changes=changes)
        )

    def _shares(self, copy: PrivateCopy, replaces: bool, how: How, *, own: bool) -> bool:
        """Whether a further handle works on the copy that edits share, or is a Put of its own.

        `own`: the caller's process opens once more what it is still creating. Then appending is an edit of that; and
        truncating too where the name was created with O_EXCL, as programs do that make a temporary file, then open it.
        """
        if replaces:
            return own and copy.exclusive
        return own or how is not How.APPEND

    def _new_copy(self, writers: Writers, how: How, replaces: bool) -> PrivateCopy:
        self._copies += 1
        base = None if replaces or how is How.APPEND else writers.base
        content, size = (0, 0) if base is None else (base.content, base.size)
        spool = SpillingDraft(self._state.store.contents, self._state.nursery, content, size)
        copy = PrivateCopy(self._copies, how, spool)
        # A writer that creates the name and writes nothing has created it all the same.
        copy.changed = replaces or writers.base is None
        if content:
            self._state.store.contents.pin(content)
            copy.pinned = content
        return copy

    async def read(self, number: int, offset: int, length: int) -> bytes | memoryview:
        """Up to `length` bytes; fewer only at the end. Raises StoreError."""
        handle = self._state.handles[number]
        if isinstance(handle, ReadHandle):
            node = handle.node
            if node.size <= SMALL_BYTES:
                return self._state.store.contents.read(node.content, offset, length)
            return await self._readahead.read(node.content, node.size, offset, length)
        return self._read_private(handle, offset, length)

    def _read_private(self, handle: Handle, offset: int, length: int) -> bytes:
        assert isinstance(handle, (WriteHandle, PeekHandle))
        writers = handle.writers
        copy = handle.copy if isinstance(handle, WriteHandle) else writers.last
        if copy is None:
            return b""
        if copy.how is not How.APPEND:
            return copy.spool.read(offset, length)
        base, size = (0, 0) if writers.base is None else (writers.base.content, writers.base.size)
        before = self._state.store.contents.read(base, offset, min(length, max(0, size - offset)))
        return before + copy.spool.read(max(0, offset - size), length - len(before))

    async def write(self, number: int, offset: int, data: bytes) -> int:
        """Write into the private copy. Raises StoreError, TooLargeError for more than max_object_size."""
        handle = self._state.handles[number]
        assert isinstance(handle, WriteHandle)
        writers, copy = handle.writers, handle.copy
        handle.note_change()
        try:
            self._begin_change(writers, copy, len(data) + (copy.spool.size if handle.appends else offset))
            if handle.appends:
                await copy.spool.append(data)
            else:
                await copy.spool.write(offset, data)
        except StoreError as error:
            self._publication.spoil(writers, copy, error)
            raise
        return len(data)

    def _begin_change(self, writers: Writers, copy: PrivateCopy, end: int) -> None:
        """Before a copy is changed up to the position `end`. Raises TooLargeError, and why an earlier change failed."""
        if copy.failure is not None:
            raise copy.failure
        self._check_size(writers, copy, end)
        if copy.prepared or not copy.changed:
            self._publication.before_change(writers, copy)
        if copy.how is How.IF_ABSENT:
            copy.how = How.REPLACE
        writers.last = copy
        writers.mtime_ns = None

    def _check_size(self, writers: Writers, copy: PrivateCopy, end: int) -> None:
        most = self._state.max_object_size
        if most:
            base = writers.base.size if copy.how is How.APPEND and writers.base is not None else 0
            if base + end > most:
                raise TooLargeError(f"an object of this store has at most {most} bytes")

    async def truncate(self, number: int, size: int) -> Writers:
        """ftruncate(2). Raises StoreError."""
        handle = self._state.handles[number]
        assert isinstance(handle, WriteHandle)
        writers = handle.writers
        handle.note_change()
        if handle.copy.how is How.APPEND:
            self._turn_into_edit(handle)
        await self.truncate_copy(writers, handle.copy, size)
        return writers

    async def truncate_copy(self, writers: Writers, copy: PrivateCopy, size: int) -> None:
        """Cut or lengthen a private copy. Raises StoreError."""
        self._begin_change(writers, copy, size)
        await copy.spool.truncate(size)

    def _turn_into_edit(self, handle: WriteHandle) -> None:
        """A handle that appends cuts the value: from here on it replaces it, by what it had and appended itself."""
        writers, old = handle.writers, handle.copy
        copy = self._new_copy(writers, How.REPLACE, replaces=False)
        end = copy.spool.size
        for offset in range(0, old.spool.size, SMALL_BYTES):
            copy.spool.draft.write(end + offset, old.spool.read(offset, SMALL_BYTES))
        copy.holders = 1
        self._publication.abandon(writers, old)
        handle.copy = copy

    async def flush(self, number: int) -> None:
        """One descriptor of the file is closed; others may be open. Raises StoreError, which close() returns."""
        handle = self._state.handles[number]
        if isinstance(handle, WriteHandle):
            handle.note_close(await closing(handle.opener, lambda: self._other_openers(handle)))
            if handle.closing is Closing.PLAIN:
                await self._publication.prepare(handle)
            else:
                self._publication.leave_unfinished(handle)

    def _other_openers(self, handle: WriteHandle) -> set[int]:
        return {other.opener for other in self._state.handles.writers()} - {handle.opener}

    async def fsync(self, number: int) -> None:
        """Publish what is written so far and make it survive a power cut. Raises StoreError."""
        handle = self._state.handles[number]
        if isinstance(handle, WriteHandle):
            await self._publication.publish_now(handle.writers, handle.copy)
        await sync(self._state)

    async def release(self, number: int) -> None:
        """The last descriptor is closed."""
        handle = self._state.handles.pop(number)
        if isinstance(handle, WriteHandle):
            await self._publication.release(handle)
        elif isinstance(handle, PeekHandle):
            handle.writers.handles -= 1
            if handle.writers.idle:
                self._state.writers.end(handle.writers)
        elif isinstance(handle, ReadHandle):
            self._state.closed(handle.node)

    async def truncate_path(self, writers: Writers, size: int) -> None:
        """truncate(2) by path, on the private inode that the caller was led to: a Put of its own. Raises StoreError."""
        copy = self._new_copy(writers, How.REPLACE, replaces=False)
        try:
            await self.truncate_copy(writers, copy, size)
            await self._publication.publish_now(writers, copy)
        finally:
            writers.last = None
            self._publication.abandon(writers, copy)
            if copy.pinned:
                self._state.store.contents.unpin(copy.pinned)
