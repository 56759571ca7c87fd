"""Intents that cannot be taken back for a while: what a writer was told is not to be never is, and leaves nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from engine import Store
from engine.catalog.puts import Put
from engine.drafts import Draft
from engine.errors import DamagedError, InternalError, OutOfSpaceError
from engine.journal import Entry, Journal
from engine.sqlite.database import Database
from tests.support.acknowledging import APP, REFUSING, after_death, journals, put_later, refused
from tests.support.invariants import check_nothing_left
from tests.support.stores import Stores, directory, new_draft, new_put, values

LARGE = b"half" * 25_000


def close(store: Store, name: bytes = b"k", value: bytes = LARGE, number: int = 1) -> tuple[Put, Draft]:
    put, draft = new_put(store, directory(store, APP), name), new_draft(store, value)
    store.publisher.prepare(put, draft, number)
    return put, draft


@contextmanager
def refused_by(full: list[bool]) -> Iterator[None]:
    full[0] = True
    with pytest.raises(OutOfSpaceError):
        yield
    full[0] = False


def give_up_in_vain(store: Store, full: list[bool], put: Put, draft: Draft) -> None:
    with refused_by(full):
        store.publisher.abandon(draft, put.ino, 1)


@pytest.fixture
def full_journal(full: list[bool], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While it holds True, nothing can be written to the journal either."""
    append = Journal.append

    def refusing(journal: Journal, entry: Entry) -> None:
        if full[0]:
            raise OutOfSpaceError("the disk is full")
        append(journal, entry)

    monkeypatch.setattr(Journal, "append", refusing)
    return full


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While it holds True, nothing can be deleted from the table of intents, and all else can be done."""
    state = [False]
    rows = Database.rows

    def refusing(self: Database, sql: str, arguments: Sequence[Any] = ()) -> list[Any]:
        if state[0] and sql.startswith("DELETE FROM intent"):
            raise DamagedError("a page is damaged")
        return rows(self, sql, arguments)

    monkeypatch.setattr(Database, "rows", refusing)
    return state


# While the process lives


def test_it_is_taken_back_once_that_can_be(store: Store, full: list[bool]) -> None:
    give_up_in_vain(store, full, *close(store))
    with refused_by(full):
        store.publisher.publish_again()
    assert store.publisher.publish_again().nodes == []
    put_later(store, b"other", b"value")
    store.publisher.settle()
    assert values(store, APP) == {b"other": b"value"}
    check_nothing_left(store)


@pytest.mark.parametrize(("engine", "others"), [("sqlite", False), ("sqlite", True), ("memory", False)])
def test_it_takes_no_room(stores: Stores, full: list[bool], engine: str, others: bool) -> None:
    """From the refusal on; also where another process has the store open, and each is asked what waits."""
    store = stores.open(engine=engine, max_bytes=150_000)
    store.create_pipeline(APP.name)
    other = stores.open(max_bytes=150_000) if others else None
    if other is not None:
        other.sessions.ensure()
    give_up_in_vain(store, full, *close(store))
    put, draft = close(store, b"other")
    store.publisher.publish(put, draft, (put.ino, 1))
    store.publisher.publish_again()
    assert values(store, APP) == {b"other": LARGE}
    if other is not None:
        stores.close(other)
    check_nothing_left(store)


def test_a_draft_without_an_intent(store: Store, full: list[bool]) -> None:
    draft = new_draft(store, LARGE)
    with refused_by(full):
        store.publisher.abandon(draft)
    store.publisher.publish_again()
    check_nothing_left(store)


def test_a_small_value_that_became_a_large_one(store: Store, full: list[bool]) -> None:
    """The intent is in the table and refers to the small one."""
    put, draft = close(store, value=b"small")
    put_later(store, b"other", b"moves the first to the table")
    draft.write(draft.size, LARGE)
    give_up_in_vain(store, full, put, draft)
    store.publisher.publish_again()
    assert list(values(store, APP)) == [b"other"]
    check_nothing_left(store)


# Who goes on writing


@pytest.mark.parametrize("tried_again", [False, True])
def test_who_writes_on_and_closes_again_is_published(store: Store, full: list[bool], tried_again: bool) -> None:
    """Whether or not the first was taken back meanwhile."""
    put, draft = close(store)
    with refused_by(full):
        store.publisher.retract(put.ino, draft, 1)
    if tried_again:
        store.publisher.publish_again()
    draft.write(draft.size, b" and the rest")
    store.publisher.prepare(put, draft, 1)
    store.publisher.publish_again()
    store.publisher.publish(put, draft, (put.ino, 1))
    store.publisher.publish_again()
    assert values(store, APP) == {b"k": LARGE + b" and the rest"}
    check_nothing_left(store)


@pytest.mark.parametrize("tried_again", [False, True])
def test_who_publishes_without_closing_again(store: Store, full: list[bool], tried_again: bool) -> None:
    put, draft = close(store)
    with refused_by(full):
        store.publisher.retract(put.ino, draft, 1)
    if tried_again:
        store.publisher.publish_again()
    store.publisher.publish(put, draft, (put.ino, 1))
    store.publisher.publish_again()
    assert values(store, APP) == {b"k": LARGE}
    check_nothing_left(store)


def test_what_is_to_be_published_later_after_all(store: Store, full: list[bool]) -> None:
    put, draft = close(store)
    with refused_by(full):
        store.publisher.retract(put.ino, draft, 1)
    store.publisher.publish_later(put, put.ino, 1)
    store.publisher.publish_again()
    assert values(store, APP) == {b"k": LARGE}
    check_nothing_left(store)


# What a kill leaves

RETRACT = "store.publisher.retract(put.ino, draft, 1)"
REFUSED = 'put, draft, _ = close(b"k", b"half" * 25_000)' + refused("store.publisher.abandon(draft, put.ino, 1)")
THEN = {
    "nothing": ("", []),
    "others are published": (
        """
