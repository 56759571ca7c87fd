"""The journal of a session: small Puts that were acknowledged and are not in the catalog yet.

A file beside the store, one for each session that has needed it. Writing an entry is one system call, where keeping an
intent in the catalog is a transaction; like a commit it survives the death of the process, and only a sync of the
store makes what it stands for survive a power cut. The entries count for as long as the catalog does not say that they
are seen to (`session.resolved`), and then the file is written from its beginning again.

An entry is its length and the CRC of its bytes (two 32-bit numbers, little-endian), then these: the key of the journal
and a MessagePack array. Whatever does not check, does not have the key, is no Put, or has no higher number than the one
before it, is left from before: the end, unless what is behind it shows that it was damaged.

The key is random, and nobody who puts values knows it. They are in the file as they are, and what is left of them from
before may be found where an entry would begin: without the key they cannot be made to look like one. It is at the same
place in every journal, that in the first entry. One that has its array there instead is older than keys.
"""

import glob
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from operator import eq
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from engine import disk
from engine.catalog.puts import How, Put
from engine.errors import InvalidError, StoreError
from engine.names import check_part
from engine.salvage import crc as crc32

_HEADER = struct.Struct("<II")
_KEPT_BYTES = 64 * 1024
"""What is not worth giving back to the disk before it is written again."""
_LONGEST = 256 * 1024
"""What no entry is longer than."""
_ARRAY = b"\x95"
"""How the array of an entry begins: one of five."""
_MARK = b"\xc1"
"""How a key begins: what no MessagePack does."""
_KEY_BYTES = 16

_LARGEST = 2**63 - 1
"""What SQLite keeps as an integer."""

Number = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]
Time = Annotated[int, msgspec.Meta(ge=-_LARGEST - 1, le=_LARGEST)]


class Entry(msgspec.Struct, array_like=True):
    """A Put that is to be published, or one that is not to be after all."""

    number: Number
    """Counts up with everything that the session acknowledges."""
    ino: Number
    handle: Number
    """With the inode number it tells Puts apart: a later entry of the same takes the place of an earlier one."""
    put: tuple[How, Number, bytes, Number, Number, Number, Number, Time | None, Time | None, bytes | None] | None
    """How, parent, name, mode, uid, gid, content, atime, mtime and xattrs, as in `Put`; None: not to be published."""
    value: bytes

    @classmethod
    def of(cls, number: int, handle: int, put: Put, value: bytes) -> "Entry":
        """Raises InvalidError for what the catalog could never take: it would keep later Puts from being published."""
        times = put.atime_ns, put.mtime_ns
        numbers = (number, handle, put.ino, put.parent, put.mode, put.uid, put.gid, put.content)
        if not (min(numbers) >= 0 and max(numbers) <= _LARGEST and all(_is_time(time) for time in times)):
            raise InvalidError("a number of a Put is too large for the store to keep")
        described = (put.how, put.parent, put.name, put.mode, put.uid, put.gid, put.content, *times, put.xattrs)
        return cls(number, put.ino, handle, described, value)

    def as_put(self) -> Put:
        """The Put; only of an entry that has one."""
        assert self.put is not None
        how, parent, name, mode, uid, gid, content, atime, mtime, xattrs = self.put
        content = content if self.value else 0
        return Put(self.ino, parent, name, mode, uid, gid, content, len(self.value), how, atime, mtime, xattrs)


def _is_time(time: int | None) -> bool:
    return time is None or -_LARGEST - 1 <= time <= _LARGEST


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


class Journal:
    """The journal that this process writes."""

    def __init__(self, path: Path) -> None:
        """Raises InternalError and OutOfSpaceError."""
        self.path = path
        self._key = _MARK + os.urandom(_KEY_BYTES - len(_MARK))
        self._end = 0
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _failure(error) from error

    @property
    def size(self) -> int:
        """How many bytes of it count."""
        return self._end

    def append(self, entry: Entry) -> None:
        """Add an entry, or raise InternalError or OutOfSpaceError and leave the journal as it was."""
        payload = self._key + _encoder.encode(entry)
        data = memoryview(_HEADER.pack(len(payload), zlib.crc32(payload)) + payload)
        offset = self._end
        try:
            while data:
                written = os.pwrite(self._fd, data, offset)
                offset += written
                data = data[written:]
        except OSError as error:
            raise _failure(error) from error
        self._end = offset

    def restart(self, still: Iterable[Entry] = ()) -> None:
        """All entries are seen to: begin again at the beginning, with what it has `still` to say.

        Raises InternalError and OutOfSpaceError where that cannot be written, and goes on at its end then.
        """
        end, self._end = self._end, 0
        try:
            for entry in still:
                self.append(entry)
        except StoreError:
            self._end = end
            raise
        if end > _KEPT_BYTES:
            with suppress(OSError):  # else it stays as long as it is
                os.ftruncate(self._fd, self._end)

    def close(self, *, remove: bool) -> None:
        """Close the file, and delete it or leave it to who recovers the session."""
        os.close(self._fd)
        if remove:
            self.path.unlink(missing_ok=True)


