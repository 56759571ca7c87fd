"""Acknowledged Puts on their way to the catalog: the journal, shared transactions, what a kill or full disk leaves."""

import pytest

from engine import Store
from engine.catalog.puts import How, Put
from engine.drafts import Draft
from engine.journal import Entry, Journal
from tests.support.acknowledging import APP, ON_THE_DISK, OPEN, after_death, check_after_death, journals, put_later
from tests.support.invariants import check_nothing_left
from tests.support.stores import Stores, directory, keys, new_draft, new_put, reclaim_all, run_process, values

# What a kill leaves


def test_what_was_published_later_and_not_committed(store: Store, stores: Stores) -> None:
    """Each is there, in the order of the closes."""
    check_after_death(
        store,
        stores,
        """
for number in range(30):
    release(*close(b"k%d" % (number % 7), b"value %d" % number))
assert store.database.writes.open
""",
        {b"k%d" % (number % 7): b"value %d" % number for number in range(23, 30)},
    )
    assert journals(stores) == []


def test_what_was_committed_is_not_published_again(store: Store, stores: Stores) -> None:
    check_after_death(
        store,
        stores,
        """
for number in range(5):
    release(*close(b"k", b"value %d" % number))
store.publisher.settle()
store.put_object(app, b"k", b"newer", force=True)
release(*close(b"other", b"value"))
""",
        {b"k": b"newer", b"other": b"value"},
    )


def test_an_intent_that_others_overtook(store: Store, stores: Stores) -> None:
    """Closed first and published last, or never: it is not lost when the ones behind it are committed."""
    check_after_death(
        store,
        stores,
        """
first = close(b"first", b"1")
second = close(b"second", b"2")
release(*close(b"third", b"3"))
store.publisher.settle()
release(*second)
store.publisher.settle()
""",
        {b"first": b"1", b"second": b"2", b"third": b"3"},
    )


def test_an_intent_that_was_withdrawn(store: Store, stores: Stores) -> None:
    check_after_death(
        store,
        stores,
        """
put, draft, _ = close(b"withdrawn", b"value")
store.publisher.retract(put.ino, draft, 1)
put, draft, intent = close(b"changed", b"before")
draft.write(0, b"later!")
store.publisher.prepare(put, draft, 1)
put, draft, _ = close(b"abandoned", b"value")
store.publisher.abandon(draft, put.ino, 1)
""",
        {b"changed": b"later!"},
    )


def test_an_intent_that_was_withdrawn_from_the_table(store: Store, stores: Stores) -> None:
    """Its value is a draft until it is acknowledged again; then it is not deleted with the drafts of the dead."""
    store = after_death(
        store,
        stores,
        """
put, draft, _ = close(b"k", b"value")
release(*close(b"other", b"published meanwhile", 2))
store.publisher.retract(put.ino, draft, 1)
draft.write(draft.size, b" and more")
store.publisher.prepare(put, draft, 1)
release(*close(b"other", b"published once more", 2))
store.publisher.settle()
""",
    )
    reclaim_all(store)
    assert values(store, APP) == {b"k": b"value and more", b"other": b"published once more"}
    check_nothing_left(store)


def test_a_small_value_that_became_a_large_one(store: Store, stores: Stores) -> None:
    check_after_death(
        store,
        stores,
        """
put, draft, _ = close(b"k", b"small")
draft.write(draft.size, b"large" * 50_000)
store.publisher.prepare(put, draft, 1)
release(*close(b"other", b"value"))
""",
        {b"k": b"small" + b"large" * 50_000, b"other": b"value"},
    )


# What a power cut leaves


def after_power_cut(store: Store, stores: Stores, program: str) -> Store:
    """As `after_death`, with the catalog as it was when `program` called `on_the_disk()`: the journal is newer."""
    stores.close(store)
    run_process(OPEN + ON_THE_DISK + program + "\ndie()", str(stores.path), expected=-9)
    for ending in ("", "-wal"):
        stores.path.with_name(f"{stores.path.name}{ending}.synced").replace(f"{stores.path}{ending}")
    stores.path.with_name(f"{stores.path.name}-shm").unlink()
    return stores.open()


def test_numbers_that_the_catalog_does_not_know_of(store: Store, stores: Stores) -> None:
    """They are given out again: what was recovered keeps its value all the same."""
    store = after_power_cut(
        store,
        stores,
        """
release(*close(b"synced", b"1"))
store.publisher.settle()
on_the_disk()
for _ in range(1024):
    store.contents.numbers.take()
for number in range(20):
    close(b"old%d" % number, b"value %d" % number)
""",
    )
    wanted = {b"synced": b"1"} | {b"old%d" % number: b"value %d" % number for number in range(20)}
    assert values(store, APP) == wanted
    top = directory(store, APP)
    opened = [(new_put(store, top, b"new%d" % number), new_draft(store, b"newer %d" % number)) for number in range(20)]
    for put, draft in opened:
        store.publisher.publish(put, draft)
    assert values(store, APP) == wanted | {b"new%d" % number: b"newer %d" % number for number in range(20)}
    check_nothing_left(store)


def test_a_table_that_is_older_than_the_journal(store: Store, stores: Stores) -> None:
    """The newer value of the two counts, and nothing is left of the other."""
    store = after_power_cut(
        store,
        stores,
        """
put, draft, intent = close(b"k", b"old")
release(*close(b"other", b"which has moved the first to the table", 2))
store.publisher.settle()
on_the_disk()
store.publisher.publish(new_put(store, top, b"k"), draft, intent)
draft.write(0, b"new")
store.publisher.prepare(put, draft, 1)
""",
    )
    assert values(store, APP)[b"k"] == b"new"
    check_nothing_left(store)


