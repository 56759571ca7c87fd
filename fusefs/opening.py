"""Opening files: CREATE, OPEN, MKNOD, and which private copy a writer gets."""

import os

from engine.catalog.puts import How, Put
from engine.drafts import Draft
from engine.errors import ExistsError, IsDirectoryError, NotFoundError, NotPermittedError, TooManyOpenError
from engine.model import Attributes, Kind, Node
from engine.names import check_part
from fusefs.callers import Caller
from fusefs.copies import File, PrivateCopy
from fusefs.handles import PeekHandle, ReadHandle, WriteHandle
from fusefs.rights import require_to_open, rights_of
from fusefs.spilling import SpillingDraft
from fusefs.state import MountState, StaleError
from fusefs.tasks import Processes
from fusefs.writers import Writers


class Opening:
    """How files of one mount are opened."""

    def __init__(self, state: MountState) -> None:
        self._state = state
        self._processes = Processes()
        self._copies = 0

    def create(self, parent: int, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[int, Node, bool]:
        """Open a name that the kernel believes free.

        Returns the handle, the inode, and whether that inode is a private one. Raises AccessError and StoreError.
        """
        check_part(name)
        self._state.scope.check_change(parent)
        self._state.writers.opens(caller.pid)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self._check_room()
        node = self._state.store.tree.child(parent, name)
        # Another process may have taken away what others are writing here: this one begins anew.
        self._state.writers.let_go_if_gone(parent, name, node)
        writers = self._state.writers.at(parent, name)
        if flags & os.O_EXCL and (node is not None or writers is not None):
            raise ExistsError("the name is taken, or another writer has it open to create it")
        if node is not None and node.kind != Kind.OBJECT:
            raise IsDirectoryError("the name is taken by something that is no object")
        there = node or (None if writers is None else writers.file)
        if there is not None:
            # Of what it believes to have created the kernel asks nobody's leave.
            require_to_open(there, flags, caller)
        if writers is None:
            writers = self._begin(parent, name, node, mode, caller.uid, caller.gid)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            return self._create_for_reading(writers, node)
        self.follow_others(writers)
        return self._attach(writers, flags, caller, creates=node is None), writers.as_node(caller.pid), True

    def make(self, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Node:
        """Put an empty object, as mknod(2) asks: nobody has it open. Raises StoreError."""
        check_part(name)
        self._state.scope.check_change(parent)
        if self._state.store.tree.child(parent, name) is not None or self._state.writers.at(parent, name) is not None:
            raise ExistsError("the name is taken, or another writer has it open to create it")
        writers = self._begin(parent, name, None, mode, uid, gid)
        try:
            return self._publish_empty(writers)
        finally:
            self._state.writers.end(writers)

    def _check_room(self) -> None:
        """One more may open something for writing. Raises TooManyOpenError."""
        limit = self._state.max_open_writers
        if limit and self._state.handles.open_writers >= limit:
            raise TooManyOpenError(f"{limit} files are open for writing already")

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
            node = self._publish_empty(writers)
            if writers.handles:
                self._state.writers.rebase(writers, node, writers.file)
        if writers.idle:
            self._state.writers.end(writers)
        self._state.opened(node)
        return self._state.handles.add(ReadHandle(node)), node, False

    def _publish_empty(self, writers: Writers) -> Node:
        ino = self._state.store.contents.numbers.take()
        file = writers.file
        put = Put(ino, writers.parent, writers.name, file.mode, file.uid, file.gid, how=How.IF_ABSENT)
        put.xattrs = file.xattrs
        published = self._state.store.publisher.publish(put, Draft(self._state.store.contents))
        self._state.report(published.effects)
        return published.node

    def open(self, ino: int, flags: int, caller: Caller) -> int:
        """Open an inode. Raises StaleError when the name is to be looked up again, AccessError and StoreError."""
        pid = caller.pid
        self._state.writers.opens(pid)
        writers = self._state.writers.of(ino, pid)
        for_reading = flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_TRUNC
        if not for_reading:
            self._check_room()
        if writers is not None:
            removed = None if writers.expects(pid) else writers.openings.removed_by(pid)
            if removed is not None:
                return self._open_removed(writers, removed, flags, caller)
            if for_reading:
                own = writers.openings.held_copy(pid) if writers.base is None else None
                if own is None:
                    # It was expected to write, and reads: it is to find what is published.
                    writers.expected.pop(pid, None)
                    raise StaleError
                return self._peek(writers, own, flags, caller)
            if not writers.expects(pid) and not writers.openings.held_by(pid):
                raise StaleError
            try:
                return self._open_private(writers, flags, caller)
            finally:
                writers.expected.pop(pid, None)
        if not for_reading:
            self.expect_writer(ino, pid, truncates=bool(flags & os.O_TRUNC))
            raise StaleError
        node = self._state.value(ino, pid)
        if node is None:
            raise StaleError
        self._state.opened(node)
        return self._state.handles.add(ReadHandle(node))

    def _open_private(self, writers: Writers, flags: int, caller: Caller) -> int:
        """Raises StaleError where what the caller has open is another file than what has the name now.

        Its path leads to that one; a descriptor of its own leads to nothing any more.
        """
        self.follow_others(writers)
        if not writers.expects(caller.pid) and writers.file_of(caller.pid) is not writers.file:
            self._state.writers.expect(caller.pid)
            raise StaleError
        if writers.several:
            require_to_open(writers.file, flags, caller)
        return self._attach(writers, flags, caller, creates=False)

    def _peek(self, writers: Writers, copy: PrivateCopy, flags: int, caller: Caller) -> int:
        if writers.several:
            require_to_open(copy.file, flags, caller)
        copy.peeks += 1
        handle = PeekHandle(writers, copy, self._processes.opener(caller.pid))
        writers.note_open(handle)
        return self._state.handles.add(handle)

    def expect_writer(self, ino: int, pid: int, *, truncates: bool = False) -> None:
        """A published object is to be written: its caller is about to look the name up again, for the private inode.

        By then the name may stand for something else, or be free.
        """
        self._state.writers.expect(pid)
        # Whoever begins to write begins with what is there now, not some milliseconds ago.
        self._state.store.database.writes.read_anew()
        # What was looked up last may have another name by now, so the catalog is asked first.
        node = self._state.store.tree.node(ino) or self._state.value(ino)
        current = None if node is None else self._state.store.tree.child(node.parent, node.name)
        if current is not None and current.kind == Kind.OBJECT:
            self._state.writers.edit(current).expect(pid, truncates=truncates)

    def _attach(self, writers: Writers, flags: int, caller: Caller, *, creates: bool) -> int:
        new = writers.base is None
        how = _how_to_open(flags, creates=creates and new)
        replaces = bool(flags & (os.O_TRUNC | os.O_EXCL))
        own = new and not creates
        copy = self._shared(writers, caller if own else None, how)
        if copy is None or not self._shares(copy, replaces, how, own=own):
            base = None if replaces or how is How.APPEND else writers.base
            copy = self.new_copy(writers, how, base=base)
            # A writer that creates the name and writes nothing has created it all the same.
            copy.changed = replaces or new
            copy.exclusive = bool(flags & os.O_EXCL)
        if replaces:
            writers.last = copy
            self.note_change(writers, copy, caller)
        if self._shared(writers, None, how) is None and How.APPEND not in (how, copy.how) and (new or not replaces):
            writers.edit = copy
            copy.shared = True
        return self._add(writers, copy, flags, caller, changes=replaces or (new and creates))

    def _open_removed(self, writers: Writers, copy: PrivateCopy, flags: int, caller: Caller) -> int:
        """By /proc/PID/fd/N or /dev/fd/N: the one file that is left, which no name leads to and nobody else puts."""
        if flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_TRUNC:
            return self._peek(writers, copy, flags, caller)
        if writers.several:
            require_to_open(copy.file, flags, caller)
        if flags & os.O_TRUNC:
            self.note_change(writers, copy, caller)
        return self._add(writers, copy, flags, caller, changes=bool(flags & os.O_TRUNC))

    def _add(self, writers: Writers, copy: PrivateCopy, flags: int, caller: Caller, *, changes: bool) -> int:
        if copy.how is How.APPEND and caller.uid:
            copy.openers.add(rights_of(caller))
            copy.read |= flags & os.O_ACCMODE != os.O_WRONLY
        copy.holders += 1
        by = self._processes.opener(caller.pid)
        handle = WriteHandle(writers, copy, by, caller, appends=bool(flags & os.O_APPEND), changes=changes)
        writers.note_open(handle)
        return self._state.handles.add(handle)

    def follow_others(self, writers: Writers) -> None:
        """While some have a name, others may have put it: who opens or cuts it now begins with that."""
        node = self._state.store.tree.child(writers.parent, writers.name)
        if node is not None and node.kind == Kind.OBJECT and (writers.base is None or node.ino != writers.base.ino):
            files = [] if writers.base is None else [writers.file]
            writers.overtaken |= writers.base is None
            self._state.writers.rebase(writers, node, *files, seen=True)

    def _shared(self, writers: Writers, owner: Caller | None, how: How) -> PrivateCopy | None:
        """The copy that a further handle may work on: its owner's own, or the one of those who edit the object.

        Not one whose process removed the name, nor one that started from an object which the name has lost since. Two
        handles that append are two appends, but one that does not works on what its process has appended.
        """
        mine = None if owner is None else writers.openings.own_copy(owner.pid)
        if mine is not None and mine.how is how is How.APPEND:
            return None
        copy = mine or writers.edit
        present = 0 if writers.base is None else writers.base.ino
        return copy if copy is not None and copy.origin == present and not copy.unlinked else None

    def note_change(self, writers: Writers, copy: PrivateCopy, caller: Caller) -> None:
        """A value is about to be changed: times move, and bits that would lend the new one its owner's rights go."""
        writers.note_change(copy)
        mode = copy.file.mode_after_write(caller)
        if mode != copy.file.mode:
            self.set_attributes(writers, copy.file, Attributes(mode=mode))

    def set_attributes(self, writers: Writers, file: File, attributes: Attributes, owner: int | None = None) -> None:
        """Set attributes of a file that is open for writing, and of what is published where that is the same file.

        `owner`: as in Tree.set_attributes. Raises StoreError.
        """
        if file is writers.file:
            self._state.set_private(writers, attributes, owner)
        else:
            writers.apply(attributes, file)

    def _shares(self, copy: PrivateCopy, replaces: bool, how: How, *, own: bool) -> bool:
        """Whether a further handle works on the copy that edits share, or is a Put of its own.

        `own`: the caller's process opens once more what it is still creating. Then appending is an edit of that; and
        truncating too where the name was created with O_EXCL, as programs do that make a temporary file, then open it.
        """
        if replaces:
            return own and copy.exclusive
        return own or how is not How.APPEND

    def new_copy(self, writers: Writers, how: How, base: Node | None) -> PrivateCopy:
        """A copy of its own for a handle; it starts from the value of `base`."""
        self._copies += 1
        content, size = (0, 0) if base is None else (base.content, base.size)
        spool = SpillingDraft(self._state.store.contents, self._state.background, content, size)
        copy = PrivateCopy(self._copies, how, spool, writers.file)
        copy.origin = 0 if writers.base is None else writers.base.ino
        self._state.writers.hold(copy, content)
        return copy


def _how_to_open(flags: int, *, creates: bool) -> How:
    """What a handle opened with these flags (open(2)) does to the value when it is published."""
    if flags & os.O_TRUNC or flags & os.O_EXCL:
        return How.REPLACE
    if flags & os.O_APPEND:
        return How.APPEND
    return How.IF_ABSENT if creates else How.REPLACE
