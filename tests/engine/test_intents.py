"""Acknowledged Puts on their way to the catalog: the journal, shared transactions, what a kill or full disk leaves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine import ScopeName, Store, journal
from engine.catalog.puts import How, Put
from engine.drafts import Draft
from engine.errors import NotFoundError, OutOfSpaceError
from engine.journal import Entry, Journal
from engine.sqlite import fullness
from engine.sqlite.database import Database
from tests.fuzz.targets.journal import framed
from tests.support.invariants import check_nothing_left, check_store
from tests.support.stores import Stores, directory, keys, new_draft, new_put, reclaim_all, run_process, values

APP = ScopeName.pipeline("app")
OPEN = """
store = open_store(ObjectStoreSettings(path=sys.argv[1]))
app = ScopeName.pipeline("app")
top = directory(store, app)

def close(name, content, number=1):
    put, draft = new_put(store, top, name), new_draft(store, content)
    store.publisher.prepare(put, draft, number)
    return put, draft, (put.ino, number)

def release(put, draft, intent):
    store.publisher.publish(put, draft, intent, later=True)
"""

REFUSING = """
from engine.errors import OutOfSpaceError
from engine.sqlite.database import Database
rows, refused = Database.rows, [False]

def refusing(self, sql, arguments=()):
    if refused[0] and sql == "COMMIT" and self.in_transaction:
        raise OutOfSpaceError("full")
    return rows(self, sql, arguments)

Database.rows = refusing
"""
ON_THE_DISK = """
import shutil

def on_the_disk():
    store.sync()
    for ending in ("", "-wal"):
        shutil.copyfile(sys.argv[1] + ending, sys.argv[1] + ending + ".synced")
"""


@pytest.fixture
def store(stores: Stores) -> Store:
    store = stores.open()
    store.create_pipeline(APP.name)
    return store


def after_death(store: Store, stores: Stores, program: str) -> Store:
    """Run `program`, which ends by SIGKILL, with the store open as `store`; then open the store again."""
    stores.close(store)
    run_process(OPEN + program + "\ndie()", str(stores.path), expected=-9)
    return stores.open()


def journals(stores: Stores) -> list[Path]:
    return sorted(stores.path.parent.glob(f"{stores.path.name}-puts-*"))


def put_later(store: Store, name: bytes, content: bytes) -> None:
    put, draft = new_put(store, directory(store, APP), name), new_draft(store, content)
    store.publisher.prepare(put, draft, 1)
    store.publisher.publish(put, draft, (put.ino, 1), later=True)


# What a kill leaves


def test_what_was_published_later_and_not_committed(store: Store, stores: Stores) -> None:
    """Each is there, in the order of the closes."""
    store = after_death(
        store,
        stores,
        """
for number in range(30):
    release(*close(b"k%d" % (number % 7), b"value %d" % number))
assert store.database.writes.open
""",
    )
    assert values(store, APP) == {b"k%d" % (number % 7): b"value %d" % number for number in range(23, 30)}
    check_nothing_left(store)
    assert journals(stores) == []


def test_what_was_committed_is_not_published_again(store: Store, stores: Stores) -> None:
    store = after_death(
        store,
        stores,
        """
for number in range(5):
    release(*close(b"k", b"value %d" % number))
store.publisher.settle()
store.put_object(app, b"k", b"newer", force=True)
release(*close(b"other", b"value"))
""",
    )
    assert values(store, APP) == {b"k": b"newer", b"other": b"value"}
    check_nothing_left(store)


def test_an_intent_that_others_overtook(store: Store, stores: Stores) -> None:
    """Closed first and published last, or never: it is not lost when the ones behind it are committed."""
    store = after_death(
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
    )
    assert values(store, APP) == {b"first": b"1", b"second": b"2", b"third": b"3"}
    check_nothing_left(store)


def test_an_intent_that_was_withdrawn(store: Store, stores: Stores) -> None:
    store = after_death(
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
    )
    assert values(store, APP) == {b"changed": b"later!"}
    check_nothing_left(store)


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
    store = after_death(
        store,
        stores,
        """
put, draft, _ = close(b"k", b"small")
draft.write(draft.size, b"large" * 50_000)
store.publisher.prepare(put, draft, 1)
release(*close(b"other", b"value"))
""",
    )
    assert values(store, APP) == {b"k": b"small" + b"large" * 50_000, b"other": b"value"}
    check_nothing_left(store)


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
    store = after_death(
        store,
        stores,
        """
