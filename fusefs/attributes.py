"""Attributes: GETATTR, SETATTR, extended attributes, STATFS."""

from engine import xattrs
from engine.errors import NoAttributeError, NotPermittedError
from engine.model import Attributes, Kind, Node
from fusefs.files import Files
from fusefs.kernel import LONG_S
from fusefs.state import MountState, StaleError
from fusefs.writers import Writers

_USER = b"user."


class NodeAttributes:
    """The attributes of one mount's inodes."""

    def __init__(self, state: MountState, files: Files) -> None:
        self._state = state
        self._tree = state.store.tree
        self._files = files

    def get(self, ino: int, pid: int = 0) -> tuple[Node, float]:
        """The attributes of an inode as the thread `pid` sees them, and for how many seconds the kernel may keep them.

        Raises StaleError.
        """
        writers = self._state.writers.of(ino) if self._state.writers else None
        if writers is not None:
            return writers.as_node(pid), 0.0
        node = self._tree.node(ino)
        if node is not None:
            return node, LONG_S
        # Gone, perhaps just now and by another process: still there for who looked it up before, or has it open.
        known = self._state.value(ino)
        if known is None:
            raise StaleError
        return known._replace(parent=0), LONG_S

    async def set(
        self, ino: int, attributes: Attributes, size: int | None, handle: int | None, pid: int
    ) -> tuple[Node, float]:
        """Set attributes, and the size where one is given. Returns as `get`. Raises StaleError and StoreError."""
        writers = self._state.writers.of(ino)
        if size is not None:
            await self._set_size(ino, writers, size, handle, pid)
        if attributes != Attributes():
            if writers is not None:
                self._set_private(writers, attributes)
            elif self._tree.node(ino) is not None:
                self._tree.set_attributes(ino, attributes)
            else:
                self._set_lost(ino, attributes)
        return self.get(ino, pid)

    async def _set_size(self, ino: int, writers: Writers | None, size: int, handle: int | None, pid: int) -> None:
        if handle is not None:
            await self._files.truncate(handle, size)
        elif writers is None:
            # truncate(2) by path is a Put: it is to come again, for the private inode of the name.
            self._files.expect_writer(ino, pid)
            raise StaleError
        elif writers.expects(pid):
            try:
                await self._files.truncate_path(writers, size)
            finally:
                writers.expected.pop(pid, None)
                self._state.nursery.start_soon(self._end_if_idle, writers)
        elif writers.last is not None:
            await self._files.truncate_copy(writers, writers.last, size)

    async def _end_if_idle(self, writers: Writers) -> None:
        """After the answer to a truncate(2): nobody has this private inode open."""
        if writers.idle:
            self._state.writers.end(writers)

    def _set_private(self, writers: Writers, attributes: Attributes) -> None:
        """Through a writer's descriptor: of what is published now, which is no Put, and of what will be put."""
        writers.apply(attributes)
        if writers.base is not None and self._tree.node(writers.base.ino) is not None:
            self._tree.set_attributes(writers.base.ino, attributes)
            self._state.kernel.drop_attributes(writers.base.ino)

    def _set_lost(self, ino: int, attributes: Attributes) -> None:
        """Through the descriptor of an object that has lost its name."""
        node = self._state.lost(ino)
        if node is None:
            raise StaleError
        given = {name: value for name, value in attributes._asdict().items() if value is not None}
        self._state.change_lost(node._replace(**given))

    def read_link(self, ino: int) -> bytes:
        """Where a symlink points. Raises StaleError."""
        node = self._tree.node(ino)
        if node is None or node.target is None:
            raise StaleError
        return node.target

    def get_xattr(self, ino: int, name: bytes) -> bytes:
        """Raises NoAttributeError and StaleError."""
        if not name.startswith(_USER):
            raise NoAttributeError("only user.* attributes are kept")
        return xattrs.get(self.get(ino)[0].xattrs, name)

    def list_xattrs(self, ino: int) -> list[bytes]:
        """Raises StaleError."""
        return xattrs.names(self.get(ino)[0].xattrs)

    def set_xattr(self, ino: int, name: bytes, value: bytes) -> None:
        """Raises StoreError and StaleError."""
        node = self._changeable(ino, name)
        self._set_packed(ino, xattrs.with_value(node.xattrs, name, value))

    def remove_xattr(self, ino: int, name: bytes) -> None:
        """Raises NoAttributeError, StoreError and StaleError."""
        node = self._changeable(ino, name)
        self._set_packed(ino, xattrs.without(node.xattrs, name))

    def _changeable(self, ino: int, name: bytes) -> Node:
        if not name.startswith(_USER):
            raise UnsupportedError
        node = self.get(ino)[0]
        if node.kind == Kind.SYMLINK or (node.kind == Kind.DIRECTORY and not node.scope):
            raise NotPermittedError("user.* attributes are for objects and for directories in pipelines and runs")
        return node

    def _set_packed(self, ino: int, packed: bytes | None) -> None:
        writers = self._state.writers.of(ino)
        if writers is None:
            self._tree.set_xattrs(ino, packed)
            return
        writers.xattrs = packed
        writers.apply(Attributes())
        if writers.base is not None and self._tree.node(writers.base.ino) is not None:
            self._tree.set_xattrs(writers.base.ino, packed)


class UnsupportedError(Exception):
    """An attribute of a namespace that is not kept (ENOTSUP)."""
