"""B-tree pages of SQLite and the records on them. Whatever is not as the format says raises Malformed."""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE = 2, 5, 10, 13
LEAVES = (LEAF_TABLE, LEAF_INDEX, INTERIOR_INDEX)
"""The kinds of pages that have rows: those of a table without rowid, and of an index, are in its interior too."""
INTERIOR = (INTERIOR_INDEX, INTERIOR_TABLE)
HEADER_BYTES = 100
"""What comes before the b-tree on page 1."""

_POINTER = struct.Struct(">I")
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}

Value = int | float | bytes | str | None
Record = tuple[Value, ...]


class Malformed(Exception):
    """What was read is no page, cell or record."""


class Cell(NamedTuple):
    """A row as it is on a page."""

    rowid: int | None
    """None where the tree has none."""
    size: int
    """Of its whole record."""
    local: bytes
    """What of the record is on this page."""
    overflow: int
    """The page on which it goes on; 0: it does not."""


def kind_of(page: bytes, number: int) -> int:
    """Which kind of b-tree page this is; 0 for none."""
    kind = page[HEADER_BYTES if number == 1 else 0]
    return kind if kind in (INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE) else 0


def children(page: bytes, number: int) -> Iterator[int]:
    """The pages below an interior page."""
    start = HEADER_BYTES if number == 1 else 0
    if kind_of(page, number) in INTERIOR:
        for cell in _cells(page, start, 12):
            yield _POINTER.unpack_from(page, cell)[0]
        yield _POINTER.unpack_from(page, start + 8)[0]


def cells(page: bytes, number: int, usable: int) -> Iterator[Cell]:
    """The rows on a page, as far as it has any. What is malformed is left out."""
    start = HEADER_BYTES if number == 1 else 0
    kind = kind_of(page, number)
    for at in _cells(page, start, 12 if kind == INTERIOR_INDEX else 8) if kind in LEAVES else ():
        try:
            yield _cell(page, at + 4 if kind == INTERIOR_INDEX else at, kind, usable)
        except (Malformed, IndexError, struct.error):
            continue


def _cells(page: bytes, start: int, header: int) -> list[int]:
    """Where the cells of a page begin."""
    (count,) = struct.unpack_from(">H", page, start + 3)
    if start + header + 2 * count > len(page):
        return []
    offsets = struct.unpack_from(f">{count}H", page, start + header)
    return [at for at in offsets if start + header + 2 * count <= at <= len(page) - 4]


def _cell(page: bytes, at: int, kind: int, usable: int) -> Cell:
    size, at = varint(page, at)
    rowid: int | None = None
    if kind == LEAF_TABLE:
        rowid, at = varint(page, at)
    local = _local_bytes(size, usable, kind)
    end = at + local
    if end + (4 if local < size else 0) > usable:
        raise Malformed
    overflow = _POINTER.unpack_from(page, end)[0] if local < size else 0
    return Cell(rowid, size, page[at:end], overflow)


def _local_bytes(size: int, usable: int, kind: int) -> int:
    """How much of a record of this size is on its b-tree page."""
    most = usable - 35 if kind == LEAF_TABLE else (usable - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (usable - 12) * 32 // 255 - 23
    local = least + (size - least) % (usable - 4)
    return local if local <= most else least


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and where it ends."""
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    value = value << 8 | data[at]
    return (value - (1 << 64) if value >> 63 else value), at + 1


def whole(cell: Cell, usable: int, read: Callable[[int], bytes | None]) -> bytes:
    """The record of a cell, with what of it is on other pages. `read` returns None for what cannot be read."""
    if not cell.overflow:
        return cell.local
    pieces = [cell.local]
    missing = cell.size - len(cell.local)
    page = cell.overflow
    while missing > 0:
        data = read(page) if page else None
        if data is None:
            raise Malformed
        (page,) = _POINTER.unpack_from(data)
        pieces.append(data[4 : 4 + min(missing, usable - 4)])
        missing -= usable - 4
    if page:
        raise Malformed  # the chain is longer than its record: it belongs to another
    return b"".join(pieces)


def decode(record: bytes) -> Record:
    """The values of a record."""
    try:
        header, at = varint(record, 0)
        body = header
        values: list[Value] = []
        while at < header:
            serial, at = varint(record, at)
            value, body = _value(record, body, serial)
            values.append(value)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise Malformed from error
    if at != header or body != len(record):
        raise Malformed
    return tuple(values)


def _value(record: bytes, at: int, serial: int) -> tuple[Value, int]:
    if serial == 0:
        return None, at
    if serial in _INTEGERS:
        length = _INTEGERS[serial]
        if at + length > len(record):
            raise Malformed
        return int.from_bytes(record[at : at + length], "big", signed=True), at + length
    if serial == 7:
        return struct.unpack_from(">d", record, at)[0], at + 8
    if serial in (8, 9):
        return serial - 8, at
    if serial < 12:
        raise Malformed
    length = (serial - 12) // 2
    if at + length > len(record):
        raise Malformed
    data = record[at : at + length]
    return (data.decode() if serial % 2 else data), at + length
