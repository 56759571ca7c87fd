"""The chunks of large values: pieces of up to 256 KiB, found through extents that copies of a value share.

A chunk is a row of `chunk`, or, where many are stored at once, a slot of the data file (see slots). What is read is
compared with the hashes of the extent, in whole blocks.
"""

from collections.abc import Iterator

from engine.interface import RANGE_BYTES
from engine.sqlite.database import Database
from engine.sqlite.hashing import block_span, damaged, is_whole
from engine.sqlite.slots import SLOT_BYTES

CHUNK_BYTES = SLOT_BYTES

_EXTENTS = "SELECT position, chunk, hashes FROM extent WHERE content = ? AND position BETWEEN ? AND ? ORDER BY position"
_POSITIONS = (
    "SELECT position FROM extent WHERE content = ? AND position >= ? ORDER BY position"
    f" LIMIT {RANGE_BYTES // CHUNK_BYTES}"
)
_PART = "SELECT substr(data, ?, ?) FROM chunk WHERE id = ?"

Extent = tuple[int, bytes | None]
"""The number of a chunk, and its hashes."""

HOLE: Extent = 0, None


def slot_of(chunk: int) -> int | None:
    """The slot that the number of a chunk stands for, None where it is a row."""
    return -chunk - 1 if chunk < 0 else None


def read_chunks(database: Database, number: int, offset: int, length: int, count: int | None) -> bytes:
    """Read `length` bytes from `offset`, all of which lie within the value; holes are zeros.

    `count` is how many extents the value has, as far as that is known. Raises DamagedError.
    """
    if length <= 0:
        return b""
    pieces = list(_pieces(database, number, offset, length, count))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def stored_ranges(database: Database, number: int, size: int, count: int | None) -> Iterator[tuple[int, int]]:
    """The parts of a value of so many bytes that are no holes: offsets and lengths. `count` as in `read_chunks`.

    Raises DamagedError behind the last one, when an extent is missing.
    """
    next_one = 0
    while rows := database.rows(_POSITIONS, (number, next_one)):
        start = rows[0][0]
        next_one = start + 1
        for (position,) in rows[1:]:
            if position != next_one:
                break
            next_one += 1
        if start * CHUNK_BYTES < size:
            yield start * CHUNK_BYTES, min(next_one * CHUNK_BYTES, size) - start * CHUNK_BYTES
    require_complete(database, number, count)


def read_chunk(database: Database, number: int, extent: Extent) -> bytes:
    """A chunk as it was stored; nothing for a hole. Raises DamagedError."""
    slot = slot_of(extent[0])
    if slot is not None:
        return _from_slots(database, number, {0: extent}, 0, 0, CHUNK_BYTES)
    return _from_row(database, number, extent, 0, CHUNK_BYTES)


def _pieces(database: Database, number: int, offset: int, length: int, count: int | None) -> Iterator[bytes]:
    extents = _extents(database, number, offset, length)
    while length > 0:
        position, start = divmod(offset, CHUNK_BYTES)
        extent = extents.get(position, HOLE)
        if slot_of(extent[0]) is not None:
            wanted = min(length, _run(extents, position) * CHUNK_BYTES - start)
            piece = _from_slots(database, number, extents, position, start, wanted)
        else:
            wanted = min(length, CHUNK_BYTES - start)
            if extent is HOLE:
                require_complete(database, number, count)
            piece = _from_row(database, number, extent, start, wanted).ljust(wanted, b"\0")
        yield piece
        offset += wanted
        length -= wanted


def require_complete(database: Database, number: int, count: int | None) -> None:
    """Raise DamagedError when a hole is an extent that is missing."""
    if count is not None and database.value("SELECT count(*) FROM extent WHERE content = ?", (number,)) != count:
        raise damaged(number)


