"""Names: LOOKUP, READDIR, MKDIR, RMDIR, SYMLINK, UNLINK, RENAME."""

import stat
from collections.abc import Iterator
from itertools import groupby

from engine.catalog.puts import How
from engine.errors import (
    ExistsError,
    InvalidError,
    NameTooLongError,
    NotDirectoryError,
    NotFoundError,
    NotPermittedError,
)
from engine.model import RUNS_INO, Effects, Kind, Node, NodeRow
from engine.names import PART_MAX_BYTES
from fusefs.callers import Caller
from fusefs.copies import PrivateCopy
from fusefs.kernel import LONG_S
from fusefs.listings import DirectoryHandle, Listings
from fusefs.parting import part, part_all, rejoin
from fusefs.publication import Publication
from fusefs.state import MountState, StaleError
from fusefs.writers import Writers


class Namespace:
    """The names of one mount."""

    def __init__(self, state: MountState, publication: Publication) -> None:
        self._state = state
        self._tree = state.store.tree
        self._publication = publication
        self._listings = Listings()

    def lookup(self, parent: int, name: bytes, pid: int) -> tuple[Node, float]:
        """What a name stands for, for the caller, and for how many seconds the kernel may keep that.

        Raises NotFoundError and NameTooLongError.
        """
        if len(name) > PART_MAX_BYTES:
            raise NameTooLongError("the name is longer than 255 bytes")
        if name in (b".", b".."):
            node = self._by_number(parent, name)
        elif self._state.scope.shows(parent, name):
            node = self._tree.child(parent, name)
        else:
            raise NotFoundError("there is no such name in this mount")
        if node is not None and self._state.is_swept(node):
            node = None  # it is still there, but not for long, and the kernel is not to keep it
        writers = self._state.writers.at(parent, name) if self._state.writers else None
        if self._state.writers.repeats(pid, node):
            assert node is not None
            writers = self._state.writers.edit(node)
            writers.expect(pid, truncates=writers.truncating == pid)
        if writers is not None and self._shows_private(writers, node, pid):
            return writers.as_node(pid), 0.0
        if node is None:
            raise NotFoundError("there is no such name")
        return node, self.timeout(node)

    def _by_number(self, ino: int, name: bytes) -> Node | None:
        """An inode that the kernel knows the number of, or its parent. Who has a handle may name any (exportfs)."""
        node = self._tree.node(ino)
        if node is not None and name == b"..":
            node = self._tree.node(node.parent)
        return node if node is not None and self._state.scope.holds(node, self._state.store) else None

    def _shows_private(self, writers: Writers, node: Node | None, pid: int) -> bool:
        """Whether the caller works on the private inode: to write a published name, or as the name is its own."""
        return writers.expects(pid) if node is not None else writers.openings.held_by(pid)

    def timeout(self, node: Node) -> float:
        """For how long the kernel may keep a published name: not when it is about to be put, evicted or to expire."""
        if self._state.is_swept(node):
            return 0.0
        if node.ino in self._state.coming or self._state.writers.all_at(node.parent, node.name):
            return 0.0
        if node.parent == RUNS_INO and self._tree.expires_next(node.ino):
            return 0.0
        return LONG_S

    def open_directory(self, ino: int, pid: int) -> int:
        """Begin to list a directory; one that was removed is empty. Raises StaleError and NotDirectoryError."""
        node = self._state.directory(ino)
        if node is None:
            raise StaleError
        if node.kind != Kind.DIRECTORY:
            raise NotDirectoryError("this is not a directory")
        return self._state.handles.add(DirectoryHandle(self._tree, node, self._listings, pid))

    def close_directory(self, number: int) -> None:
        handle = self._state.handles.pop(number)
        assert isinstance(handle, DirectoryHandle)
        self._listings.drop(handle)

    def entries(self, number: int, position: int) -> Iterator[tuple[list[NodeRow], float, int]]:
        """Names behind `position` for how many seconds to keep them, until the caller has enough.

        With the position behind them, or 0 where that is the inode number of each.
        """
        handle = self._state.handles[number]
        assert isinstance(handle, DirectoryHandle)
        if position == 0:
            yield [handle.node._replace(name=b".")], 0.0, handle.SELF
        if position in (0, handle.SELF):
            yield [(self._tree.node(handle.node.parent) or handle.node)._replace(name=b"..")], 0.0, handle.PARENT
        elif position != handle.PARENT and handle.goes_on:
            self._state.nursery.start_soon(handle.read_ahead)
        state, listed = self._state, handle.node
        if state.is_swept(listed):
            return  # nothing that is left of it is found by its name either
        # As nearly always: then nothing need be asked about each.
        alike = not (listed.ino == RUNS_INO or state.scope or state.coming or state.writers)
        for rows, behind, exist in handle.entries(position):
            if alike:
                yield rows, LONG_S if exist else 0.0, behind
                continue
            shown = [node for node in map(Node._make, rows) if state.scope.shows(node.parent, node.name)]
            for seconds, nodes in groupby(shown, self.timeout if exist else lambda _: 0.0):
                yield [*nodes], seconds, behind

    def make_directory(self, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Node:
        """mkdir(2); in /pipeline it makes a pipeline, in /run it starts a run. Raises StoreError."""
        self._state.scope.check_change(parent)
        directory = self._tree.node(parent)
        if directory is not None and directory.mode & 0o2000:
            # A directory made in a setgid directory has its group, and is one itself (inode(7)).
            mode, gid = mode | 0o2000, directory.gid
        self._refuse_pending(parent, name)
        node, effects, expire_next = self._tree.make_directory(parent, name, mode & 0o7777, uid, gid)
        self._state.report(effects)
        for run in expire_next:
            self._state.kernel.drop_soon(run)
        return node

    def make_symlink(self, parent: int, name: bytes, target: bytes, uid: int, gid: int) -> Node:
        """symlink(2). Raises StoreError."""
        self._state.scope.check_change(parent)
        directory = self._tree.node(parent)
        if directory is not None and directory.mode & 0o2000:
            gid = directory.gid
        self._refuse_pending(parent, name)
        return self._tree.make_symlink(parent, name, target, uid, gid)

    def _refuse_pending(self, parent: int, name: bytes) -> None:
        writers = self._state.writers.at(parent, name)
        if writers is not None and writers.base is None:
            raise ExistsError("a writer has the name open to create it")

    def _require_own(self, uid: int, *names: tuple[int, bytes]) -> None:
        """In a sticky directory only its owner and a file's own remove or rename that. Raises NotPermittedError.

        The kernel has asked this of what it looked up last, and another mount may have put something else there.
        """
        for parent, name in names if uid else ():
            directory = self._tree.node(parent)
            if directory is not None and directory.mode & stat.S_ISVTX and directory.uid != uid:
                self._state.store.database.writes.read_anew()
                node = self._tree.child(parent, name)
                if node is not None and node.uid != uid:
                    raise NotPermittedError("it belongs to somebody else, and the directory is sticky")

    def remove_directory(self, parent: int, name: bytes, uid: int) -> None:
        """rmdir(2). Raises StoreError."""
        self._require_own(uid, (parent, name))
        self._state.scope.check_change(parent)
        self._tree.remove_directory(parent, name)

    def remove(self, parent: int, name: bytes, caller: Caller) -> None:
        """unlink(2). A name that the caller's own process is writing is never published. Raises StoreError."""
        self._require_own(caller.uid, (parent, name))
        self._state.scope.check_change(parent)
        self._state.store.publisher.first((parent, name))  # before it is looked up
        held = self._state.writers.held(parent, name, caller.pid)
        own = [(writers, {*writers.openings.copies_of(caller.pid)}) for writers in held]
        removed = self._remove_published(parent, name, pending=bool(own))
        try:
            self._unlink_pending(own)
        finally:
            if removed is not None:
                self._state.retire(removed[0])
                self._state.note_gone(parent, name)
                self._state.report(removed[1])

    def _remove_published(self, parent: int, name: bytes, *, pending: bool) -> tuple[Node, Effects] | None:
        """Remove what a name stands for; where that is nothing, there has to be something pending."""
        if pending and self._tree.child(parent, name) is None:
            return None
        try:
            return self._tree.remove(parent, name)
        except NotFoundError:
            if not pending:
                raise
        return None  # another process was quicker

    def _unlink_pending(self, own: list[tuple[Writers, set[PrivateCopy]]]) -> None:
        """A process has removed a name that it is writing: its copies are not published, those of others are.

        Where one cannot be taken back, and could have the name once more, all of them are put as before. Killed until
        here, we had not answered: what was closed may come true. Raises StoreError.
        """
        for writers, copies in own:
            for copy in copies:
                if copy.has_intent:
                    copy.prepared = False
                    self._publication.withdraw(writers, copy)
        for writers, copies in own:
            for copy in copies:
                self._state.writers.give_up(writers, copy)
            writers.openings.note_removed(copies)
            if copies == {*writers.openings.copies}:
                self._state.writers.give_name_up(writers)

    async def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, caller: Caller, *, replace: bool
    ) -> None:
        """rename(2). A new name that the caller's own process is writing is published by it. Raises StoreError.

        What other processes are writing there keeps the old name.
        """
        self._require_own(caller.uid, (parent, name), (new_parent, new_name))
        if len(new_name) > PART_MAX_BYTES:
            raise NameTooLongError("the name is longer than 255 bytes")
        self._state.scope.check_change(parent, new_parent)
        self._state.store.publisher.first((parent, name), (new_parent, new_name))  # before they are looked up
        held = [*self._state.writers.held(parent, name, caller.pid)]
        if held and self._tree.child(parent, name) is None:
            await self._rename_pending(held[0], new_parent, new_name, caller.pid, replace=replace)
            for own in part_all(self._state, self._state.writers.held(parent, name, caller.pid), caller.pid):  # anew
                self._state.writers.move(own, new_parent, new_name)
            return
        replaced, effects = self._tree.rename(parent, name, new_parent, new_name, replace=replace)
        if replaced is not None:
            self._state.retire(replaced)
        self._state.report(effects)
        self._note_moved_onto(new_parent, new_name)
        parts = part_all(self._state, held, caller.pid)
        for own in parts:
            self._state.writers.move(own, new_parent, new_name)
        if parts:
            self._state.writers.lead(parts[0])
            self._note_moved_onto(new_parent, new_name)
        self._state.note_gone(parent, name)

    async def _rename_pending(self, writers: Writers, parent: int, name: bytes, pid: int, *, replace: bool) -> None:
        """Publish a name that is still being written, under its new name; the writers go on there."""
        if not replace and self._tree.child(parent, name) is not None:
            raise ExistsError("the new name is taken")
        home = self._tree.node(parent)
        if home is None or not home.scope:
            raise NotPermittedError("objects live inside a pipeline or a run")
        old, renamed = (writers.parent, writers.name), writers.renamed
        copy = writers.openings.own_copy(pid)
        parted = part(self._state, writers, pid)
        if parted is None or copy is None:
            raise NotFoundError("there is no such name")
        self._state.writers.move(parted, parent, name)
        try:
            copy.prepared = False
            await self._publication.publish_now(parted, copy, How.REPLACE if replace else How.CREATE)
        except BaseException:
            self._state.writers.move(parted, *old)
            parted.renamed = renamed  # or O_EXCL would claim the old name no longer
            rejoin(self._state, parted, writers)
            raise
        self._state.writers.lead(parted)
        # The kernel moves its entry for the private inode along; it is asked about again at once.
        parted.entry_cached = False

    def exchange(self, parent: int, name: bytes, other_parent: int, other_name: bytes, caller: Caller) -> None:
        """renameat2(2) with RENAME_EXCHANGE. Raises StoreError.

        A new name that the caller is still writing is refused. Published first, it could evict what it is to be
        exchanged with. EINVAL is what filesystems without this flag say: who knows it goes on with a plain rename.
        """
        names = (parent, name), (other_parent, other_name)
        self._require_own(caller.uid, *names)
        self._state.scope.check_change(parent, other_parent)
        for at in names:
            writers = self._state.writers.at(*at)
            if writers is not None and self._tree.child(*at) is None and writers.openings.held_by(caller.pid):
                raise InvalidError("a new name can be exchanged once it is closed, or after fsync")
        effects = self._tree.exchange(parent, name, other_parent, other_name)
        self._state.report(effects)
        for at in names:
            self._note_moved_onto(*at)

    def _note_moved_onto(self, parent: int, name: bytes) -> None:
        """The kernel carried an entry, with the time that it may be kept, to a name that somebody is writing."""
        writers = self._state.writers.at(parent, name)
        node = self._tree.child(parent, name)
        if node is not None:
            self._state.moved(node)
        if writers is not None and node is not None:
            files = [writers.file] if writers.base is not None and writers.base.ino == node.ino else []
            self._state.writers.rebase(writers, node, *files)
        for each in self._state.writers.all_at(parent, name):
            each.entry_cached = True
