"""A disk that becomes full in the middle of something: nothing of it happens, or all of it, and once."""

from collections.abc import Sequence
from typing import Any

import pytest

from engine import Store
from engine.catalog.puts import How, Put
from engine.drafts import Draft
from engine.sqlite.database import Database
from tests.support.acknowledging import APP
from tests.support.invariants import check_nothing_left
from tests.support.stores import Stores, directory, new_draft, new_put, value

CHUNK = 256 * 1024


@pytest.fixture
def store(stores: Stores) -> Store:
    store = stores.open()
    store.create_pipeline(APP.name)
    return store


@pytest.fixture
def full_in_between(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While it holds True, the database cannot grow where a chunk does, until SQLite has said so and undone all."""
    full = [False]
    rows = Database.rows

    def growing(self: Database, sql: str, arguments: Sequence[Any] = ()) -> list[Any]:
        if not full[0] or not sql.startswith("UPDATE chunk"):
            return rows(self, sql, arguments)
        full[0] = False
        rows(self, f"PRAGMA max_page_count = {rows(self, 'PRAGMA page_count')[0][0]}")
        try:
            return rows(self, sql, arguments)
        finally:
            assert not self.in_sqlite_transaction, "SQLite has undone it"
            self._main.execute("PRAGMA max_page_count = 4294967294")

    monkeypatch.setattr(Database, "rows", growing)
    return full


def large_append(store: Store, size: int) -> tuple[Put, Draft]:
    put = new_put(store, directory(store, APP), b"k", How.APPEND)
    draft = new_draft(store, b"b" * size)
    store.publisher.prepare(put, draft, 1)
    return put, draft


def test_an_append_that_fills_the_disk_in_its_transaction_happens_once(
    store: Store, full_in_between: list[bool]
) -> None:
    """SQLite undoes the whole transaction by itself: all of it is tried again, and nothing of it outside of one."""
    old = b"a" * 100_000
    store.put_object(APP, b"k", old)
    put, draft = large_append(store, 6 * CHUNK)
    full_in_between[0] = True
    store.publisher.publish(put, draft, (put.ino, 1))
    assert not full_in_between[0], "it was full"
    assert value(store, APP, b"k") == old + b"b" * (6 * CHUNK)
    store.publisher.publish_later(put, put.ino, 1)
    assert store.publisher.publish_again().nodes == []
    check_nothing_left(store)
