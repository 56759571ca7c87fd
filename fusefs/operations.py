"""The adapter to pyfuse3: every handler unpacks a request, makes one call, and packs the answer.

Errors become errnos in one place, `handler`: the engine's by the table, anything unexpected as EIO with its traceback
in the log, because an exception that leaves a handler would end the mount.
"""

import errno
import logging
import stat
from collections.abc import Callable, Sequence
from typing import NoReturn, cast

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, InodeT

from engine.model import Attributes, Node
from fusefs.attributes import NodeAttributes
from fusefs.durability import durable, sync
from fusefs.files import Files
from fusefs.handling import handler
from fusefs.listings import DirectoryHandle
from fusefs.namespace import Namespace
from fusefs.opening import Opening
from fusefs.packing import add_entries, attribute_seconds, caller, file, kept_time, packed
from fusefs.publication import Publication
from fusefs.serving import Serving
from fusefs.state import MountState

log = logging.getLogger(__name__)

_FRAGMENT_BYTES = 4096


class Operations(pyfuse3.Operations):
    """The requests that the kernel may send."""

    supports_dot_lookup = True
    enable_writeback_cache = False

    def __init__(
        self, state: MountState, serving: Serving, ready: Callable[[], None], umask: int | None = None
    ) -> None:
        """`umask`: as in `MountOptions`."""
        super().__init__()
        self._state = state
        self._serving = serving
        self._ready = ready
        self._umask = umask
        publication = Publication(state)
        self._opening = Opening(state)
        self._files = Files(state, self._opening, publication)
        self._names = Namespace(state, publication)
        self._attributes = NodeAttributes(state, self._opening, self._files)

    def init(self) -> None:
        """The kernel has greeted us: from now on the mount answers."""
        self._ready()

    # Names

    @handler
    async def lookup(self, parent: InodeT, name: bytes, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        return self._looked_up(*self._names.lookup(parent, name, ctx.pid))

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        # No answer is expected, so there is no errno to raise either.
        try:
            for ino, count in inode_list:
                self._state.forget(ino, count)
        except Exception:
            log.exception("forget failed")

    @handler
    async def opendir(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> int:
        return self._names.open_directory(inode, ctx.pid)

    @handler
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        for rows, seconds, position in self._names.entries(fh, start_id):
            added = add_entries(token, rows, seconds, position)
            if position not in DirectoryHandle.DOTS:
                # Only what it had room for counts as looked up.
                self._state.remember_listed(rows[:added], cached=seconds > 0)
            if added < len(rows):
                break

    @handler
    async def releasedir(self, fh: int) -> None:
        self._names.close_directory(fh)

    @handler
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await sync(self._state)

    @handler
    @durable
    async def mkdir(self, parent: InodeT, name: bytes, mode: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        node = self._names.make_directory(parent, name, self._masked(mode, ctx), ctx.uid, ctx.gid)
        return self._looked_up(node, self._names.timeout(node))

    @handler
    @durable
    async def rmdir(self, parent: InodeT, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._names.remove_directory(parent, name, ctx.uid)

    @handler
    @durable
    async def symlink(self, parent: InodeT, name: bytes, target: bytes, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        node = self._names.make_symlink(parent, name, target, ctx.uid, ctx.gid)
        return self._looked_up(node, self._names.timeout(node))

    @handler
    async def readlink(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> bytes:
        return self._attributes.read_link(inode)

    @handler
    @durable
    async def unlink(self, parent: InodeT, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._names.remove(parent, name, caller(ctx))

    @handler
    @durable
    async def rename(
        self,
        parent_old: InodeT,
        name_old: bytes,
        parent_new: InodeT,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        if flags & ~(pyfuse3.RENAME_EXCHANGE | pyfuse3.RENAME_NOREPLACE):
            raise FUSEError(errno.EINVAL)
        if flags & pyfuse3.RENAME_EXCHANGE:
            self._names.exchange(parent_old, name_old, parent_new, name_new, caller(ctx))
            return
        replace = not flags & pyfuse3.RENAME_NOREPLACE
        await self._names.rename(parent_old, name_old, parent_new, name_new, caller(ctx), replace=replace)

    @handler
    @durable
    async def mknod(
        self, parent: InodeT, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        if not stat.S_ISREG(mode):
            raise FUSEError(errno.EPERM)
        node = self._opening.make(parent, name, self._masked(mode, ctx), ctx.uid, ctx.gid)
        return self._looked_up(node, self._names.timeout(node))

    @handler
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> NoReturn:
        raise FUSEError(errno.EPERM)

    # Files

    @handler
    async def create(
        self, parent: InodeT, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        handle, node, private = self._opening.create(parent, name, self._masked(mode, ctx), flags, caller(ctx))
        self._state.kernel.created_in(parent)
        return file(handle, private), self._looked_up(node, 0.0 if private else self._names.timeout(node))

    @handler
    async def open(self, inode: InodeT, flags: int, ctx: pyfuse3.RequestContext) -> FileInfo:
        handle = await self._files.open(inode, flags, caller(ctx))
        return file(handle, self._state.writers.of(inode) is not None)

    @handler
    async def read(self, fh: int, off: int, size: int) -> bytes:
        # pyfuse3 declares bytes and takes any buffer: a view saves copying what a large read returns.
        return cast(bytes, await self._files.read(fh, off, size))

    @handler
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._files.write(fh, off, buf)

    @handler
    async def flush(self, fh: int) -> None:
        await self._files.flush(fh)

    @handler
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._files.fsync(fh)

    @handler
    async def release(self, fh: int) -> None:
        await self._files.release(fh)

    # Attributes

    @handler
    async def getattr(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        node, seconds = await self._attributes.ask(inode, ctx.pid)
        return packed(node, seconds, seconds)

    @handler
    @durable
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> EntryAttributes:
        attributes = Attributes(
            stat.S_IMODE(attr.st_mode) if fields.update_mode else None,
            attr.st_uid if fields.update_uid else None,
            attr.st_gid if fields.update_gid else None,
            kept_time(attr.st_atime_ns) if fields.update_atime else None,
            kept_time(attr.st_mtime_ns) if fields.update_mtime else None,
        )
        size = attr.st_size if fields.update_size else None
        node, seconds = await self._attributes.set(inode, attributes, size, fh, caller(ctx))
        return packed(node, seconds, seconds)

    @handler
    async def getxattr(self, inode: InodeT, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        return self._attributes.get_xattr(inode, name, caller(ctx))

    @handler
    async def listxattr(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        return self._attributes.list_xattrs(inode, caller(ctx))

    @handler
    @durable
    async def setxattr(self, inode: InodeT, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._attributes.set_xattr(inode, name, value, caller(ctx))

    @handler
    @durable
    async def removexattr(self, inode: InodeT, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._attributes.remove_xattr(inode, name, caller(ctx))

    @handler
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        space = self._state.store.tree.space(self._state.scope.names)
        result = pyfuse3.StatvfsData()
        result.f_bsize = result.f_frsize = _FRAGMENT_BYTES
        result.f_blocks = space.total_bytes // _FRAGMENT_BYTES
        result.f_bfree = min(space.free_bytes, space.total_bytes) // _FRAGMENT_BYTES
        result.f_bavail = min(space.available_bytes, space.total_bytes) // _FRAGMENT_BYTES
        result.f_files = space.names + result.f_bfree
        result.f_ffree = result.f_favail = result.f_bfree
        result.f_namemax = 255
        return result

    def _masked(self, mode: int, ctx: pyfuse3.RequestContext) -> int:
        """The permissions of what is created.

        The kernel has applied the umask of the process already: pyfuse3 does not ask it not to (FUSE_DONT_MASK). So
        what group and others were to have is not known where a mask of ours is to hold, but what the owner has is.
        """
        mode = stat.S_IMODE(mode)
        if self._umask is None:
            return mode & ~ctx.umask
        owner = mode >> 6 & 0o7
        return mode & 0o7000 | owner * 0o111 & ~self._umask

    def _looked_up(self, node: Node, seconds: float) -> EntryAttributes:
        self._state.kernel.looked_up(node.ino, cached=seconds > 0)
        writers = self._state.writers.of(node.ino) if self._state.writers else None
        if writers is not None:
            return packed(node, seconds, writers.attribute_seconds)
        self._state.remember(node)
        return packed(node, seconds, attribute_seconds(node.kind, seconds))
