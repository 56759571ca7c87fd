"""A disk that becomes full in the middle of something: nothing of it happens, or all of it, and once."""

from collections.abc import Sequence
from typing import Any

import pytest

from engine import Store, disk
from engine.catalog.puts import How, Put
from engine.drafts import Draft
from engine.errors import OutOfSpaceError
from engine.sqlite.database import Database
from tests.support.acknowledging import APP, after_death
from tests.support.invariants import check_nothing_left
from tests.support.stores import Stores, directory, new_draft, new_put, value

CHUNK = 256 * 1024
MIB = 1024 * 1024


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


def test_an_acknowledged_append_needs_no_reserve(store: Store, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes a small value a large one here, when the store is opened after a kill; and then in the same process."""
    store.put_object(APP, b"k", b"a" * 60_000)
    acknowledge = """
from engine.catalog.puts import How
put, draft = new_put(store, top, b"k", How.APPEND), new_draft(store, b"b" * 9000)
store.publisher.prepare(put, draft, 1)
"""
    monkeypatch.setattr(disk, "free_bytes", lambda place: 5 * MIB)
    store = after_death(store, stores, acknowledge)
    assert value(store, APP, b"k") == b"a" * 60_000 + b"b" * 9000
    monkeypatch.undo()
    put, draft = large_append(store, 2 * CHUNK)
    monkeypatch.setattr(disk, "free_bytes", lambda place: 5 * MIB)
    store.publisher.publish(put, draft, (put.ino, 1))
    assert value(store, APP, b"k")[60_000:] == b"b" * (9000 + 2 * CHUNK)
    check_nothing_left(store)


@pytest.mark.parametrize("acknowledged", [True, False])
def test_an_append_that_there_is_no_room_to_publish_is_refused_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, acknowledged: bool
) -> None:
    """Both values have to fit, and the log with what is joined."""
    store.put_object(APP, b"k", b"old")
    put, draft = new_put(store, directory(store, APP), b"k", How.APPEND), new_draft(store, b"b" * (3 * MIB))
    store.contents.settle(draft)
    monkeypatch.setattr(disk, "free_bytes", lambda place: 10 * MIB)
    with pytest.raises(OutOfSpaceError):
        if acknowledged:
            store.publisher.prepare(put, draft, 1)
        else:
            store.publisher.publish(put, draft)
    assert value(store, APP, b"k") == b"old"
    store.publisher.abandon(draft)
    check_nothing_left(store)
