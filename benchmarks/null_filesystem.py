"""A pyfuse3 filesystem that does nothing: the ceiling of what any filesystem on this stack can reach.

Names are kept in a dictionary and sizes with them, because the kernel would not go on without; what is written is
thrown away and what is read is zeros. Every answer may be cached for 60 s; reading goes through the page cache and
writing past it (direct_io), which is the fastest of the combinations.

Run as `python -m benchmarks.null_filesystem MOUNTPOINT`; unmounting ends it.
"""

import errno
import os
import stat
import sys

import pyfuse3

from benchmarks.stock_loop import serve

CACHE_SECONDS = 60
LONGEST_READ = 1024 * 1024
DIRECTORY_MODE = stat.S_IFDIR | 0o755
FILE_MODE = stat.S_IFREG | 0o644


class NullFilesystem(pyfuse3.Operations):
    """Files without contents, in directories. All handlers run on one event loop, and none of them waits."""

    def __init__(self) -> None:
        super().__init__()
        self._children: dict[int, dict[bytes, int]] = {pyfuse3.ROOT_INODE: {}}
        self._listings: dict[int, list[tuple[bytes, int]]] = {}
        self._sizes: dict[int, int] = {}
        self._next_inode = pyfuse3.ROOT_INODE + 1
        self._zeros = bytes(LONGEST_READ)
        # One reply of each kind is enough: pyfuse3 has copied it before the next request is looked at.
        self._file = self._new_attributes(FILE_MODE)
        self._directory = self._new_attributes(DIRECTORY_MODE)

    @staticmethod
    def _new_attributes(mode: int) -> pyfuse3.EntryAttributes:
        attributes = pyfuse3.EntryAttributes()
        attributes.st_mode = pyfuse3.ModeT(mode)
        attributes.st_uid, attributes.st_gid = os.getuid(), os.getgid()
        attributes.entry_timeout = attributes.attr_timeout = CACHE_SECONDS
        return attributes

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        if inode in self._children:
            self._directory.st_ino = pyfuse3.InodeT(inode)
            return self._directory
        self._file.st_ino = pyfuse3.InodeT(inode)
        self._file.st_size = self._sizes[inode]
        return self._file

    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._attributes(inode)

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        inode = self._children[parent_inode].get(name)
        if inode is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes(inode)

    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        inode = self._new_inode(parent_inode, name)
        self._sizes[inode] = 0
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), direct_io=True), self._attributes(inode)

    def _new_inode(self, parent_inode: int, name: bytes) -> int:
        inode = self._children[parent_inode][name] = self._next_inode
        self._next_inode += 1
        return inode

    async def open(self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        if flags & os.O_TRUNC:
            self._sizes[inode] = 0
        writing = bool(flags & os.O_ACCMODE)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), direct_io=writing, keep_cache=not writing)

    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        if fields.update_size:
            self._sizes[inode] = attr.st_size
        return self._attributes(inode)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        length = max(0, min(size, self._sizes[fh] - off))
        return self._zeros if length == LONGEST_READ else self._zeros[:length]

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        end = off + len(buf)
        if end > self._sizes[fh]:
            self._sizes[fh] = end
        return len(buf)

    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        """Answered, where ENOSYS would spare the request: whoever tells errors at close() cannot do without it."""

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        pass

    async def unlink(self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext) -> None:
        del self._sizes[self._children[parent_inode].pop(name)]

    async def rename(
        self,
        parent_inode_old: pyfuse3.InodeT,
        name_old: pyfuse3.FileNameT,
        parent_inode_new: pyfuse3.InodeT,
        name_new: pyfuse3.FileNameT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        self._children[parent_inode_new][name_new] = self._children[parent_inode_old].pop(name_old)

    async def mkdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        inode = self._new_inode(parent_inode, name)
        self._children[inode] = {}
        return self._attributes(inode)

    async def rmdir(self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext) -> None:
        del self._children[self._children[parent_inode].pop(name)]

    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        self._listings[inode] = list(self._children[inode].items())
        return pyfuse3.FileHandleT(inode)

    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self._listings[fh]
        for position in range(start_id, len(listing)):
            name, inode = listing[position]
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), self._attributes(inode), position + 1):
                break

    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        self._listings.pop(fh, None)


def main() -> None:
    serve(NullFilesystem(), sys.argv[1], "null")


if __name__ == "__main__":
    main()