put, draft, _ = close(b"k", b"half")
older = store.publisher.journal_path.read_bytes()
store.publisher.abandon(draft, put.ino, 1)
store.put_object(app, b"k", b"whole, of another")
store.publisher.journal_path.write_bytes(older)
""",
    )
    assert values(store, APP) == {b"k": b"whole, of another"}
    check_nothing_left(store)


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
    store = after_death(
        store,
        stores,
        """
from tests.engine.test_intents import acknowledge_until_full
put, draft = acknowledge_until_full(store)
draft.write(0, b"newer")
store.publisher.prepare(put, draft, 1)
""",
    )
    assert values(store, APP) == {b"k": b"newer" + b"x" * 59_995}
    check_nothing_left(store)


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


# A commit that fails


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While it holds True, nothing can be committed."""
    state = [False]
    rows = Database.rows

    def refusing(self: Database, sql: str, arguments: Sequence[Any] = ()) -> list[Any]:
        if state[0] and sql == "COMMIT" and self.in_transaction:
            raise OutOfSpaceError("the disk is full")
        return rows(self, sql, arguments)

    monkeypatch.setattr(Database, "rows", refusing)
    return state


@pytest.fixture
def full_for_a_moment(full: list[bool], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While it holds True, nothing can be committed before room was made."""
    monkeypatch.setattr(fullness, "make_room", lambda database: full.__setitem__(0, False))
    return full


def test_what_could_not_be_committed_is_published_again(store: Store, stores: Stores, full: list[bool]) -> None:
    put_later(store, b"before", b"value")
    store.publisher.settle()
    put_later(store, b"a", b"1")
    put_later(store, b"a", b"2")
    put_later(store, b"b", b"")
    full[0] = True
    with pytest.raises(OutOfSpaceError):
        store.publisher.settle()
    assert keys(store, APP) == [b"before"]
    with pytest.raises(OutOfSpaceError):
        store.publisher.publish_again()
    full[0] = False
    assert len(store.publisher.publish_again().nodes) == 3
    assert values(store, APP) == {b"before": b"value", b"a": b"2", b"b": b""}
    assert store.publisher.publish_again().nodes == []
    check_nothing_left(store)


def test_an_operation_that_shares_a_transaction_which_fails(store: Store, full: list[bool]) -> None:
    """It is told; what was published before it is not lost."""
    put_later(store, b"a", b"1")
    full[0] = True
    with pytest.raises(OutOfSpaceError):
        store.tree.make_directory(directory(store, APP), b"directory", 0o755, 0, 0)
    full[0] = False
    put_later(store, b"c", b"3")
    store.publisher.publish_again()
    assert values(store, APP) == {b"a": b"1", b"c": b"3"}
    check_nothing_left(store)


def test_a_put_that_fails_takes_no_other_along(store: Store) -> None:
    """It shares a transaction with what was published before it, and that is undone with it: and done again at once."""
    directory_, _, _ = store.tree.make_directory(directory(store, APP), b"directory", 0o755, 0, 0)
    put, draft = new_put(store, directory_.ino, b"k"), new_draft(store, b"value")
    store.publisher.prepare(put, draft, 1)
    store.tree.remove_directory(directory(store, APP), b"directory")
    put_later(store, b"a", b"1")
    put_later(store, b"b", b"2")
    with pytest.raises(NotFoundError):
        store.publisher.publish(put, draft, (put.ino, 1), later=True)
    assert values(store, APP) == {b"a": b"1", b"b": b"2"}
    store.publisher.abandon(draft, put.ino, 1)
    put_later(store, b"c", b"3")
    store.publisher.settle()
    check_nothing_left(store)


def test_the_last_to_close_wins_when_it_is_tried_again(store: Store, full_for_a_moment: list[bool]) -> None:
    put, draft = new_put(store, directory(store, APP), b"k"), new_draft(store, b"second")
    put_later(store, b"k", b"first")
    store.publisher.prepare(put, draft, 2)
    full_for_a_moment[0] = True
    store.publisher.publish(put, draft, (put.ino, 2))
    store.publisher.publish_again()
    assert values(store, APP) == {b"k": b"second"}
    check_nothing_left(store)


def test_what_was_removed_does_not_come_back_when_that_is_tried_again(
    store: Store, full_for_a_moment: list[bool]
) -> None:
    store.put_object(APP, b"k", b"old")
    put_later(store, b"k", b"new")
    full_for_a_moment[0] = True
    assert store.tree.remove(directory(store, APP), b"k")[0].size == len(b"new")
    store.publisher.publish_again()
    assert values(store, APP) == {}
    check_nothing_left(store)


def test_a_kill_after_a_withdrawal_that_could_not_be_committed(store: Store, stores: Stores) -> None:
    store = after_death(
        store,
        stores,
        REFUSING
        + """
put, draft, _ = close(b"k", b"value")
refused[0] = True
store.publisher.abandon(draft, put.ino, 1)
""",
    )
    assert values(store, APP) == {}
    check_nothing_left(store)


def test_a_kill_before_it_is_published_again(store: Store, stores: Stores) -> None:
    store = after_death(
        store,
        stores,
        REFUSING
        + """
release(*close(b"a", b"1"))
refused[0] = True
try:
    store.publisher.settle()
except OutOfSpaceError:
    pass
refused[0] = False
release(*close(b"b", b"2"))
store.publisher.settle()
""",
    )
    assert values(store, APP) == {b"a": b"1", b"b": b"2"}
    check_store(store)


# The file


def entry(number: int, value: bytes) -> Entry:
    return Entry.of(
        number, 1, Put(number, 16, b"name", 0o644, 1, 2, number, len(value), How.APPEND, 5, None, b"x"), value
    )


def test_an_entry_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Journal(tmp_path / "journal")
    wanted = [entry(1, b"value"), Entry(2, 1, 1, None, b""), entry(3, b"")]
    for item in wanted:
        written.append(item)
    assert journal.read(tmp_path / "journal") == wanted
    put = wanted[0].as_put()
    assert (put.ino, put.how, put.size, put.content, put.atime_ns, put.mtime_ns) == (1, How.APPEND, 5, 1, 5, None)
    assert wanted[2].as_put().content == 0
    written.remove()
    assert journal.read(tmp_path / "journal") == []


def test_a_journal_that_is_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written = Journal(path)
    ends = []
    for number in (1, 2, 3):
        written.append(entry(number, b"value" * number))
        ends.append(written.size)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        assert len(journal.read(path)) == sum(end <= length for end in ends), length


def test_a_journal_with_a_byte_changed(tmp_path: Path) -> None:
    """A bit that is wrong is turned back; of more, the entries that have none are read."""
    path = tmp_path / "journal"
    written = Journal(path)
    for number in (1, 2):
        written.append(entry(number, b"value"))
    whole = path.read_bytes()
    entries = journal.read(path)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert journal.examine(path, 0) == journal.Found(entries, True), at
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :])
        left = journal.read(path)
        length_is_wrong = at % (len(whole) // 2) < 4
        assert left == ([] if length_is_wrong else entries[1:]) if at < len(whole) // 2 else left == entries[:1], at


def test_what_is_left_behind_the_end_does_not_count(tmp_path: Path) -> None:
    """The journal began again, and what comes after its new end is from before, be it whole."""
    path = tmp_path / "journal"
    written = Journal(path)
    for number in (1, 2, 3):
        written.append(entry(number, b"value"))
    written.restart()
    written.append(entry(4, b"other"))
    assert [found.number for found in journal.read(path)] == [4]


@pytest.mark.parametrize("key", [b"", b"\xc1" + bytes(15)], ids=["none", "another"])
def test_what_is_left_of_a_value_is_no_entry(tmp_path: Path, key: bytes) -> None:
    """Whoever chooses the values must not be able to have something published by what is left of them."""
    forged = framed(msgspec.msgpack.encode(entry(9, b"forged")), key)
    path = tmp_path / "journal"
    written = Journal(path)
    written.append(entry(1, bytes(500) + forged))
    at = path.read_bytes().index(forged)
    written.restart()
    written.append(entry(2, bytes(300)))
    too_few = at - written.size
    written.restart()
    written.append(entry(2, bytes(300 + too_few)))
    assert written.size == at
    assert journal.examine(path, 1) == journal.Found([entry(2, bytes(300 + too_few))], False)


def test_a_journal_without_a_key(tmp_path: Path) -> None:
    """One that was written before there were keys."""
    entries = [entry(number, b"value") for number in (1, 2)]
    path = tmp_path / "journal"
    path.write_bytes(b"".join(framed(msgspec.msgpack.encode(item), b"") for item in entries))
    assert journal.read(path) == entries