def path_of(store: Path, session: int) -> Path:
    """Where the journal of a session is."""
    return Path(f"{store}-puts-{session}")


def forgotten(store: Path, sessions: Callable[[], set[int]]) -> Iterator[tuple[int, Path]]:
    """The journals beside a store whose sessions are in the list no more: their recoverer died before it removed them.

    `sessions` reads the list, after the files were looked for: a session is in the list before it has a journal.
    """
    found = list(beside(store))
    listed = sessions()
    return ((session, path) for session, path in found if session not in listed)


def beside(store: Path) -> Iterator[tuple[int, Path]]:
    """The journals beside a store, by session; not those that were put away because they are damaged."""
    prefix = f"{store.name}-puts-"
    for path in store.parent.glob(f"{glob.escape(prefix)}*"):
        number = path.name.removeprefix(prefix)
        if number.isdigit():
            yield int(number), path


class Found(NamedTuple):
    """What is in a journal."""

    entries: list[Entry]
    """Those too that are seen to."""
    damaged: bool
    """Whether there was something else that counts: mended where it was one bit, else not among the entries."""


def read(path: Path, seen_to: int = 0) -> list[Entry]:
    """The entries of a journal, those too that are seen to; none where there is no file. Raises InternalError."""
    return examine(path, seen_to).entries


def examine(path: Path, seen_to: int) -> Found:
    """The same, and whether it is damaged. `seen_to` is the last number that does not count any more."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return Found([], False)
    except OSError as error:
        raise _failure(error) from error
    entries: list[Entry] = []
    key = _key(data)
    offset, last = 0, -1
    crossed = damaged = False
    while offset < len(data):
        found = _entry(data, offset, key)
        if found is None:
            found = _behind_damage(data, offset, key, last)
            crossed = True
        if found is None or found[0].number <= last:
            break
        entry, offset = found
        last = entry.number
        entries.append(entry)
        damaged = damaged or (crossed and last > seen_to)
    return Found(entries, damaged or _hides_entries(data, offset, key, max(last, seen_to), sure=bool(entries)))


_At = tuple[Entry, int]
"""An entry, and where it ends."""


def _key(data: bytes) -> bytes:
    """The key of a journal, damaged or not; empty where it has none."""
    key = data[_HEADER.size : _HEADER.size + _KEY_BYTES]
    return b"" if key.startswith(_ARRAY) else key


def _has_key(payload: bytes, key: bytes) -> bool:
    """Whether the key that an entry has is that of the journal, in which a part may be damaged."""
    return not key or sum(map(eq, payload, key)) * 2 > _KEY_BYTES


def _entry(data: bytes, offset: int, key: bytes, length: int | None = None, *, mend: bool = False) -> _At | None:
    """The entry that begins at an offset; with `mend` one that is wrong in one bit, too."""
    if offset + _HEADER.size > len(data):
        return None
    said, crc = _HEADER.unpack_from(data, offset)
    start = offset + _HEADER.size
    end = start + (said if length is None else length)
    payload: bytes | None = data[start:end]
    if end > len(data) or payload is None:
        return None
    if zlib.crc32(payload) != crc:
        payload = crc32.mend(payload, crc) if mend and end - start < _LONGEST else None
    if payload is None or not _has_key(payload, key):
        return None
    try:
        entry = _decoder.decode(payload[len(key) :])
        _check(entry)
    except (msgspec.DecodeError, InvalidError):
        return None
    return entry, end


def _behind_damage(data: bytes, offset: int, key: bytes, above: int) -> _At | None:
    """What an entry that is damaged was, or else the one behind it; its number is above `above`."""
    if offset + _HEADER.size > len(data):
        return None
    length = _HEADER.unpack_from(data, offset)[0]
    tries = [_entry(data, offset, key, mend=True)]
    tries += [_entry(data, offset, key, length ^ 1 << bit) for bit in range(32)]
    tries.append(_entry(data, offset + _HEADER.size + length, key))
    return next((found for found in tries if found is not None and found[0].number > above), None)


def _hides_entries(data: bytes, offset: int, key: bytes, above: int, *, sure: bool) -> bool:
    """Whether there is an entry behind what is none; unless the key is `sure`, it may be a part of a value."""
    before = _HEADER.size + len(key)
    at = data.find(_ARRAY, offset + before + 1)
    while at >= 0:
        found = _entry(data, at - before, key if sure else data[at - len(key) : at])
        if found is not None and found[0].number > above:
            return True
        at = data.find(_ARRAY, at + 1)
    return False


def aside(path: Path) -> Path:
    """Where a journal that is damaged is kept: always the same for one journal. Raises OSError."""
    written = time.gmtime(path.stat().st_mtime)
    return path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S', written)}")


def _check(entry: Entry) -> None:
    """Raise InvalidError for a Put that nobody can have acknowledged."""
    if entry.put is not None:
        check_part(entry.put[2])
        if entry.value and not entry.put[6]:
            raise InvalidError("a value without a number")


def _failure(error: OSError) -> StoreError:
    return disk.failure(error, "the store's journal cannot be written", "the store's journal cannot be used")
