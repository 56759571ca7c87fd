"""Attributes: GETATTR, SETATTR, extended attributes, STATFS."""

from engine import xattrs
from engine.errors import InvalidError, NoAttributeError, NotPermittedError
from engine.model import PIPELINES_INO, Attributes, Kind, Node
from fusefs.callers import Caller
from fusefs.copies import File
from fusefs.files import Files
from fusefs.handles import WriteHandle
from fusefs.kernel import LONG_S
from fusefs.opening import Opening
from fusefs.packing import attribute_seconds
from fusefs.rights import READ, WRITE, Attributed, may_change, require, searches
from fusefs.state import MountState, StaleError
from fusefs.writers import Writers

_USER = b"user."
_OWN = b"fusefs."
_LIMIT = _OWN + b"limit"


class NodeAttributes:
    """The attributes of one mount's inodes."""

    def __init__(self, state: MountState, opening: Opening, files: Files) -> None:
        self._state = state
        self._tree = state.store.tree
        self._opening = opening
        self._files = files

    def get(self, ino: int, pid: int = 0) -> tuple[Node, float]:
        """The attributes of an inode as the thread `pid` sees them, and for how many seconds the kernel may keep them.

        Raises StaleError.
        """
        writers = self._writers_of(ino, pid)
        if writers is not None:
            return writers.as_shown(pid), 0.0
        node = self._state.directory(ino)
        if node is not None:
            if node.kind == Kind.DIRECTORY:
                self._state.kernel.told_of_directory(ino)
            # Of one that leaves it is to have none, or it does not ask on the path of others (see drop_tree_soon).
            return node, 0.0 if self._state.kernel.leaves(ino) else attribute_seconds(node.kind, LONG_S)
        # Gone, perhaps just now and by another process: still there for who looked it up before, or has it open.
        known = self._state.value(ino, pid)
        if known is None:
            raise StaleError
        # Where others write by the same inode, or read what they have written, it is another file to them.
        several = self._state.kept.differ(ino) or self._state.writers.of(ino, pid) is not None
        return known._replace(parent=0), 0.0 if several else LONG_S

    def _writers_of(self, ino: int, pid: int) -> Writers | None:
        """Those who have a private inode; not for who only reads by it what it has published."""
        writers = self._state.writers.of(ino, pid) if self._state.writers else None
        return None if writers is None or writers.only_reads(pid) else writers

    async def ask(self, ino: int, pid: int) -> tuple[Node, float]:
        """As `get`, for who may have come here by the path of a run that has just expired."""
        await self._have_path_looked_up(ino, pid)
        return self.get(ino, pid)

    async def _have_path_looked_up(self, ino: int, pid: int) -> None:
        """Raise StaleError where the kernel may have come by a path that is gone: it looks for that again, once.

        Where it was told so before, for this or for a file there, it fails with ESTALE. So it is answered then: what it
        has looked up since is newer than what it is answered. Where there was no path, for a working directory, it just
        asks again; but not for a descriptor, which opendir(3) does.
        """
        if not self._state.kernel.leaves(ino) or self._state.writers.comes_again(pid):
            return
        if not self._state.handles.has_directory(ino, pid) and await self._state.kernel.send_back(ino, pid):
            raise StaleError

    async def set(
        self, ino: int, attributes: Attributes, size: int | None, handle: int | None, caller: Caller
    ) -> tuple[Node, float]:
        """Set attributes, and the size where one is given. Returns as `get`. Raises StaleError and StoreError."""
        self._state.scope.check_change(ino)
        await self._have_path_looked_up(ino, caller.pid)
        writers = self._writers_of(ino, caller.pid)
        if size is not None:
            await self._set_size(ino, writers, size, handle, caller)
        if attributes != Attributes():
            if writers is not None:
                writers.expected.pop(caller.pid, None)  # it does something else
                file = self._file(writers, caller.pid, handle)
                owner = self._require_change(ino, file, attributes, caller)
                self._opening.set_attributes(writers, file, attributes, owner)
                writers.set_times(attributes, file, caller.pid)
            elif self._state.is_open(ino) and self._tree.node(ino) is None:
                self._set_lost(ino, attributes, caller)
            else:
                node = self._present(ino, caller)
                self._set_published(node, attributes, self._require_change(ino, node, attributes, caller))
        return self.get(ino, caller.pid)

    def _require_change(self, ino: int, file: Attributed, attributes: Attributes, caller: Caller) -> int | None:
        """The kernel has asked whose the file was when it looked last: for a change it does not look again.

        Returns whose it has to be still when it is changed, if anyone's. Raises NotPermittedError.
        """
        if not may_change(file, attributes, caller):
            self._state.kernel.drop_attributes(ino)
            raise NotPermittedError("the file is another user's")
        return caller.uid if 0 < caller.uid == file.uid else None

    def _file(self, writers: Writers, pid: int, handle: int | None = None) -> File:
        """Which of the files that a private inode stands for a request is about: what its thread has open."""
        opened = None if handle is None else self._state.handles[handle]
        file = opened.copy.file if isinstance(opened, WriteHandle) else writers.own_file(pid)
        published = None if writers.base is None else self._tree.node(writers.base.ino)
        if file is writers.file and published is not None and not file.is_like(published):
            # It has another name by now, by which it was changed: what the kernel was shown is not so any more.
            writers.refresh(published)
            writers.several = True
        return file

    def _require(self, writers: Writers, file: File, wanted: int, caller: Caller) -> None:
        """The kernel has looked at the private inode, but maybe at another file of that. Raises AccessError."""
        if writers.several:
            require(file, wanted, caller)

    async def _set_size(self, ino: int, writers: Writers | None, size: int, handle: int | None, caller: Caller) -> None:
        if handle is not None:
            await self._files.truncate(handle, size)
        elif writers is None:
            # truncate(2) by path is a Put: it is to come again, for the private inode of the name.
            if self._state.writers.of(ino) is None:  # else it comes by a descriptor, to this inode once more
                self._opening.expect_writer(ino, caller.pid)
            raise StaleError
        elif writers.expects(caller.pid):
            self._state.writers.opens(caller.pid)
            try:
                self._require(writers, writers.file, WRITE, caller)
                await self._files.truncate_path(writers, size, caller)
            finally:
                writers.expected.pop(caller.pid, None)
                self._state.nursery.start_soon(self._end_if_idle, writers)
        else:
            copy = writers.openings.own_copy(caller.pid)
            self._require(writers, writers.file if copy is None else copy.file, WRITE, caller)
            await self._files.truncate_opened(writers, size, caller.pid)

    async def _end_if_idle(self, writers: Writers) -> None:
        """After the answer to a truncate(2): nobody has this private inode open."""
        if writers.idle:
            self._state.writers.end(writers)

    def _set_published(self, node: Node, attributes: Attributes, owner: int | None) -> None:
        """By path: of what is published, and of what those will put who are writing it."""
        self._tree.set_attributes(node.ino, attributes, owner)
        for writers in self._writers_over(node):
            writers.apply(attributes)
            writers.set_times(attributes, writers.file)

    def _present(self, ino: int, caller: Caller) -> Node:
        """What an inode's name stands for, which may be replaced since the kernel looked it up, and is to be changed.

        Raises StaleError, also where what the user may do to the one says nothing about the other: the kernel checks
        that once it has looked up the name again.
        """
        known = self._tree.node(ino) or self._state.lost(ino, caller.pid)
        if known is None:
            raise StaleError
        if known.kind != Kind.OBJECT:
            return known
        present = self._tree.child(known.parent, known.name)
        if present is None or present.kind != Kind.OBJECT:
            raise StaleError
        if present.ino != ino:
            alike = (known.mode, known.uid, known.gid) == (present.mode, present.uid, present.gid)
            if not alike and caller.uid not in (0, present.uid):
                raise StaleError
            self._state.kernel.drop_attributes(present.ino)
        return present

    def _writers_over(self, node: Node) -> list[Writers]:
        """All who are writing a new value for a published object."""
        found = self._state.writers.all_at(node.parent, node.name) if self._state.writers else []
        return [writers for writers in found if writers.base is not None and writers.base.ino == node.ino]

    def _set_lost(self, ino: int, attributes: Attributes, caller: Caller) -> None:
        """Through the descriptor of an object that has lost its name. Raises NotPermittedError."""
        node = self._state.lost(ino, caller.pid)
        assert node is not None
        self._require_change(ino, node, attributes, caller)
        given = {name: value for name, value in attributes._asdict().items() if value is not None}
        self._state.change_lost(node._replace(**given))

    def read_link(self, ino: int) -> bytes:
        """Where a symlink points. Raises StaleError."""
        node = self._state.value(ino)
        if node is None or node.target is None:
            raise StaleError
        return node.target

    # Extended attributes: no request for them brings a file handle, so who asks tells which of several files is meant.

    def get_xattr(self, ino: int, name: bytes, caller: Caller) -> bytes:
        """Raises NoAttributeError, AccessError and StaleError."""
        if name.startswith(_OWN) and not self._state.scope.fixes(ino):
            return self._fact(self.get(ino, caller.pid)[0], name.removeprefix(_OWN).decode("ascii", "replace"), caller)
        if not name.startswith(_USER):
            raise NoAttributeError("only user.* attributes are kept")
        return xattrs.get(self._own(ino, READ, caller).xattrs, name)

    def _fact(self, node: Node, name: str, caller: Caller) -> bytes:
        """Root and the owner of a pipeline, who may all see what is evicted from it, are told all of its keys."""
        home = self._tree.node(node.scope)
        sees_all = caller.uid in (0, None if home is None else home.uid)
        return self._tree.fact(node, name, None if sees_all else searches(caller))

    def list_xattrs(self, ino: int, caller: Caller) -> list[bytes]:
        """The user's own only: a copy of a tree must not carry along what is the store's. Raises StaleError."""
        return xattrs.names(self._own(ino, 0, caller).xattrs)

    def _own(self, ino: int, wanted: int, caller: Caller) -> File | Node:
        """Whose extended attributes are asked for. Raises AccessError and StaleError."""
        writers = self._writers_of(ino, caller.pid)
        if writers is None:
            return self.get(ino, caller.pid)[0]
        file = self._file(writers, caller.pid)
        self._require(writers, file, wanted, caller)
        return file

    def set_xattr(self, ino: int, name: bytes, value: bytes, caller: Caller) -> None:
        """Raises StoreError and StaleError."""
        if name.startswith(_OWN):
            self._set_limit(ino, name, _number(value), caller.uid)
            return
        node = self._changeable(ino, name, caller)
        self._set_packed(node, xattrs.with_value(node.xattrs, name, value), caller.pid)

    def remove_xattr(self, ino: int, name: bytes, caller: Caller) -> None:
        """Raises NoAttributeError, StoreError and StaleError."""
        if name.startswith(_OWN):
            self._set_limit(ino, name, None, caller.uid)
            return
        node = self._changeable(ino, name, caller)
        self._set_packed(node, xattrs.without(node.xattrs, name), caller.pid)

    def _set_limit(self, ino: int, name: bytes, limit: int | None, uid: int) -> None:
        """The one thing of the store's own that can be set, by root and the owner; None: what holds for the store."""
        node = self.get(ino)[0]
        if name != _LIMIT or node.parent != PIPELINES_INO:
            raise NotPermittedError("of what the store tells, only the limit of a pipeline can be set")
        if uid not in (0, node.uid):
            raise NotPermittedError("the limit of a pipeline is for its owner to set")
        self._state.report(self._state.store.set_limit(node.name, limit))

    def _changeable(self, ino: int, name: bytes, caller: Caller) -> Node:
        if not name.startswith(_USER):
            raise UnsupportedError
        writers = self._writers_of(ino, caller.pid)
        if writers is None:
            node = self._present(ino, caller)
        else:
            file = self._file(writers, caller.pid)
            self._require(writers, file, WRITE, caller)
            node = writers.as_node(caller.pid)._replace(xattrs=file.xattrs)
        if node.kind == Kind.SYMLINK or (node.kind == Kind.DIRECTORY and not node.scope):
            raise NotPermittedError("user.* attributes are for objects and for directories in pipelines and runs")
        return node

    def _set_packed(self, node: Node, packed: bytes | None, pid: int) -> None:
        writers = self._state.writers.of(node.ino, pid)
        if writers is None:
            self._tree.set_xattrs(node.ino, packed)
            for over in self._writers_over(node):
                over.apply_xattrs(packed)
            return
        file = writers.own_file(pid)
        if file is writers.file and writers.base is not None and self._tree.node(writers.base.ino) is not None:
            self._tree.set_xattrs(writers.base.ino, packed)
        writers.apply_xattrs(packed, file)
        if file is writers.file:
            self._state.writers.pass_on(writers)


def _number(value: bytes) -> int:
    """Raises InvalidError."""
    text = value.strip()
    if not text.isdigit() or len(text) > 10:
        raise InvalidError(f"invalid limit {value!r}: a number of objects, or 0 for no limit")
    return int(text)


class UnsupportedError(Exception):
    """An attribute of a namespace that is not kept (ENOTSUP)."""
