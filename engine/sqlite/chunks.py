"""Large values that are being written, in chunks (see extents)."""

from collections.abc import Iterator

from engine.sqlite.database import Database
from engine.sqlite.extents import CHUNK_BYTES, HOLE, Extent, delete_chunks, drop_unshared, read_chunk
from engine.sqlite.fullness import again_when_full, require_space
from engine.sqlite.hashing import BLOCK_BYTES, HASH_BYTES, Data, hashes_of

_BULK_CHUNKS = 12
"""From how many whole chunks at once on they go to the data file: to sync it is worth that much writing."""
_INSERT_RUN = (
    "WITH RECURSIVE run (position) AS (SELECT ?2 UNION ALL SELECT position + 1 FROM run WHERE position < ?3)"
    " INSERT INTO extent SELECT ?1, position, ?4 - position, substr(?5, 1 + (position - ?2) * ?6, ?6) FROM run"
)
_HASHES_OF_SLOT = CHUNK_BYTES // BLOCK_BYTES * HASH_BYTES
_SHARED = "SELECT 1 FROM extent WHERE chunk = ?1 AND content <> ?2"


def _runs(positions: list[int], slots: list[int]) -> Iterator[tuple[int, int, int]]:
    """Where positions and their slots go up together: the first of both, and how many."""
    start = 0
    for end in range(1, len(slots) + 1):
        if end == len(slots) or positions[end] - slots[end] != positions[start] - slots[start]:
            yield positions[start], slots[start], end - start
            start = end


class ChunkedDraft:
    """A large value being written: changed chunks in memory until `store` writes them to rows of its own.

    A chunk that another value shares is never changed: its changed form gets a new row.
    """

    def __init__(self, database: Database, number: int, size: int = 0) -> None:
        self._database = database
        self._number = number
        self.size = size
        self._changed: dict[int, Data] = {}
        self._storing: dict[int, Data] = {}
        self._unsynced: int | None = None
        """What Slots.sync is to be given where some of it is in the data file and may not survive a power cut yet."""

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
                delete_chunks(self._database, self._number, first=position)
        self.size = size

    def take(self, *, whole: bool = False) -> dict[int, Data]:
        self._storing, self._changed = self._changed, {}
        last = self.size // CHUNK_BYTES
        if whole and last in self._storing:
            # The end of what is written is about to go on.
            self._changed[last] = self._storing.pop(last)
        return self._storing

    def store(self, batch: object) -> None:
        assert isinstance(batch, dict)
        try:
            self._store(batch)
        except BaseException:
            # There is no other copy of it: who tries again is not to leave it out.
            for position, data in batch.items():
                self._changed.setdefault(position, data)
            raise

    @again_when_full
    def _store(self, batch: dict[int, Data]) -> None:
        if not self._database.in_transaction:  # else it was asked for before that began, or before it was acknowledged
            require_space(self._database, len(batch) * CHUNK_BYTES)
        whole = sorted(position for position, data in batch.items() if len(data) == CHUNK_BYTES)
        in_slots = whole if len(whole) >= _BULK_CHUNKS and self._database.slots.usable else []
        hashes = {position: hashes_of(data) for position, data in batch.items()}
        with self._database.joined():
            for position in batch.keys() - in_slots:
                self._store_chunk(position, batch[position], hashes[position])
            slots = self._database.slots.allocate(len(in_slots)) if in_slots else []
            for position, slot, count in _runs(in_slots, slots):
                self._point_to_slots(position, slot, [hashes[at] for at in range(position, position + count)])
        # Nobody else sees the draft, so its slots can be filled when the lock is free again.
        if slots:
            written = self._database.slots.write([(slot, batch[at]) for at, slot in zip(in_slots, slots, strict=True)])
            self._unsynced = written if self._unsynced is None else self._unsynced
        self._storing = {}
        if self._database.log.checkpoint_due():
            # Whoever writes much waits for the log to be written back: it grows no further than that.
            self._database.log.checkpoint()

    def sync(self) -> None:
        if self._unsynced is not None:
            self._database.slots.sync(self._unsynced)
            self._unsynced = None

    def seal(self) -> None:
        assert not self._changed, "everything is stored before a draft is sealed"
        self._database.rows(
            "INSERT OR REPLACE INTO content SELECT ?1, ?2, NULL, NULL, count(*) FROM extent WHERE content = ?1",
            (self._number, self.size),
        )

    def close(self) -> None:
        self._changed = {}

    def _store_chunk(self, position: int, data: Data, hashes: bytes) -> None:
        old, _ = self._extent(position)
        # A slot is written once: what it holds may be needed again after a power cut.
        if old > 0 and self._database.row(_SHARED, (old, self._number)) is None:
            self._database.rows("UPDATE chunk SET data = ? WHERE id = ?", (data, old))
            self._database.rows(
                "UPDATE extent SET hashes = ? WHERE content = ? AND position = ?", (hashes, self._number, position)
            )
            return
        chunk = self._database.value("INSERT INTO chunk (data) VALUES (?) RETURNING id", (data,))
        self._database.rows(
            "INSERT OR REPLACE INTO extent VALUES (?, ?, ?, ?)", (self._number, position, chunk, hashes)
        )
        if old:
            drop_unshared(self._database, old)

    def _point_to_slots(self, position: int, slot: int, hashes: list[bytes]) -> None:
        """Let positions of the value, one behind the other, be slots that lie so too; one for each of `hashes`."""
        span = self._number, position, position + len(hashes) - 1
        old = self._database.rows(
            "DELETE FROM extent WHERE content = ? AND position BETWEEN ? AND ? RETURNING chunk", span
        )
        self._database.rows(_INSERT_RUN, (*span, -1 - slot + position, b"".join(hashes), _HASHES_OF_SLOT))
        for (chunk,) in old:
            drop_unshared(self._database, chunk)

    def _chunk(self, position: int) -> Data:
        held = self._changed.get(position)
        if held is None:
            held = self._storing.get(position)
        if held is not None:
            return held
        # What is not held any more has been stored, perhaps just now and by another thread.
        self._database.writes.read_anew()
        return read_chunk(self._database, self._number, self._extent(position))

    def _extent(self, position: int) -> Extent:
        """What is stored at a position."""
        row = self._database.row(
            "SELECT chunk, hashes FROM extent WHERE content = ? AND position = ?", (self._number, position)
        )
        return HOLE if row is None else (row[0], row[1])

    def _changeable(self, position: int) -> bytearray:
        chunk = self._changed.get(position)
        if not isinstance(chunk, bytearray):
            # A copy also of what is being stored: the other thread must not see it change.
            chunk = bytearray(self._chunk(position))
            self._changed[position] = chunk
        return chunk
