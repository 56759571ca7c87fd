"""The embedded content engine as any other is: values by their keys.

The keys of the store's own values say their numbers, and are kept nowhere. Other keys, of whoever uses the
engine without a store, are in a table.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import ClassVar

from engine.drafts import SMALL_BYTES
from engine.errors import ExistsError, NotFoundError
from engine.interface import ObjectEngine, check_key, check_range
from engine.sqlite import migrations
from engine.sqlite.chunks import ChunkedDraft
from engine.sqlite.database import Database
from engine.sqlite.extents import CHUNK_BYTES
from engine.sqlite.values import Values

_STREAM_BYTES = 16 * CHUNK_BYTES
"""How much of a stream is gathered before it is stored in one transaction."""

_NUMBER = re.compile("[0-7][0-9a-f]{15}")
_KEYS = (
    "SELECT key FROM (SELECT id || printf('/%016x', number) AS key FROM content, store"
    " WHERE number NOT IN (SELECT content FROM named_content) UNION ALL SELECT key FROM named_content)"
    " WHERE key >= ? AND key < CAST(? AS TEXT) ORDER BY key"
)


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
        self.values = Values(database)
        self._prefix = f"{database.value('SELECT id FROM store')}/"

    def get_object(self, key: str) -> bytes:
        with self._moment():
            return self.read_object(key, 0, self.object_size(key))

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        if len(content) > SMALL_BYTES:
            self.put_stream(key, [content], force)
            return
        with self.database.joined():
            self.values.put_small(self._free(key, force), content)

    def list_object_keys(self, prefix: str = "") -> list[str]:
        # Keys are compared by their bytes: everything with the prefix lies between it and its successor.
        after = prefix.encode() + b"\xff"
        return [key for (key,) in self.database.rows(_KEYS, (prefix, after))]

    def delete_object(self, key: str) -> None:
        with self.database.joined():
            self.values.delete(self._existing(key))
            self.database.rows("DELETE FROM named_content WHERE key = ?", (key,))

    def object_size(self, key: str) -> int:
        return self.values.size(self._existing(key))

    def read_object(self, key: str, offset: int, length: int) -> bytes:
        check_range(offset, length)
        with self._moment():
            return self.values.read(self._existing(key), offset, length)

    def stored_ranges(self, key: str) -> Iterator[tuple[int, int]]:
        return self.values.stored_ranges(self._existing(key))

    def put_stream(self, key: str, chunks: Iterable[bytes], force: bool = False) -> None:
        # Stored aside, so that a stream that breaks off leaves nothing; moved to its key in one small transaction.
        if not force and self._find(key) is not None:
            raise _taken(key)
        with self.database.joined():
            aside = self._new_number()
        draft = ChunkedDraft(self.database, aside)
        try:
            for piece in chunks:
                draft.write(draft.size, bytes(piece))
                if draft.unstored_bytes >= _STREAM_BYTES:
                    draft.store(draft.take(whole=True))
            draft.store(draft.take())
            draft.sync()
            with self.database.joined():
                number = self._free(key, force)
                draft.seal()
                self.database.rows("UPDATE content SET number = ? WHERE number = ?", (number, aside))
                self.database.rows("UPDATE extent SET content = ? WHERE content = ?", (number, aside))
        except BaseException:
            self.values.delete(aside)
            raise

    def copy_object(self, source: str, target: str) -> None:
        """Give `target` the value of `source`; the two share their chunks."""
        with self.database.joined():
            number = self._existing(source)
            self.values.copy(number, self._free(target, force=False))

    def sync(self) -> None:
        self.database.log.sync()

    def close(self) -> None:
        if self._own is not None:
            self._own.close()

    def _moment(self) -> AbstractContextManager[None]:
        """One moment of the database for several statements; a store's own values never change, so it needs none."""
        return nullcontext() if self._own is None else self.database.snapshot()

    def _find(self, key: str) -> int | None:
        """The number of a key's value, where it has one."""
        check_key(key)
        number = self._own_number(key)
        if number is None:
            row = self.database.row("SELECT content FROM named_content WHERE key = ?", (key,))
            return None if row is None else int(row[0])
        return number if self.values.has(number) else None

    def _existing(self, key: str) -> int:
        number = self._find(key)
        if number is None:
            raise NotFoundError(f"there is no key {key!r}")
        return number

    def _free(self, key: str, force: bool) -> int:
        """A number for the new value of a key, with the old one deleted where `force` says so; else ExistsError."""
        old = self._find(key)
        if old is not None:
            if not force:
                raise _taken(key)
            self.values.delete(old)
            return old
        number = self._own_number(key)
        if number is None:
            number = self._new_number()
            self.database.rows("INSERT INTO named_content VALUES (?, ?)", (key, number))
        return number

    def _own_number(self, key: str) -> int | None:
        """The number that a key of the store's own values says."""
        number = key[len(self._prefix) :] if key.startswith(self._prefix) else ""
        return int(number, 16) if _NUMBER.fullmatch(number) else None

    def _new_number(self) -> int:
        return int(self.database.value("UPDATE store SET next_id = next_id + 1 RETURNING next_id - 1"))


def _taken(key: str) -> ExistsError:
    return ExistsError(f"the key {key!r} exists")
