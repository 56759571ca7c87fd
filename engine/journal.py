"""The journal of a session: small Puts that were acknowledged and are not in the catalog yet.

A file beside the store, one for each session that has needed it. Writing an entry is one system call, where keeping an
intent in the catalog is a transaction; like a commit it survives the death of the process, and only a sync of the
store makes what it stands for survive a power cut. The entries count for as long as the catalog does not say that they
are seen to (`session.resolved`), and then the file is written from its beginning again.

An entry is its length and the CRC of its bytes (two 32-bit numbers, little-endian), then a MessagePack array. Whatever
does not check, or has no higher number than the one before it, is left from before: the end.
"""

import errno
import glob
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.catalog.puts import How, Put
from engine.errors import InternalError, OutOfSpaceError

_HEADER = struct.Struct("<II")
_KEPT_BYTES = 64 * 1024
"""What is not worth giving back to the disk before it is written again."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Entry(msgspec.Struct, array_like=True):
    """A Put that is to be published, or one that is not to be after all."""

    number: int
    """Counts up with everything that the session acknowledges."""
    ino: int
    handle: int
    """With the inode number it tells Puts apart: a later entry of the same takes the place of an earlier one."""
    put: tuple[int, int, bytes, int, int, int, int, int | None, int | None, bytes | None] | None
    """How, parent, name, mode, uid, gid, content, atime, mtime and xattrs, as in `Put`; None: not to be published."""
    value: bytes

    @classmethod
    def of(cls, number: int, handle: int, put: Put, value: bytes) -> "Entry":
        times = put.atime_ns, put.mtime_ns
        how = int(put.how)
        described = (how, put.parent, put.name, put.mode, put.uid, put.gid, put.content, *times, put.xattrs)
        return cls(number, put.ino, handle, described, value)

    def as_put(self) -> Put:
        """The Put; only of an entry that has one."""
        assert self.put is not None
        how, parent, name, mode, uid, gid, content, atime, mtime, xattrs = self.put
        content = content if self.value else 0
        return Put(self.ino, parent, name, mode, uid, gid, content, len(self.value), How(how), atime, mtime, xattrs)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


class Journal:
    """The journal that this process writes."""

    def __init__(self, path: Path) -> None:
        """Raises InternalError and OutOfSpaceError."""
        self._path = path
        self._end = 0
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _translated(error) from error

    @property
    def size(self) -> int:
        """How many bytes of it count."""
        return self._end

    def append(self, entry: Entry) -> None:
        """Add an entry, or raise InternalError or OutOfSpaceError and leave the journal as it was."""
        payload = _encoder.encode(entry)
        data = memoryview(_HEADER.pack(len(payload), zlib.crc32(payload)) + payload)
        offset = self._end
        try:
            while data:
                written = os.pwrite(self._fd, data, offset)
                offset += written
                data = data[written:]
        except OSError as error:
            raise _translated(error) from error
        self._end = offset

    def restart(self) -> None:
        """All entries are seen to: begin again at the beginning."""
        if self._end > _KEPT_BYTES:
            with suppress(OSError):  # else it stays as long as it is
                os.ftruncate(self._fd, 0)
        self._end = 0

    def remove(self) -> None:
        """Close the file and delete it."""
        os.close(self._fd)
        self._path.unlink(missing_ok=True)


def path_of(store: Path, session: int) -> Path:
    """Where the journal of a session is."""
    return Path(f"{store}-puts-{session}")


def remove_forgotten(store: Path, sessions: set[int]) -> None:
    """Delete the journals of sessions that are in the list no more: their recoverer died before it could."""
    prefix = f"{store.name}-puts-"
    for path in store.parent.glob(f"{glob.escape(prefix)}*"):
        number = path.name.removeprefix(prefix)
        if number.isdigit() and int(number) not in sessions:
            with suppress(OSError):
                path.unlink()


def read(path: Path) -> list[Entry]:
    """The entries of a journal, those too that are seen to; none where there is no file. Raises InternalError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _translated(error) from error
    entries: list[Entry] = []
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, crc = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        payload = data[offset : offset + length]
        if len(payload) != length or zlib.crc32(payload) != crc:
            break
        try:
            entry = _decoder.decode(payload)
        except msgspec.DecodeError:
            break
        if entries and entry.number <= entries[-1].number:
            break
        entries.append(entry)
        offset += length
    return entries


def _translated(error: OSError) -> InternalError | OutOfSpaceError:
    if error.errno in _FULL:
        return OutOfSpaceError(f"the store's journal cannot be written: {error.strerror}")
    return InternalError(f"the store's journal cannot be used: {error}")
