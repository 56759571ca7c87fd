"""Large values in SQLite: chunks of up to 256 KiB, found through extents that copies of a value share.

A chunk is a row of `chunk`, or, where many are stored at once, a slot of the data file (see slots).
"""

from collections.abc import Iterator

from engine.sqlite.database import Database
from engine.sqlite.fullness import again_when_full, require_space
from engine.sqlite.slots import SLOT_BYTES

CHUNK_BYTES = SLOT_BYTES

_BULK_CHUNKS = 12
"""From how many whole chunks at once on they go to the data file: to sync it is worth that much writing."""
_EXTENTS = "SELECT position, chunk FROM extent WHERE key = ? AND position BETWEEN ? AND ? ORDER BY position"
_PART = "SELECT substr(data, ?, ?) FROM chunk WHERE id = ?"
_INSERT_RUN = (
    "WITH RECURSIVE run (position) AS (SELECT ?2 UNION ALL SELECT position + 1 FROM run WHERE position < ?3)"
    " INSERT INTO extent SELECT ?1, position, ?4 - position FROM run"
)
_SHARED = "SELECT 1 FROM extent WHERE chunk = ?1 AND key <> ?2"

Data = bytes | bytearray | memoryview


def slot_of(chunk: int) -> int | None:
    """The slot that the number of a chunk stands for, None where it is a row."""
    return -chunk - 1 if chunk < 0 else None


def read_chunks(database: Database, key: str, offset: int, length: int) -> bytes:
    """Read `length` bytes from `offset`, all of which lie within the value; holes are zeros."""
    if length <= 0:
        return b""
    pieces = list(_pieces(database, key, offset, length))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _pieces(database: Database, key: str, offset: int, length: int) -> Iterator[bytes]:
    extents = _extents(database, key, offset, length)
    while length > 0:
        position, start = divmod(offset, CHUNK_BYTES)
        chunk = extents.get(position, 0)
        slot = slot_of(chunk)
        if slot is not None:
            wanted = min(length, _run(extents, position) * CHUNK_BYTES - start)
            piece = database.slots.read(slot, start, wanted)
        else:
            wanted = min(length, CHUNK_BYTES - start)
            row = database.row(_PART, (start + 1, wanted, chunk)) if chunk else None
            # No row: a hole. NULL: the chunk ends before this part of it.
            piece = ((row[0] or b"") if row is not None else b"").ljust(wanted, b"\0")
        yield piece
        offset += wanted
        length -= wanted


def read_chunks_now(database: Database, key: str, offset: int, length: int) -> bytearray | None:
    """As `read_chunks`, without waiting for the disk; None when that cannot be had."""
    extents = _extents(database, key, offset, length)
    position, start = divmod(offset, CHUNK_BYTES)
    slot = slot_of(extents.get(position, 0))
    if slot is None or _run(extents, position) * CHUNK_BYTES - start < length:
        return None
    return database.slots.read_now(slot, start, length)


