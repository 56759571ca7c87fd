"""A pyfuse3 filesystem that hands every request on to a directory: what the stack reaches when it moves the bytes.

Made to be quick and no more than that: descriptors are kept open, inodes are ours and known by path, reads and writes
go straight to the descriptor on the event loop, and the kernel may keep everything for 60 s. Links, and changes made
behind its back, are not its business.

Run as `python -m benchmarks.passthrough DIRECTORY MOUNTPOINT`; unmounting ends it.
"""

import errno
import functools
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

import pyfuse3

from benchmarks.stock_loop import serve

CACHE_SECONDS = 60
_COPIED = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size", "st_atime_ns", "st_mtime_ns", "st_ctime_ns")

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])


def handler(function: Handler) -> Handler:
    """Answer errors with their numbers: any other exception than FUSEError would end the mount."""

    @functools.wraps(function)
    async def guarded(*arguments: Any) -> Any:
        try:
            return await function(*arguments)
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None
        except KeyError:  # the kernel asks for an inode whose name has gone
            raise pyfuse3.FUSEError(errno.ESTALE) from None

    return cast(Handler, guarded)


class Passthrough(pyfuse3.Operations):
    """The files below one directory. All handlers run on one event loop: tmpfs, which is meant, never waits."""

    def __init__(self, root: str) -> None:
        super().__init__()
        self._paths: dict[int, bytes] = {pyfuse3.ROOT_INODE: os.fsencode(root)}
        self._inodes: dict[bytes, int] = {os.fsencode(root): pyfuse3.ROOT_INODE}
        self._listings: dict[int, tuple[int, list[bytes]]] = {}
        self._next_inode = pyfuse3.ROOT_INODE + 1

    def _path(self, parent: int, name: bytes) -> bytes:
        return self._paths[parent] + b"/" + name

    def _attributes(self, path: bytes, found: os.stat_result) -> pyfuse3.EntryAttributes:
        inode = self._inodes.get(path)
        if inode is None:
            inode = self._inodes[path] = self._next_inode
            self._paths[inode] = path
            self._next_inode += 1
        attributes = pyfuse3.EntryAttributes()
        for field in _COPIED:
            setattr(attributes, field, getattr(found, field))
        attributes.st_ino = pyfuse3.InodeT(inode)
        attributes.entry_timeout = attributes.attr_timeout = CACHE_SECONDS
        return attributes

    def _drop(self, path: bytes) -> None:
        inode = self._inodes.pop(path, None)
        if inode is not None:
            del self._paths[inode]

    @handler
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        path = self._paths[inode]
        return self._attributes(path, os.lstat(path))

    @handler
    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        path = self._path(parent_inode, name)
        return self._attributes(path, os.lstat(path))

    @handler
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        path = self._path(parent_inode, name)
        fd = os.open(path, flags | os.O_CREAT, mode & 0o7777)
        return _opened(fd, flags), self._attributes(path, os.fstat(fd))

    @handler
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        # The kernel says where to write, also at an append.
        return _opened(os.open(self._paths[inode], flags & ~os.O_APPEND), flags)

    @handler
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    @handler
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return os.pwrite(fh, buf, off)

    @handler
    async def flush(self, fh: int) -> None:
        pass

    @handler
    async def release(self, fh: int) -> None:
        os.close(fh)

    @handler
    async def fsync(self, fh: int, datasync: bool) -> None:
        os.fsync(fh)

    @handler
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        path = self._paths[inode]
        if fields.update_size:
            os.truncate(path, attr.st_size)
        if fields.update_mode:
            os.chmod(path, attr.st_mode & 0o7777)
        if fields.update_uid or fields.update_gid:
            os.chown(path, attr.st_uid if fields.update_uid else -1, attr.st_gid if fields.update_gid else -1)
        if fields.update_atime or fields.update_mtime:
            old = os.lstat(path)
            atime = attr.st_atime_ns if fields.update_atime else old.st_atime_ns
            os.utime(path, ns=(atime, attr.st_mtime_ns if fields.update_mtime else old.st_mtime_ns))
        return self._attributes(path, os.lstat(path))

    @handler
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        path = self._path(parent_inode, name)
        os.unlink(path)
        self._drop(path)

    @handler
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        old, new = self._path(parent_inode_old, name_old), self._path(parent_inode_new, name_new)
        os.rename(old, new)
        self._drop(new)
        inode = self._inodes.pop(old, None)
        if inode is not None:
            self._inodes[new], self._paths[inode] = inode, new

    @handler
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        path = self._path(parent_inode, name)
        os.mkdir(path, mode & 0o7777)
        return self._attributes(path, os.lstat(path))

    @handler
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        path = self._path(parent_inode, name)
        os.rmdir(path)
        self._drop(path)

    @handler
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        handle = self._next_inode
        self._next_inode += 1
        self._listings[handle] = inode, os.listdir(self._paths[inode])
        return handle

    @handler
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        inode, names = self._listings[fh]
        for position in range(start_id, len(names)):
            path = self._path(inode, names[position])
            attributes = self._attributes(path, os.lstat(path))
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(names[position]), attributes, position + 1):
                break

    @handler
    async def releasedir(self, fh: int) -> None:
        del self._listings[fh]

    @handler
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        # ENOSYS ends all such requests: the kernel would ask for a capability before each write.
        raise pyfuse3.FUSEError(errno.ENOSYS)

    @handler
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        raise pyfuse3.FUSEError(errno.ENOSYS)


def _opened(fd: int, flags: int) -> pyfuse3.FileInfo:
    """Past the page cache for who writes, which is quicker; through it for who reads, and kept after that."""
    writing = bool(flags & os.O_ACCMODE)
    return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(fd), direct_io=writing, keep_cache=not writing)


def main() -> None:
    serve(Passthrough(sys.argv[1]), sys.argv[2], "passthrough")


if __name__ == "__main__":
    main()
