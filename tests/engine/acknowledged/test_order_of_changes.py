"""What was closed and waits to be published comes before what is done to names after that."""

from collections.abc import Callable

import pytest

from engine import Store
from engine.catalog.puts import How, Put
from engine.catalog.transaction import Transaction
from engine.errors import ExistsError, NotEmptyError, NotFoundError, OutOfSpaceError, StoreError
from engine.model import Attributes, Node
from engine.recovering import Recovery
from engine.sqlite import fullness
from engine.sqlite.database import Database
from tests.support.acknowledging import APP, OPEN, put_later
from tests.support.invariants import check_nothing_left
from tests.support.stores import (
    Stores,
    directory,
    keys,
    new_draft,
    new_put,
    node,
    run_process,
    start_process,
    value,
    values,
)

Leave = Callable[[Store, bytes], None]


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """Names for whose values there is no room."""
    refused: set[bytes] = set()
    publish = Recovery.publish

    def refusing(recovery: Recovery, tx: Transaction, put: Put) -> Node | None:
        if put.name in refused:
            raise OutOfSpaceError(f"no room for {put.name!r}")
        return publish(recovery, tx, put)

    monkeypatch.setattr(Recovery, "publish", refusing)
    return refused


def undo(store: Store, full: list[bool], *names: bytes) -> None:
    """Put new values that are acknowledged, and cannot be committed for a moment."""
    for name in names:
        put_later(store, name, b"new")
    full[0] = True
    with pytest.raises(OutOfSpaceError):
        store.publisher.settle()
    full[0] = False


def leave_dead(stores: Stores, name: bytes) -> None:
    """Another process acknowledges a new value, and dies."""
    run_process(OPEN + f"close({name!r}, b'new')\ndie()", str(stores.path), expected=-9)


@pytest.fixture(params=["here", "of a process that died"])
def leave(request: pytest.FixtureRequest, full: list[bool], stores: Stores) -> Leave:
    """Has a new value acknowledged, and not published."""
    if request.param == "here":
        return lambda store, name: undo(store, full, name)
    return lambda store, name: leave_dead(stores, name)


def top(store: Store) -> int:
    return directory(store, APP)