def test_a_journal_that_is_older_than_a_withdrawal(store: Store, stores: Stores) -> None:
    """The catalog says that what was withdrawn is not to be published, so the journal may be of any earlier moment."""
    check_after_death(
        store,
        stores,
        """
put, draft, _ = close(b"k", b"half")
older = store.publisher.journal_path.read_bytes()
store.publisher.abandon(draft, put.ino, 1)
store.put_object(app, b"k", b"whole, of another")
store.publisher.journal_path.write_bytes(older)
""",
        {b"k": b"whole, of another"},
    )


# In order


def test_what_is_not_published_at_the_end(store: Store, stores: Stores) -> None:
    """It waits in the table for who opens the store next; the journal goes."""
    put, draft = new_put(store, directory(store, APP), b"closed"), new_draft(store, b"value")
    store.publisher.prepare(put, draft, 1)
    assert len(journals(stores)) == 1
    store = stores.reopen(store)
    assert journals(stores) == []
    assert values(store, APP) == {b"closed": b"value"}


def test_the_journal_of_a_session_that_is_gone(store: Store, stores: Stores) -> None:
    """As a kill leaves it, between the recovery and the deletion of the file."""
    forgotten = stores.path.with_name(f"{stores.path.name}-puts-999")
    Journal(forgotten).append(Entry(1, 5, 1, None, b""))
    other = stores.path.with_name("other.db-puts-999")
    other.write_bytes(b"")
    store = stores.reopen(store)
    assert not forgotten.exists()
    assert other.exists()


def test_a_session_that_begins_while_another_store_is_tidied(
    store: Store, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its journal is not taken for a forgotten one because the list of sessions is older than it."""
    other = stores.open()
    put, draft = new_put(store, directory(store, APP), b"closed"), new_draft(store, b"value")
    listed = other.sessions.listed

    def and_then_another_begins() -> set[int]:
        sessions = listed()
        store.publisher.prepare(put, draft, 1)
        return sessions

    monkeypatch.setattr(other.sessions, "listed", and_then_another_begins)
    other.publisher.tidy()
    assert len(journals(stores)) == 1


def test_others_see_at_once_what_is_published_later(store: Store, stores: Stores) -> None:
    """With another process at the store, nobody keeps the lock that it may be waiting for."""
    other = stores.open()
    other.sessions.ensure()
    put_later(store, b"k", b"value")
    assert not store.database.writes.open
    assert values(other, APP) == {b"k": b"value"}


def test_an_append_that_makes_a_value_large_is_committed_at_once(store: Store) -> None:
    """Large values are read in other threads, which see what is committed."""
    top = directory(store, APP)
    store.put_object(APP, b"k", b"x" * 60_000)
    for piece, large in ((b"y" * 1_000, False), (b"z" * 10_000, True)):
        put, draft = new_put(store, top, b"k", How.APPEND), new_draft(store, piece)
        store.publisher.prepare(put, draft, 1)
        store.publisher.publish(put, draft, (put.ino, 1), later=True)
        assert store.database.writes.open is not large
    assert values(store, APP) == {b"k": b"x" * 60_000 + b"y" * 1_000 + b"z" * 10_000}


def test_the_journal_stays_short(store: Store, stores: Stores) -> None:
    for number in range(200):
        put_later(store, b"k", b"x" * 50_000)
        if number % 4 == 0:
            store.publisher.settle()
    assert journals(stores)[0].stat().st_size < 1024 * 1024


def test_what_stays_unpublished_does_not_make_the_journal_grow(store: Store, stores: Stores) -> None:
    top = directory(store, APP)
    kept = [(new_put(store, top, b"k%d" % number), new_draft(store, b"x" * 60_000)) for number in range(100)]
    for number, (put, draft) in enumerate(kept):
        store.publisher.prepare(put, draft, number)
    assert journals(stores)[0].stat().st_size < 5 * 1024 * 1024
    for number, (put, draft) in enumerate(kept):
        store.publisher.publish(put, draft, (put.ino, number), later=True)
    store.publisher.settle()
    assert len(keys(store, APP)) == 50
    check_nothing_left(store)


def acknowledge_until_full(store: Store) -> tuple[Put, Draft]:
    """A Put with handle 1 that was acknowledged until the journal is as long as it may be, and longer."""
    put, draft = new_put(store, directory(store, APP), b"k"), new_draft(store, b"x" * 60_000)
    while store.publisher.journal_path is None or store.publisher.journal_path.stat().st_size <= 4 * 1024 * 1024:
        store.publisher.prepare(put, draft, 1)
    return put, draft


def test_the_newest_value_counts_when_the_journal_begins_again(store: Store, stores: Stores) -> None:
    check_after_death(
        store,
        stores,
        """
from tests.engine.acknowledged.test_intents import acknowledge_until_full
put, draft = acknowledge_until_full(store)
draft.write(0, b"newer")
store.publisher.prepare(put, draft, 1)
""",
        {b"k": b"newer" + b"x" * 59_995},
    )


@pytest.mark.parametrize("acknowledged_again", [False, True])
def test_a_withdrawal_when_the_journal_begins_again(store: Store, stores: Stores, acknowledged_again: bool) -> None:
    put, draft = acknowledge_until_full(store)
    if acknowledged_again:
        draft.write(0, b"newer")
        store.publisher.prepare(put, draft, 1)
    store.publisher.abandon(draft, put.ino, 1)
    store.put_object(APP, b"k", b"of another", force=True)
    store = stores.reopen(store)
    assert values(store, APP) == {b"k": b"of another"}
    check_nothing_left(store)
