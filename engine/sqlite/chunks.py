"""Large values in SQLite: rows of up to 256 KiB, found through extents that copies of a value share."""

from engine.sqlite.database import Database
from engine.sqlite.fullness import again_when_full, require_space

CHUNK_BYTES = 256 * 1024

_FIND = "SELECT c.data FROM extent e JOIN chunk c ON c.id = e.chunk WHERE e.key = ? AND e.position = ?"
_FIND_PART = (
    "SELECT substr(c.data, ?, ?) FROM extent e JOIN chunk c ON c.id = e.chunk WHERE e.key = ? AND e.position = ?"
)


def read_chunks(database: Database, key: str, offset: int, length: int) -> bytes:
    """Read `length` bytes from `offset`, all of which lie within the value; holes are zeros."""
    pieces = []
    while length > 0:
        position, start = divmod(offset, CHUNK_BYTES)
        wanted = min(length, CHUNK_BYTES - start)
        row = database.row(_FIND_PART, (start + 1, wanted, key, position))
        # No row: a hole. NULL: the chunk ends before this part of it.
        piece = (row[0] or b"") if row is not None else b""
        pieces.append(piece if len(piece) == wanted else piece.ljust(wanted, b"\0"))
        offset += wanted
        length -= wanted
    return b"".join(pieces)


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
        database.rows(
            "DELETE FROM chunk WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM extent WHERE chunk = ?1)", (chunk,)
        )
    return limit is not None and len(rows) == limit


class ChunkedDraft:
    """A large value being written: changed chunks in memory until `store` writes them to rows of its own.

    A chunk that another value shares is never changed: its changed form gets a new row.
    """

    def __init__(self, database: Database, key: str, size: int = 0) -> None:
        self._database = database
        self._key = key
        self.size = size
        self._changed: dict[int, bytes | bytearray] = {}
        self._storing: dict[int, bytes | bytearray] = {}

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
                self._changed[position] = bytes(piece)
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

    def take(self) -> dict[int, bytes | bytearray]:
        self._storing, self._changed = self._changed, {}
        return self._storing

    @again_when_full
    def store(self, batch: object) -> None:
        assert isinstance(batch, dict)
        require_space(self._database, len(batch) * CHUNK_BYTES)
        with self._database.joined():
            for position, data in batch.items():
                self._store_chunk(position, data)
        self._storing = {}
        if self._database.checkpoint_due():
            # Whoever writes much waits for the log to be written back: it grows no further than that.
            self._database.checkpoint()

    def seal(self) -> None:
        assert not self._changed, "everything is stored before a draft is sealed"
        self._database.rows("INSERT OR REPLACE INTO content VALUES (?, ?, NULL)", (self._key, self.size))

    def close(self) -> None:
        self._changed = {}

    def _store_chunk(self, position: int, data: bytes | bytearray) -> None:
        own = self._database.row(
            "SELECT e.chunk FROM extent e WHERE e.key = ?1 AND e.position = ?2 AND NOT EXISTS"
            " (SELECT 1 FROM extent o WHERE o.chunk = e.chunk AND o.key <> ?1)",
            (self._key, position),
        )
        if own is not None:
            self._database.rows("UPDATE chunk SET data = ? WHERE id = ?", (data, own[0]))
            return
        chunk = self._database.value("INSERT INTO chunk (data) VALUES (?) RETURNING id", (data,))
        self._database.rows("INSERT OR REPLACE INTO extent VALUES (?, ?, ?)", (self._key, position, chunk))

    def _chunk(self, position: int) -> bytes | bytearray:
        held = self._changed.get(position)
        if held is None:
            held = self._storing.get(position)
        if held is not None:
            return held
        row = self._database.row(_FIND, (self._key, position))
        return row[0] if row is not None else b""

    def _changeable(self, position: int) -> bytearray:
        chunk = self._changed.get(position)
        if not isinstance(chunk, bytearray):
            # A copy also of what is being stored: the other thread must not see it change.
            chunk = bytearray(self._chunk(position))
            self._changed[position] = chunk
        return chunk