CHANGES: dict[str, tuple[Callable[[Store], object], dict[bytes, bytes]]] = {
    "remove": (lambda store: store.tree.remove(top(store), b"k"), {b"other": b"other"}),
    "rename": (
        lambda store: store.tree.rename(top(store), b"k", top(store), b"moved", replace=True),
        {b"moved": b"new", b"other": b"other"},
    ),
    "rename onto it": (
        lambda store: store.tree.rename(top(store), b"other", top(store), b"k", replace=True),
        {b"k": b"other"},
    ),
    "exchange": (
        lambda store: store.tree.exchange(top(store), b"k", top(store), b"other"),
        {b"k": b"other", b"other": b"new"},
    ),
    "put": (lambda store: store.put_object(APP, b"k", b"last", force=True), {b"k": b"last", b"other": b"other"}),
    "delete": (lambda store: store.delete_pipeline(APP.name, force=True), {}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_comes_after_what_was_closed_before_it(store: Store, leave: Leave, change: str) -> None:
    """What was removed or renamed does not come back, and takes the new value along."""
    store.put_object(APP, b"k", b"old")
    store.put_object(APP, b"other", b"other")
    leave(store, b"k")
    assert value(store, APP, b"k") == b"old"
    make, expected = CHANGES[change]
    make(store)
    store.publisher.publish_again()
    store.publisher.recover()
    assert (values(store, APP) if expected else {}) == expected
    check_nothing_left(store)


REFUSED: dict[str, tuple[Callable[[Store], object], type[StoreError]]] = {
    "mkdir": (lambda store: store.tree.make_directory(top(store), b"k", 0o755, 0, 0), ExistsError),
    "symlink": (lambda store: store.tree.make_symlink(top(store), b"k", b"target", 0, 0), ExistsError),
    "rename without replacing": (
        lambda store: store.tree.rename(top(store), b"other", top(store), b"k", replace=False),
        ExistsError,
    ),
    "put without replacing": (lambda store: store.put_object(APP, b"k", b"last"), ExistsError),
    "rmdir": (lambda store: store.tree.remove_directory(2, APP.name), NotEmptyError),
    "delete": (lambda store: store.delete_pipeline(APP.name), NotEmptyError),
}


@pytest.mark.parametrize("change", REFUSED)
def test_a_name_that_waits_is_taken(store: Store, leave: Leave, change: str) -> None:
    if "rename" in change:
        store.put_object(APP, b"other", b"other")
    leave(store, b"k")
    make, error = REFUSED[change]
    with pytest.raises(error):
        make(store)
    assert value(store, APP, b"k") == b"new"
    check_nothing_left(store)


def test_who_asks_for_a_new_name_is_told_at_close_that_it_is_taken(store: Store, leave: Leave) -> None:
    leave(store, b"k")
    put, draft = new_put(store, top(store), b"k", How.CREATE), new_draft(store, b"created")
    with pytest.raises(ExistsError):
        store.publisher.prepare(put, draft, 2)
    store.publisher.abandon(draft)
    assert values(store, APP) == {b"k": b"new"}
    check_nothing_left(store)


def test_attributes_are_not_set_on_what_is_about_to_be_replaced(store: Store, leave: Leave) -> None:
    """Whoever sets them by an inode looks the name up again, and finds the value that was closed before."""
    store.put_object(APP, b"k", b"old")
    for change in (
        lambda ino: store.tree.set_attributes(ino, Attributes(mode=0o600)),
        lambda ino: store.tree.set_xattrs(ino, b"packed"),
    ):
        old = node(store, APP, b"k").ino
        leave(store, b"k")
        with pytest.raises(NotFoundError):
            change(old)
        change(node(store, APP, b"k").ino)
    assert value(store, APP, b"k") == b"new"
    check_nothing_left(store)


def test_what_has_no_room_keeps_back_its_own_name_alone(store: Store, full: list[bool], no_room: set[bytes]) -> None:
    """Everything else is published, and removed: which makes room."""
    store.put_object(APP, b"a", b"old")
    store.put_object(APP, b"other", b"other")
    no_room.add(b"a")
    undo(store, full, b"a", b"b", b"c")
    store.tree.remove(top(store), b"other")
    assert values(store, APP) == {b"a": b"old", b"b": b"new", b"c": b"new"}
    assert [found.name for found in store.publisher.published_again().nodes] == [b"b", b"c"]
    for change in (
        lambda: store.tree.remove(top(store), b"a"),
        lambda: store.tree.rename(top(store), b"a", top(store), b"moved", replace=True),
        lambda: store.tree.set_attributes(node(store, APP, b"a").ino, Attributes(mode=0o600)),
        lambda: store.delete_pipeline(APP.name),
    ):
        with pytest.raises(OutOfSpaceError, match="no room for b'a'"):
            change()
    no_room.clear()
    store.tree.remove(top(store), b"a")
    store.publisher.publish_again()
    assert keys(store, APP) == [b"b", b"c"]
    check_nothing_left(store)


def test_everything_that_waits_has_its_turn(store: Store, full: list[bool], no_room: set[bytes]) -> None:
    """Not all of it is tried each time where the disk is full, and not always the same."""
    names = [b"%02d" % number for number in range(30)]
    no_room.update(names[:20])
    undo(store, full, *names)
    for _ in range(3):
        with pytest.raises(OutOfSpaceError):
            store.publisher.publish_again()
    assert keys(store, APP) == names[20:]
    no_room.clear()
    assert len(store.publisher.publish_again().nodes) == 30
    assert keys(store, APP) == names
    check_nothing_left(store)


def test_what_is_tried_again_does_not_fail_for_what_waits(
    store: Store, full: list[bool], no_room: set[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deletion that finds the disk full makes room, and is not told that something else has none."""
    store.put_object(APP, b"other", b"other")
    no_room.add(b"a")
    put_later(store, b"a", b"new")
    monkeypatch.setattr(fullness, "make_room", lambda database: full.__setitem__(0, False))
    full[0] = True
    store.delete_object(APP, b"other")
    store.delete_pipeline(APP.name, force=True)
    full[0] = True
    assert store.upkeep.sweep()
    assert not full[0]
    no_room.clear()
    store.publisher.publish_again()
    check_nothing_left(store)


def test_room_is_made_although_what_was_left_open_has_none(store: Store, full: list[bool]) -> None:
    put_later(store, b"k", b"new")
    full[0] = True
    fullness.make_room(store.database)
    full[0] = False
    assert store.database.log.bytes == 0
    store.publisher.publish_again()
    assert values(store, APP) == {b"k": b"new"}
    check_nothing_left(store)


def test_what_is_undone_while_room_is_made_comes_first_as_well(
    store: Store, full: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory is to be made, and there is room for it once what was left open is undone and the log is short."""
    put_later(store, b"k", b"new")
    full[0] = True

    def fits(database: Database, size: int) -> bool:
        if database.writes.open:
            return False
        full[0] = False
        return True

    monkeypatch.setattr(fullness, "_fits", fits)
    with pytest.raises(ExistsError):
        store.tree.make_directory(top(store), b"k", 0o755, 0, 0)
    assert values(store, APP) == {b"k": b"new"}
    check_nothing_left(store)


def test_what_a_dead_process_has_left_comes_before_what_is_acknowledged_then(store: Store, stores: Stores) -> None:
    """Also when that dies as well, and its session is the older one."""
    stores.close(store)
    with start_process(
        OPEN + "store.sessions.ensure()\nwait()\nclose(b'k', b'newer')\ndie()", str(stores.path)
    ) as last:
        assert last.stdout is not None
        assert last.stdout.readline() == "ready\n"
        run_process(OPEN + "close(b'k', b'older')\ndie()", str(stores.path), expected=-9)
        last.communicate("\n", timeout=60)
    store = stores.open()
    assert values(store, APP) == {b"k": b"newer"}
    check_nothing_left(store)