def _from_row(database: Database, number: int, extent: Extent, start: int, wanted: int) -> bytes:
    """A part of a chunk that is a row; what it is short of is missing."""
    chunk, hashes = extent
    if not chunk:
        return b""
    first, end = block_span(start, wanted)
    row = database.row(_PART, (first + 1, end - first, chunk))
    # NULL: the chunk ends before this part of it.
    data: bytes = b"" if row is None or row[0] is None else row[0]
    if row is None or not is_whole(data, hashes, first, end):
        raise damaged(number)
    return data[start - first : start - first + wanted]


def _from_slots(
    database: Database, number: int, extents: dict[int, Extent], position: int, start: int, wanted: int
) -> bytes:
    """`wanted` bytes from `start` in a chunk on, which may go on in the slots behind it."""
    slot = slot_of(extents[position][0])
    assert slot is not None
    first, end = block_span(start, wanted)
    data = database.slots.read(slot, first, end - first)
    if not _are_whole(data, extents, position, first, end):
        raise damaged(number)
    return data if len(data) == wanted else data[start - first : start - first + wanted]


def read_chunks_now(database: Database, number: int, offset: int, length: int) -> bytearray | None:
    """As `read_chunks`, without waiting for the disk; None when that cannot be had."""
    extents = _extents(database, number, offset, length)
    position, start = divmod(offset, CHUNK_BYTES)
    slot = slot_of(extents.get(position, HOLE)[0])
    if slot is None or _run(extents, position) * CHUNK_BYTES - start < length:
        return None
    first, end = block_span(start, length)
    data = database.slots.read_now(slot, first, end - first)
    if data is None or not _are_whole(data, extents, position, first, end):
        return None  # what is damaged is told of by the slower way
    return data if len(data) == length else data[start - first : start - first + length]


def _are_whole(data: bytes | bytearray, extents: dict[int, Extent], position: int, first: int, end: int) -> bool:
    """Whether slots, read from `first` in the one at `position` to `end`, have what was stored."""
    view = memoryview(data)
    for start in range(first - first % CHUNK_BYTES, end, CHUNK_BYTES):
        here, there = max(first, start), min(end, start + CHUNK_BYTES)
        hashes = extents[position + start // CHUNK_BYTES][1]
        if not is_whole(view[here - first : there - first], hashes, here - start, there - start):
            return False
    return True


def _extents(database: Database, number: int, offset: int, length: int) -> dict[int, Extent]:
    last = (offset + length - 1) // CHUNK_BYTES
    rows = database.rows(_EXTENTS, (number, offset // CHUNK_BYTES, last))
    return {position: (chunk, hashes) for position, chunk, hashes in rows}


def _run(extents: dict[int, Extent], position: int) -> int:
    """How many chunks from this position on lie one behind the other in the data file."""
    first = extents[position][0]
    count = 1
    while extents.get(position + count, HOLE)[0] == first - count:
        count += 1
    return count


def delete_chunks(database: Database, number: int, limit: int | None = None, first: int = 0) -> bool:
    """Delete the extents of a value from position `first` on, at most `limit`, and the chunks that nothing else has.

    Returns whether there may be more. In the caller's transaction.
    """
    rows = database.rows(
        "DELETE FROM extent WHERE content = ?1 AND position IN"
        " (SELECT position FROM extent WHERE content = ?1 AND position >= ?2 ORDER BY position LIMIT ?3)"
        " RETURNING chunk",
        (number, first, -1 if limit is None else limit),
    )
    for (chunk,) in rows:
        drop_unshared(database, chunk)
    return limit is not None and len(rows) == limit


def drop_unshared(database: Database, chunk: int) -> None:
    """Delete a chunk that an extent referred to until now, unless others do."""
    slot = slot_of(chunk)
    if slot is None:
        database.rows(
            "DELETE FROM chunk WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM extent WHERE chunk = ?1)", (chunk,)
        )
    elif database.row("SELECT 1 FROM extent WHERE chunk = ?", (chunk,)) is None:
        database.slots.give_up(slot)
