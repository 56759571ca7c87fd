"""Acknowledged Puts that could not be published or committed: they are tried again, and hold up nobody."""

import pytest

from engine import Store
from engine.catalog.puts import Put
from engine.catalog.transaction import Transaction
from engine.errors import NotFoundError, OutOfSpaceError
from engine.model import Node
from engine.recovering import Recovery
from engine.sqlite import fullness
from tests.support.acknowledging import APP, OPEN, REFUSING, after_death, check_after_death, put_later, refused
from tests.support.invariants import check_nothing_left, check_store
from tests.support.stores import Stores, directory, keys, new_draft, new_put, node, run_process, values


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
    told = store.publisher.publish_again()
    assert [node.ino for node in told.nodes] == [node(store, APP, key).ino for key in (b"a", b"b")]
    store.publisher.abandon(draft, put.ino, 1)
    put_later(store, b"c", b"3")
    store.publisher.settle()
    check_nothing_left(store)


def test_what_a_put_that_fails_has_published_again_is_told(stores: Stores) -> None:
    """With what that evicted, and what was published again before."""
    store = stores.open(pipeline_object_limit=2)
    store.create_pipeline(APP.name)
    for key in (b"v0", b"v1"):
        store.put_object(APP, key, b"x")
    top = directory(store, APP)
    directory_ = store.tree.make_directory(top, b"directory", 0o755, 0, 0)[0]
    put, draft = new_put(store, directory_.ino, b"k"), new_draft(store, b"value")
    store.publisher.prepare(put, draft, 1)
    store.tree.remove_directory(top, b"directory")
    put_later(store, b"a", b"1")
    with pytest.raises(NotFoundError):
        store.publisher.publish(put, draft, (put.ino, 1), later=True)
    told = store.publisher.publish_again()
    assert [node.name for node in told.nodes] == [b"a"]
    assert [gone.path for effects in told.effects for gone in effects.evicted] == [b"pipeline/app/v0"]
    store.publisher.abandon(draft, put.ino, 1)
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
    check_after_death(
        store,
        stores,
        REFUSING
        + """
put, draft, _ = close(b"k", b"value")
refused[0] = True
store.publisher.abandon(draft, put.ino, 1)
""",
        {},
    )


def test_a_kill_after_a_withdrawal_that_succeeds_at_the_second_try(store: Store, stores: Stores) -> None:
    """A large value is listed as nobody's all the same, and deleted."""
    check_after_death(
        store,
        stores,
        REFUSING
        + """
put, draft, _ = close(b"k", b"value" * 50_000)
"""
        + refused("store.publisher.retract(put.ino, draft, 1)")
        + """
store.publisher.retract(put.ino, draft, 1)
""",
        {},
    )


class UnexpectedError(Exception):
    """An error of ours, that nobody thought of."""


@pytest.fixture
def unpublishable(monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """Names that cannot be published, for no reason that the store knows."""
    refused: set[bytes] = set()
    publish = Recovery.publish

    def refusing(recovery: Recovery, tx: Transaction, put: Put) -> Node | None:
        if put.name in refused:
            raise UnexpectedError
        return publish(recovery, tx, put)

    monkeypatch.setattr(Recovery, "publish", refusing)
    return refused


def leave_two(stores: Stores) -> None:
    """Two processes die, each with a Put that it has acknowledged; neither recovers what the other has left."""
    not_recovering = """
from engine.recovering import Recovered, Recovery
Recovery.recover = lambda self: Recovered([], [])
"""
    for name in (b"a", b"b"):
        program = f'close({name!r}, b"value")\ndie()'
        run_process(f"{not_recovering}{OPEN}{program}", str(stores.path), expected=-9)


def test_what_cannot_be_published_holds_up_its_own_name_alone(store: Store, unpublishable: set[bytes]) -> None:
    unpublishable.add(b"a")
    for number, (name, content) in enumerate([(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"c", b"4")], 1):
        put, draft = new_put(store, directory(store, APP), name), new_draft(store, content)
        store.publisher.prepare(put, draft, number)
        store.publisher.publish_later(put, put.ino, number)
    for told in ([b"b", b"c"], []):
        with pytest.raises(UnexpectedError):
            store.publisher.publish_again()
        assert values(store, APP) == {b"b": b"2", b"c": b"4"}
        assert [node.name for node in store.publisher.published_again().nodes] == told
    put_later(store, b"d", b"5")
    unpublishable.clear()
    store.publisher.publish_again()
    assert values(store, APP) == {b"a": b"3", b"b": b"2", b"c": b"4", b"d": b"5"}
    check_nothing_left(store)


def test_what_cannot_be_recovered_does_not_keep_the_store_closed(
    store: Store, stores: Stores, unpublishable: set[bytes]
) -> None:
    """It waits, with all that its session has left, and is told; what other sessions have left is recovered."""
    unpublishable.add(b"a")
    stores.close(store)
    leave_two(stores)
    store = stores.open()
    assert values(store, APP) == {b"b": b"value"}
    told = store.database.troubles.news()
    assert any("cannot be published yet: unexpected UnexpectedError()" in trouble for trouble in told), told
    unpublishable.clear()
    store = stores.reopen(store)
    assert values(store, APP) == {b"a": b"value", b"b": b"value"}
    check_nothing_left(store)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_full_disk_does_not_keep_the_store_closed(
    store: Store, stores: Stores, full: list[bool], read_only: bool
) -> None:
    """What a dead process has left waits and is told, and something can be deleted."""
    store.put_object(APP, b"old", b"value")
    stores.close(store)
    run_process(f'{OPEN}close(b"k", b"value")\ndie()', str(stores.path), expected=-9)
    full[0] = True
    store = stores.open(read_only=read_only)
    assert keys(store, APP) == [b"old"]
    told = store.database.troubles.news()
    assert any("cannot be published yet: the disk is full" in trouble for trouble in told), told
    full[0] = False
    if not read_only:
        store.delete_object(APP, b"old")
        assert [node.name for node in store.publisher.published_again().nodes] == [b"k"]
        assert keys(store, APP) == [b"k"]
        check_nothing_left(store)


def test_a_recovery_that_is_interrupted_tells_the_rest_later(
    store: Store, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has published by then is not forgotten."""
    leave_two(stores)
    publish, calls = Recovery.publish, [0]

    def full_once(recovery: Recovery, tx: Transaction, put: Put) -> Node | None:
        calls[0] += 1
        if calls[0] == 2:
            raise OutOfSpaceError("full")
        return publish(recovery, tx, put)

    monkeypatch.setattr(Recovery, "publish", full_once)
    with pytest.raises(OutOfSpaceError):
        store.publisher.recover()
    assert sorted(node.name for node in store.publisher.recover().nodes) == [b"a", b"b"]
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