def _extents(database: Database, key: str, offset: int, length: int) -> dict[int, int]:
    last = (offset + length - 1) // CHUNK_BYTES
    return dict(database.rows(_EXTENTS, (key, offset // CHUNK_BYTES, last)))


def _run(extents: dict[int, int], position: int) -> int:
    """How many chunks from this position on lie one behind the other in the data file."""
    first = extents[position]
    count = 1
    while extents.get(position + count) == first - count:
        count += 1
    return count


def _runs(positions: list[int], slots: list[int]) -> Iterator[tuple[int, int, int]]:
    """Where positions and their slots go up together: the first of both, and how many."""
    start = 0
    for end in range(1, len(slots) + 1):
        if end == len(slots) or positions[end] - slots[end] != positions[start] - slots[start]:
            yield positions[start], slots[start], end - start
            start = end


def delete_chunks(database: Database, key: str, limit: int | None = None, first: int = 0) -> bool:
    """Delete the extents of a value from position `first` on, at most `limit`, and the chunks that nothing else has.

    Returns whether there may be more. In the caller's transaction.
    """
    rows = database.rows(
        "DELETE FROM extent WHERE key = ?1 AND position IN"
        " (SELECT position FROM extent WHERE key = ?1 AND position >= ?2 ORDER BY position LIMIT ?3) RETURNING chunk",
        (key, first, -1 if limit is None else limit),
    )
    for (chunk,) in rows:
        _drop_unshared(database, chunk)
    return limit is not None and len(rows) == limit


def _drop_unshared(database: Database, chunk: int) -> None:
    """Delete a chunk that an extent referred to until now, unless others do."""
    slot = slot_of(chunk)
    if slot is None:
        database.rows(
            "DELETE FROM chunk WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM extent WHERE chunk = ?1)", (chunk,)
        )
    elif database.row("SELECT 1 FROM extent WHERE chunk = ?", (chunk,)) is None:
        database.slots.give_up(slot)


class ChunkedDraft:
    """A large value being written: changed chunks in memory until `store` writes them to rows of its own.

    A chunk that another value shares is never changed: its changed form gets a new row.
    """

    def __init__(self, database: Database, key: str, size: int = 0) -> None:
        self._database = database
        self._key = key
        self.size = size
        self._changed: dict[int, Data] = {}
        self._storing: dict[int, Data] = {}
        self._unsynced = False
        """Whether some of it is in the data file and may not survive a power cut yet."""

    @property
    def unstored_bytes(self) -> int:
        return len(self._changed) * CHUNK_BYTES

    def read(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        pieces = []
        while length > 0:
            position, start = divmod(offset, CHUNK_BYTES)
            wanted = min(length, CHUNK_BYTES - start)
            piece = bytes(memoryview(self._chunk(position))[start : start + wanted])
            pieces.append(piece.ljust(wanted, b"\0"))
            offset += wanted
            length -= wanted
        return b"".join(pieces)

    def write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            position, start = divmod(offset, CHUNK_BYTES)
            piece = view[: CHUNK_BYTES - start]
            if len(piece) == CHUNK_BYTES:
                # Bytes never change, so a view of them need not be copied.
                self._changed[position] = piece if isinstance(data, bytes) else bytes(piece)
            else:
                chunk = self._changeable(position)
                if len(chunk) < start:
                    chunk.extend(bytes(start - len(chunk)))
                chunk[start : start + len(piece)] = piece
            offset += len(piece)
            view = view[len(piece) :]
        self.size = max(self.size, offset)

    def truncate(self, size: int) -> None:
        if size < self.size:
            position, rest = divmod(size, CHUNK_BYTES)
            if rest:
                # What lay behind the cut must read as zeros if the value grows again.
                del self._changeable(position)[rest:]
                position += 1
            for held in [held for held in self._changed if held >= position]:
                del self._changed[held]
            # What another thread is storing now comes after the cut: emptied again by the next store.
            self._changed |= {held: b"" for held in self._storing if held >= position}
            with self._database.joined():
                delete_chunks(self._database, self._key, first=position)
        self.size = size

    def take(self, *, whole: bool = False) -> dict[int, Data]:
        self._storing, self._changed = self._changed, {}
        last = self.size // CHUNK_BYTES
        if whole and last in self._storing:
            # The end of what is written is about to go on.
            self._changed[last] = self._storing.pop(last)
        return self._storing

    @again_when_full
    def store(self, batch: object) -> None:
        assert isinstance(batch, dict)
        require_space(self._database, len(batch) * CHUNK_BYTES)
        whole = sorted(position for position, data in batch.items() if len(data) == CHUNK_BYTES)
        in_slots = whole if len(whole) >= _BULK_CHUNKS and self._database.slots.usable else []
        with self._database.joined():
            for position in batch.keys() - in_slots:
                self._store_chunk(position, batch[position])
            slots = self._database.slots.allocate(len(in_slots)) if in_slots else []
            for places in _runs(in_slots, slots):
                self._point_to_slots(*places)
        # Nobody else sees the draft, so its slots can be filled when the lock is free again.
        if slots:
            self._database.slots.write([(slot, batch[at]) for at, slot in zip(in_slots, slots, strict=True)])
            self._unsynced = True
        self._storing = {}
        if self._database.checkpoint_due():
            # Whoever writes much waits for the log to be written back: it grows no further than that.
            self._database.checkpoint()

    def sync(self) -> None:
        if self._unsynced:
            self._database.slots.sync()
            self._unsynced = False

    def seal(self) -> None:
        assert not self._changed, "everything is stored before a draft is sealed"
        self._database.rows("INSERT OR REPLACE INTO content VALUES (?, ?, NULL)", (self._key, self.size))

    def close(self) -> None:
        self._changed = {}

    def _store_chunk(self, position: int, data: Data) -> None:
        old = self._chunk_at(position)
        # A slot is written once: what it holds may be needed again after a power cut.
        if old > 0 and self._database.row(_SHARED, (old, self._key)) is None:
            self._database.rows("UPDATE chunk SET data = ? WHERE id = ?", (data, old))
            return
        chunk = self._database.value("INSERT INTO chunk (data) VALUES (?) RETURNING id", (data,))
        self._database.rows("INSERT OR REPLACE INTO extent VALUES (?, ?, ?)", (self._key, position, chunk))
        if old:
            _drop_unshared(self._database, old)

    def _point_to_slots(self, position: int, slot: int, count: int) -> None:
        """Let positions of the value, one behind the other, be slots that lie so too."""
        span = self._key, position, position + count - 1
        old = self._database.rows("DELETE FROM extent WHERE key = ? AND position BETWEEN ? AND ? RETURNING chunk", span)
        self._database.rows(_INSERT_RUN, (*span, -1 - slot + position))
        for (chunk,) in old:
            _drop_unshared(self._database, chunk)

    def _chunk(self, position: int) -> Data:
        held = self._changed.get(position)
        if held is None:
            held = self._storing.get(position)
        if held is not None:
            return held
        # What is not held any more has been stored, perhaps just now and by another thread.
        self._database.writes.read_anew()
        chunk = self._chunk_at(position)
        slot = slot_of(chunk)
        if slot is not None:
            return self._database.slots.read(slot, 0, CHUNK_BYTES)
        data: bytes = self._database.value("SELECT data FROM chunk WHERE id = ?", (chunk,)) if chunk else b""
        return data

    def _chunk_at(self, position: int) -> int:
        """The number of the chunk that is stored at a position; 0 for a hole."""
        row = self._database.row("SELECT chunk FROM extent WHERE key = ? AND position = ?", (self._key, position))
        return 0 if row is None else int(row[0])

    def _changeable(self, position: int) -> bytearray:
        chunk = self._changed.get(position)
        if not isinstance(chunk, bytearray):
            # A copy also of what is being stored: the other thread must not see it change.
            chunk = bytearray(self._chunk(position))
            self._changed[position] = chunk
        return chunk