release(*close(b"a", b"value", 2))
release(*close(b"b", b"value", 2))
store.publisher.settle()
""",
        [b"a", b"b"],
    ),
    "others overtake": (
        """
close(b"a", b"value", 2)
release(*close(b"b", b"value", 2))
store.publisher.settle()
close(b"c", b"value", 2)
""",
        [b"a", b"b", b"c"],
    ),
    "the journal begins again": (
        """
for number in range(80):
    close(b"a", b"x" * 60_000, number + 2)
""",
        [b"a"],
    ),
    "nothing waits when the journal begins again": (
        """
for number in range(80):
    release(*close(b"a", b"x" * 60_000, number + 2))
    store.publisher.settle()
""",
        [b"a"],
    ),
}


@pytest.mark.parametrize("then", THEN)
@pytest.mark.parametrize("before", ["", 'release(*close(b"a", b"value", 2))\nstore.publisher.settle()\n'])
def test_a_kill(store: Store, stores: Stores, before: str, then: str) -> None:
    """Whatever else was acknowledged and published meanwhile; with a journal that was there, and with a new one."""
    program, expected = THEN[then]
    store = after_death(store, stores, REFUSING + before + REFUSED + program)
    assert sorted({*values(store, APP)} - {b"a"}) == [name for name in expected if name != b"a"]
    check_nothing_left(store)


@pytest.mark.parametrize("then", ["", 'release(*close(b"other", b"value", 2))\nstore.publisher.settle()'])
@pytest.mark.parametrize("more", ["b''", "b'half' * 25_000"], ids=["small", "large"])
def test_a_kill_of_who_has_closed_again_what_was_in_the_journal(
    store: Store, stores: Stores, more: str, then: str
) -> None:
    """Which could not say for a while what is to be taken back."""
    program = f"""
from engine.journal import Journal
append = Journal.append

def full(journal, entry):
    if refused[0]:
        raise OutOfSpaceError("full")
    append(journal, entry)

Journal.append = full
put, draft, _ = close(b"k", b"small")
{refused(RETRACT)}
draft.write(draft.size, {more})
store.publisher.prepare(put, draft, 1)
"""
    store = after_death(store, stores, REFUSING + program + then)
    assert values(store, APP)[b"k"] == b"small" + eval(more)
    check_nothing_left(store)


def test_a_kill_of_who_has_closed_again(store: Store, stores: Stores) -> None:
    program = f"""
put, draft, _ = close(b"k", b"half" * 25_000)
{refused(RETRACT)}
draft.write(draft.size, b" and the rest")
store.publisher.prepare(put, draft, 1)
release(*close(b"other", b"value", 2))
store.publisher.settle()
"""
    store = after_death(store, stores, REFUSING + program)
    assert values(store, APP) == {b"k": LARGE + b" and the rest", b"other": b"value"}
    check_nothing_left(store)


# The end


def test_an_orderly_end(store: Store, stores: Stores, full: list[bool]) -> None:
    """It is taken back before the session ends."""
    give_up_in_vain(store, full, *close(store))
    stores.close(store)
    assert journals(stores) == []
    store = stores.open()
    assert values(store, APP) == {}
    check_nothing_left(store)


@pytest.mark.parametrize("size", [100, 100_000])
def test_an_end_without_a_journal(store: Store, stores: Stores, full_journal: list[bool], size: int) -> None:
    """Where it could be said nowhere, of a value that was in the journal too."""
    give_up_in_vain(store, full_journal, *close(store, value=b"x" * size))
    store = stores.reopen(store)
    assert values(store, APP) == {}
    check_nothing_left(store)


def test_an_end_after_which_it_is_still_to_be_taken_back(store: Store, stores: Stores, damaged: list[bool]) -> None:
    """The journal is left, for who recovers the session; what was acknowledged and not refused is published."""
    put, draft = close(store)
    close(store, b"other", b"value", 2)
    damaged[0] = True
    with pytest.raises(DamagedError):
        store.publisher.abandon(draft, put.ino, 1)
    with pytest.raises(DamagedError):
        store.publisher.publish_again()
    stores.close(store)
    assert len(journals(stores)) == 1
    damaged[0] = False
    store = stores.open()
    assert journals(stores) == []
    assert values(store, APP) == {b"other": b"value"}
    check_nothing_left(store)


def test_what_cannot_be_taken_back_holds_up_nobody(store: Store, stores: Stores, damaged: list[bool]) -> None:
    """Nor does the journal grow without end."""
    put, draft = close(store)
    damaged[0] = True
    with pytest.raises(DamagedError):
        store.publisher.abandon(draft, put.ino, 1)
    for number in range(200):
        put_later(store, b"other", b"%06d" % number * 10_000)
        store.publisher.settle()
    assert journals(stores)[0].stat().st_size < 5 * 1024 * 1024
    damaged[0] = False
    store.publisher.publish_again()
    assert values(store, APP) == {b"other": b"000199" * 10_000}
    check_nothing_left(store)


def test_while_a_file_of_the_store_is_gone(store: Store, stores: Stores) -> None:
    """No journal is made then: it might be that of a session of another store, which is there now."""
    put, draft = close(store)
    store.database.writes.refused = "a file of it is gone"
    with pytest.raises(InternalError, match="a file of it is gone"):
        store.publisher.abandon(draft, put.ino, 1)
    assert journals(stores) == []
    store.database.writes.refused = ""
    store = stores.reopen(store)
    assert values(store, APP) == {}
    check_nothing_left(store)
