"""What requests bring and what answers take: between our types and those of pyfuse3."""

import stat

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo

from engine.model import Kind, Node, NodeRow
from fusefs.callers import Caller
from fusefs.kernel import DIRECTORY_S

_FILE_TYPE: dict[int, int] = {Kind.DIRECTORY: stat.S_IFDIR, Kind.OBJECT: stat.S_IFREG, Kind.SYMLINK: stat.S_IFLNK}
_BLOCK_BYTES = 512
_PREFERRED_BYTES = 128 * 1024
"""st_blksize: what programs that ask read and write at a time."""


def caller(ctx: pyfuse3.RequestContext) -> Caller:
    """Who sent a request."""
    return Caller(ctx.pid, ctx.uid, ctx.gid)


def file(handle: int, private: bool) -> FileInfo:
    """The answer to an open. What is private goes past the page cache, so that it is never shown to readers."""
    return FileInfo(fh=handle, direct_io=private, keep_cache=not private)


def attribute_seconds(kind: int, seconds: float) -> float:
    """For how long the kernel may keep attributes of what is published; `seconds`: the same for the name."""
    # A name that is asked for every time still has attributes that stay right.
    return DIRECTORY_S if kind == Kind.DIRECTORY else seconds or 1.0


def kept_time(nanoseconds: int) -> int:
    """The time nearest to one that is to be set: the store keeps 64 bits, from 1677-09-21 to 2262-04-11."""
    return max(-(2**63), min(nanoseconds, 2**63 - 1))


def packed(node: Node, entry_seconds: float, attribute_seconds: float) -> EntryAttributes:
    """An inode, and for how long the kernel may keep its name and its attributes."""
    ino, parent, _, _, kind, mode, uid, gid, size, atime_ns, mtime_ns, ctime_ns, _, _, _, _ = node
    entry = EntryAttributes()
    entry.st_ino = ino
    entry.entry_timeout = entry_seconds
    entry.attr_timeout = attribute_seconds
    entry.st_mode = _FILE_TYPE[kind] | mode
    # Without a parent: the name is gone, and the inode is there for those who have it open.
    entry.st_nlink = 1 if parent or ino == pyfuse3.ROOT_INODE else 0
    entry.st_uid = uid
    entry.st_gid = gid
    entry.st_size = size
    entry.st_blksize = _PREFERRED_BYTES
    entry.st_blocks = (size + _BLOCK_BYTES - 1) // _BLOCK_BYTES
    entry.st_atime_ns = atime_ns
    entry.st_mtime_ns = mtime_ns
    entry.st_ctime_ns = ctime_ns
    return entry


def add_entries(token: pyfuse3.ReaddirToken, rows: list[NodeRow], seconds: float, position: int) -> int:
    """Add names to the answer to a READDIR, for the kernel to keep for so long; returns for how many there was room.

    `position`: the one behind them; 0: the inode number of each. pyfuse3 copies what it is given, so one entry is
    filled again and again, and only with what differs: this is what a long listing spends its time with.
    """
    entry, add = EntryAttributes(), pyfuse3.readdir_reply
    entry.entry_timeout = seconds
    entry.st_blksize = _PREFERRED_BYTES
    object_seconds = attribute_seconds(Kind.OBJECT, seconds)
    added = 0
    for ino, _, name, _, kind, mode, uid, gid, size, atime_ns, mtime_ns, ctime_ns, _, _, _, _ in rows:
        entry.attr_timeout = object_seconds if kind else DIRECTORY_S
        entry.st_ino = ino
        entry.st_mode = _FILE_TYPE[kind] | mode
        entry.st_uid = uid
        entry.st_gid = gid
        entry.st_size = size
        entry.st_blocks = (size + _BLOCK_BYTES - 1) // _BLOCK_BYTES
        entry.st_atime_ns = atime_ns
        entry.st_mtime_ns = mtime_ns
        entry.st_ctime_ns = ctime_ns
        if not add(token, name, entry, position or ino):
            break
        added += 1
    return added
