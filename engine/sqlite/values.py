"""The embedded content engine's values, by their numbers: in the store's own file, in the catalog's own transactions.

A value of up to `SMALL_BYTES` is one row. A larger one is a list of chunks, which copies share, so that a copy of
any size costs a row per chunk and no bytes: appends, edits in place and fsync in the middle of a write rest on that.
"""

from collections.abc import Iterator

from engine.drafts import SMALL_BYTES
from engine.errors import NotFoundError
from engine.sqlite.chunks import ChunkedDraft
from engine.sqlite.database import Database
from engine.sqlite.extents import delete_chunks, read_chunks, read_chunks_now, require_complete, stored_ranges
from engine.sqlite.fullness import require_space
from engine.sqlite.hashing import check_small, hash_of

_DELETED_AT_ONCE = 8
"""Chunks that are deleted in one step: a row of a chunk is 64 pages."""
_PUT_SMALL = "INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?, NULL)"
_READ = "SELECT size, data, hash, extents FROM content WHERE number = ?"
_SHARE_CHUNKS = "INSERT INTO extent SELECT ?, position, chunk, hashes FROM extent WHERE content = ?"


class Values:
    """The values in one SQLite file. What writes does so in the caller's transaction, where there is one."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def size(self, number: int) -> int:
        """Raises NotFoundError."""
        row = self.database.row("SELECT size FROM content WHERE number = ?", (number,))
        if row is None:
            raise _missing(number)
        return int(row[0])

    def has(self, number: int) -> bool:
        return self.database.row("SELECT 1 FROM content WHERE number = ?", (number,)) is not None

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Raises NotFoundError and DamagedError."""
        found = self.database.row(_READ, (number,))
        if found is None:
            raise _missing(number)
        size, data, stored_hash, extents = found
        if data is not None:
            check_small(number, data, stored_hash)
            return bytes(data[offset : offset + length])
        return read_chunks(self.database, number, offset, max(0, min(length, size - offset)), extents)

    def stored_ranges(self, number: int) -> Iterator[tuple[int, int]]:
        """As the engine's. Raises NotFoundError, and DamagedError in the end when there are fewer than there were."""
        found = self.database.row("SELECT size, data IS NULL, extents FROM content WHERE number = ?", (number,))
        if found is None:
            raise _missing(number)
        size, is_large, extents = found
        return stored_ranges(self.database, number, size, extents) if is_large else iter([(0, size)] if size else [])

    def read_now(self, number: int, offset: int, length: int) -> bytearray | None:
        """A part of a large value that can be read without waiting for the disk; None when it cannot."""
        return read_chunks_now(self.database, number, offset, length)

    def put_small(self, number: int, content: bytes) -> None:
        """Keep a small value under a number that has no large one."""
        value = bytes(content)
        self.database.rows(_PUT_SMALL, (number, len(value), value, hash_of(value)))

    def copy(self, source: int, target: int) -> None:
        """Give `target`, which has none, the value of `source`; the two share their chunks."""
        with self.database.joined():
            self.database.rows(
                "INSERT INTO content SELECT ?, size, data, hash, extents FROM content WHERE number = ?",
                (target, source),
            )
            self.database.rows(_SHARE_CHUNKS, (target, source))

    def large_draft(self, number: int, base: int) -> ChunkedDraft:
        """Begin a large value under a free number, from the value of `base` where that is not 0."""
        size = self.size(base) if base else 0
        if base:
            if not self.database.in_transaction:
                require_space(self.database, SMALL_BYTES)
            with self.database.joined():
                self._copy_as_extents(base, number)
        return ChunkedDraft(self.database, number, size)

    def _copy_as_extents(self, base: int, number: int) -> None:
        is_large, extents = self.database.only_row(
            "SELECT data IS NULL, extents FROM content WHERE number = ?", (base,)
        )
        if is_large:
            require_complete(self.database, base, extents)  # or what is missing would be a hole from now on
            self.database.rows(_SHARE_CHUNKS, (number, base))
        else:
            draft = ChunkedDraft(self.database, number)
            draft.write(0, self.read(base, 0, SMALL_BYTES))
            draft.store(draft.take())

    def delete(self, number: int) -> bool:
        """Delete a value, and what there is of one that was never sealed. Returns whether there was a value."""
        with self.database.joined():
            delete_chunks(self.database, number)
            return bool(self.database.rows("DELETE FROM content WHERE number = ? RETURNING 1", (number,)))

    def delete_some(self, number: int) -> bool:
        """Delete a part of a value, at most 2 MiB; True when nothing is left. For sweeping in small steps."""
        with self.database.joined():
            if self.database.rows("DELETE FROM content WHERE number = ? AND data IS NOT NULL RETURNING 1", (number,)):
                return True
            if delete_chunks(self.database, number, limit=_DELETED_AT_ONCE):
                return False
            self.database.rows("DELETE FROM content WHERE number = ?", (number,))
            return True


def _missing(number: int) -> NotFoundError:
    return NotFoundError(f"there is no value {number}")
