"""The embedded content engine: values in the store's own file, in the catalog's own transactions.

A value of up to `SMALL_BYTES` is one row. A larger one is a list of chunks, which copies share, so that a copy of
any size costs a row per chunk and no bytes: appends, edits in place and fsync in the middle of a write rest on that.
"""

import secrets
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import ClassVar

from engine.drafts import SMALL_BYTES
from engine.errors import ExistsError, NotFoundError
from engine.interface import ObjectEngine, check_key, check_range
from engine.sqlite import migrations
from engine.sqlite.chunks import ChunkedDraft
from engine.sqlite.database import Database
from engine.sqlite.extents import CHUNK_BYTES, delete_chunks, read_chunks, read_chunks_now
from engine.sqlite.hashing import check_small, hash_of

_DELETED_AT_ONCE = 8
"""Chunks that are deleted in one step: a row of a chunk is 64 pages."""
_PUT_SMALL = "INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?, NULL)"
_SHARE_CHUNKS = "INSERT INTO extent SELECT ?, position, chunk, hashes FROM extent WHERE key = ?"
_STREAM_BYTES = 16 * CHUNK_BYTES
"""How much of a stream is gathered before it is stored in one transaction."""


class SqliteEngine(ObjectEngine):
    """Values in an SQLite file. `options["path"]` is a store's file, made when missing; or share a `Database`."""

    shares_catalog: ClassVar[bool] = True

    def __init__(self, options: Mapping[str, str], database: Database | None = None) -> None:
        self._own: Database | None = None
        if database is None:
            path = Path(options["path"])
            migrations.check_file(path)
            self._own = database = Database(path)
            migrations.prepare(database, "sqlite", object_limit=0, run_expiry=0, max_object_size=0)
        self.database = database

    def get_object(self, key: str) -> bytes:
        with self._moment():
            return self.read_object(key, 0, self.object_size(key))

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        if len(content) > SMALL_BYTES:
            self.put_stream(key, [content], force)
            return
        check_key(key)
        with self.database.joined():
            if force:
                self._delete(key)
            elif self._row(key) is not None:
                raise ExistsError(f"the key {key!r} exists")
            self.replace_small(key, content)

    def replace_small(self, key: str, content: bytes) -> None:
        """Store a small value under a key that has no large one, in the caller's transaction: the quick way."""
        value = bytes(content)
        self.database.rows(_PUT_SMALL, (key, len(value), value, hash_of(value)))

    def list_object_keys(self, prefix: str = "") -> list[str]:
        # Keys are compared by their bytes: everything with the prefix lies between it and its successor.
        after = prefix.encode() + b"\xff"
        return [
            key
            for (key,) in self.database.rows(
                "SELECT key FROM content WHERE key >= ? AND key < CAST(? AS TEXT) ORDER BY key", (prefix, after)
            )
        ]

    def delete_object(self, key: str) -> None:
        check_key(key)
        with self.database.joined():
            if not self._delete(key):
                raise NotFoundError(f"there is no key {key!r}")

    def object_size(self, key: str) -> int:
        check_key(key)
        row = self._row(key)
        if row is None:
            raise NotFoundError(f"there is no key {key!r}")
        return row[0]

    def read_object(self, key: str, offset: int, length: int) -> bytes:
        check_key(key)
        check_range(offset, length)
        with self._moment():
            found = self.database.row("SELECT size, data, hash, extents FROM content WHERE key = ?", (key,))
            if found is None:
                raise NotFoundError(f"there is no key {key!r}")
            size, data, stored_hash, extents = found
            if data is not None:
                check_small(key, data, stored_hash)
                return bytes(data[offset : offset + length])
            return read_chunks(self.database, key, offset, max(0, min(length, size - offset)), extents)

    def read_now(self, key: str, offset: int, length: int) -> bytearray | None:
        """A part of a large value that can be read without waiting for the disk; None when it cannot."""
        return read_chunks_now(self.database, key, offset, length)

    def put_stream(self, key: str, chunks: Iterable[bytes], force: bool = False) -> None:
        # Stored aside, so that a stream that breaks off leaves nothing; moved to its key in one small transaction.
        check_key(key)
        if not force and self._row(key) is not None:
            raise ExistsError(f"the key {key!r} exists")
        # The NUL makes it a key that nobody can ask for, the random part one that no other stream has.
        aside = f"\0{secrets.token_hex(16)}"
        draft = ChunkedDraft(self.database, aside)
        try:
            for piece in chunks:
                draft.write(draft.size, bytes(piece))
                if draft.unstored_bytes >= _STREAM_BYTES:
                    draft.store(draft.take(whole=True))
            draft.store(draft.take())
            draft.sync()
            with self.database.joined():
                if force:
                    self._delete(key)
                elif self._row(key) is not None:
                    raise ExistsError(f"the key {key!r} exists")
                draft.seal()
                self.database.rows("UPDATE content SET key = ? WHERE key = ?", (key, aside))
                self.database.rows("UPDATE extent SET key = ? WHERE key = ?", (key, aside))
        except BaseException:
            with self.database.joined():
                self._delete(aside)
            raise

    def copy_object(self, source: str, target: str) -> None:
        """Give `target` the value of `source`; the two share their chunks."""
        check_key(source)
        check_key(target)
        with self.database.joined():
            if self._row(source) is None:
                raise NotFoundError(f"there is no key {source!r}")
            if self._row(target) is not None:
                raise ExistsError(f"the key {target!r} exists")
            self.database.rows(
                "INSERT INTO content SELECT ?, size, data, hash, extents FROM content WHERE key = ?", (target, source)
            )
            self.database.rows(_SHARE_CHUNKS, (target, source))

    def large_draft(self, key: str, base: str | None) -> ChunkedDraft:
        """Begin a large value under a free key, from the value of `base` where one is given."""
        size = 0
        if base is not None:
            size = self.object_size(base)
            with self.database.joined():
                self._copy_as_extents(base, key)
        return ChunkedDraft(self.database, key, size)

    def _copy_as_extents(self, base: str, key: str) -> None:
        if self.database.value("SELECT data IS NULL FROM content WHERE key = ?", (base,)):
            self.database.rows(_SHARE_CHUNKS, (key, base))
        else:
            draft = ChunkedDraft(self.database, key)
            draft.write(0, self.read_object(base, 0, SMALL_BYTES))
            draft.store(draft.take())

    def delete_some(self, key: str) -> bool:
        """Delete a part of a value, at most 2 MiB; True when nothing is left. For sweeping in small steps."""
        with self.database.joined():
            if self.database.rows("DELETE FROM content WHERE key = ? AND data IS NOT NULL RETURNING 1", (key,)):
                return True
            if delete_chunks(self.database, key, limit=_DELETED_AT_ONCE):
                return False
            self.database.rows("DELETE FROM content WHERE key = ?", (key,))
            return True

    def sync(self) -> None:
        self.database.sync()

    def close(self) -> None:
        if self._own is not None:
            self._own.close()

    def _moment(self) -> AbstractContextManager[None]:
        """One moment of the database for several statements; a store's own values never change, so it needs none."""
        return nullcontext() if self._own is None else self.database.snapshot()

    def _row(self, key: str) -> tuple[int] | None:
        row = self.database.row("SELECT size FROM content WHERE key = ?", (key,))
        return None if row is None else (row[0],)

    def _delete(self, key: str) -> bool:
        delete_chunks(self.database, key)
        return bool(self.database.rows("DELETE FROM content WHERE key = ? RETURNING 1", (key,)))
