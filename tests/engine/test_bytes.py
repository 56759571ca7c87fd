"""Limits in bytes: what a pipeline and the store may hold, what is refused, and that the sums are right."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from engine import ScopeName, Store
from engine.catalog import lowering, room
from engine.catalog.puts import How, Put
from engine.catalog.transaction import Transaction
from engine.drafts import Draft
from engine.errors import InvalidError, QuotaError, StoreFullError
from tests.engine.test_growth import statements
from tests.support.invariants import check_nothing_left, check_store
from tests.support.stores import (
    Stores,
    directory,
    keys,
    new_draft,
    new_put,
    rename,
    run_process,
    start_process,
    value,
)

APP = ScopeName.pipeline("app")
OTHER = ScopeName.pipeline("other")
RUN = ScopeName.run("1")
LARGE = 100_000


def put(store: Store, key: bytes, size: int, scope: ScopeName = APP) -> None:
    store.put_object(scope, key, b"x" * size, force=True)


def prepare(
    store: Store, key: bytes, size: int, handle: int = 1, how: How = How.REPLACE, scope: ScopeName = APP
) -> tuple[Put, Draft]:
    """Acknowledge a Put that is not published yet."""
    parent, _, name = key.rpartition(b"/")
    new, draft = new_put(store, directory(store, scope, parent), name, how), new_draft(store, b"x" * size)
    try:
        store.publisher.prepare(new, draft, handle)
    except BaseException:
        store.publisher.abandon(draft)
        raise
    return new, draft


def publish(store: Store, acknowledged: tuple[Put, Draft], handle: int = 1) -> None:
    new, draft = acknowledged
    store.publisher.publish(new, draft, (new.ino, handle))
    store.publisher.abandon(draft)


def sums(store: Store) -> tuple[int, int]:
    """The bytes of the pipeline `app`, and of the store; both counted by hand in `check_store`."""
    check_store(store)
    app = next(info for info in store.list_pipelines() if info.name == APP.name)
    return app.bytes, store.database.value("SELECT bytes FROM store")


@contextmanager
def refused(store: Store, error: type[Exception]) -> Iterator[None]:
    """What is refused leaves everything as it was."""
    sql = "SELECT ino, parent, name, content FROM node ORDER BY ino"
    before = [store.database.rows(each) for each in (sql, sql.replace("node", "evicted"))]
    with pytest.raises(error):
        yield
    assert [store.database.rows(each) for each in (sql, sql.replace("node", "evicted"))] == before


@pytest.fixture
def limited(store: Store) -> Store:
    """A pipeline that may have 3 objects and 100 bytes, and another that may have 100 bytes."""
    store.create_pipeline(APP.name, 3, 100)
    store.create_pipeline(OTHER.name, 0, 100)
    store.start_run(RUN.name)
    return store


# The limit of a pipeline


def test_a_put_that_fits_exactly_and_one_byte_more(limited: Store) -> None:
    put(limited, b"a", 60)
    put(limited, b"b", 40)
    with refused(limited, QuotaError):
        put(limited, b"c", 1)
    put(limited, b"c", 0)
    assert sums(limited) == (100, 100)


def test_what_is_replaced_gives_its_bytes_back_first(limited: Store) -> None:
    put(limited, b"a", 90)
    put(limited, b"a", 100)
    with refused(limited, QuotaError):
        put(limited, b"a", 101)
    put(limited, b"a", 3)
    assert sums(limited) == (3, 3)


def test_what_is_evicted_by_number_gives_its_bytes_back_first(limited: Store) -> None:
    for key, size in ((b"a", 50), (b"b", 20), (b"c", 30)):
        put(limited, key, size)
    put(limited, b"d", 50)
    assert keys(limited, APP) == [b"b", b"c", b"d"]
    with refused(limited, QuotaError):  # only b would go, of 20 bytes
        put(limited, b"e", 21)
    put(limited, b"e", 20)
    assert sums(limited) == (100, 100)


def test_nothing_is_evicted_for_bytes(limited: Store) -> None:
    put(limited, b"a", 50)
    put(limited, b"b", 50)
    with refused(limited, QuotaError):
        put(limited, b"c", 50)
    assert keys(limited, APP) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("how", "size"), [(How.REPLACE, LARGE), (How.CREATE, 101), (How.APPEND, LARGE), (How.IF_ABSENT, 101)]
)
def test_however_it_is_put(limited: Store, how: How, size: int) -> None:
    with refused(limited, QuotaError):
        prepare(limited, b"a", size, how=how)
    draft = new_draft(limited, b"x" * size)
    with refused(limited, QuotaError):
        limited.publisher.publish(new_put(limited, directory(limited, APP), b"a", how), draft)
    limited.publisher.abandon(draft)
    check_nothing_left(limited)


def test_an_append_counts_what_it_appends_to(limited: Store) -> None:
    put(limited, b"a", 90)
    with refused(limited, QuotaError):
        prepare(limited, b"a", 11, how=How.APPEND)
    publish(limited, prepare(limited, b"a", 10, how=How.APPEND))
    assert len(value(limited, APP, b"a")) == 100


def test_a_lowered_limit_evicts_nothing_and_lets_it_become_smaller_only(limited: Store) -> None:
    put(limited, b"a", 60)
    put(limited, b"b", 40)
    limited.set_max_bytes(APP.name, 50)
    assert keys(limited, APP) == [b"a", b"b"]
    with refused(limited, QuotaError):
        put(limited, b"c", 1)
    put(limited, b"c", 0)
    put(limited, b"a", 59)
    publish(limited, prepare(limited, b"a", 58))
    with refused(limited, QuotaError):
        put(limited, b"a", 59)
    with refused(limited, QuotaError):
        prepare(limited, b"a", 59)
    limited.delete_object(APP, b"a")
    put(limited, b"c", 10)
    assert sums(limited) == (50, 50)


def test_a_limit_of_the_stores_and_one_of_its_own(stores: Stores) -> None:
    store = stores.open(max_pipeline_bytes=10)
    store.create_pipeline(APP.name)
    store.create_pipeline(OTHER.name, max_bytes=20)
    store.start_run(RUN.name)
    for scope, size in ((APP, 10), (OTHER, 20)):
        put(store, b"a", size, scope)
        with refused(store, QuotaError):
            put(store, b"b", 1, scope)
    put(store, b"a", 1000, RUN)
    store.set_max_bytes(OTHER.name, None)
    with refused(store, QuotaError):
        put(store, b"a", 21, OTHER)
    store.set_max_bytes(OTHER.name, 0)
    put(store, b"a", 1000, OTHER)
    infos = {info.name: (info.bytes, info.max_bytes, info.effective_max_bytes) for info in store.list_pipelines()}
    assert infos == {b"app": (10, None, 10), b"other": (1000, 0, 0)}
    assert store.list_runs()[0].bytes == 1000
    store = stores.reopen(store)
    with refused(store, QuotaError):
        put(store, b"b", 1)
    store = stores.reopen(store, max_pipeline_bytes=0)
    put(store, b"b", 1)


@pytest.mark.parametrize("limit", [-1, 2**63])
def test_limits_that_are_none(store: Store, limit: int) -> None:
    with pytest.raises(InvalidError):
        store.create_pipeline(APP.name, max_bytes=limit)
    store.create_pipeline(APP.name)
    with pytest.raises(InvalidError):
        store.set_max_bytes(APP.name, limit)


# The limit of the store


def test_the_limit_of_the_store_counts_pipelines_and_runs(stores: Stores) -> None:
    store = stores.open(max_bytes=100)
    store.create_pipeline(APP.name)
    store.start_run(RUN.name)
    put(store, b"a", 60)
    put(store, b"a", 40, RUN)
    for scope in (APP, RUN):
        with refused(store, StoreFullError):
            put(store, b"b", 1, scope)
        with refused(store, StoreFullError):
            prepare(store, b"b", 1)
    put(store, b"a", 59)
    rename(store, RUN, b"a", b"b", APP)  # moves no bytes
    put(store, b"c", 1)
    assert sums(store) == (100, 100)
    store.delete_object(APP, b"a")
    put(store, b"c", 60)


def test_what_a_run_that_expires_held_can_be_used_at_once(stores: Stores) -> None:
    store = stores.open(max_bytes=100, run_object_expiry=1)
    first, second = ScopeName.run("1"), ScopeName.run("2")
    for scope in (first, second):
        store.start_run(scope.name)
        store.finish_run(scope.name)
        put(store, b"a", 100, scope)
        check_store(store)
    store.create_pipeline(APP.name)
    with refused(store, StoreFullError):
        put(store, b"a", 1)
    store.delete_object(second, b"a")
    put(store, b"a", 100)
    store.delete_pipeline(APP.name, force=True)
    put(store, b"a", 100, second)
    check_nothing_left(store)


# What was acknowledged


def test_an_acknowledged_put_has_its_room(limited: Store) -> None:
    acknowledged = prepare(limited, b"a", 60)
    assert sums(limited) == (0, 0)
    for attempt in (lambda: put(limited, b"b", 41), lambda: prepare(limited, b"b", 41, 2)):
        with refused(limited, QuotaError):
            attempt()
    put(limited, b"b", 40)
    publish(limited, acknowledged)
    assert sums(limited) == (100, 100)


@pytest.mark.parametrize("size", [60, 60 + LARGE])
def test_of_another_process_what_is_in_the_table(stores: Stores, size: int) -> None:
    """Small values are in its journal: they may take the limit over for the moment until they are published."""
    store = stores.open()
    store.create_pipeline(APP.name, 0, 100 + LARGE)
    program = """
store = Stores(Path(sys.argv[1]).parent).open()
put = new_put(store, directory(store, ScopeName.pipeline("app")), b"a")
store.publisher.prepare(put, draft := new_draft(store, b"x" * int(sys.argv[2])), 1)
wait()
store.publisher.publish(put, draft, (put.ino, 1))
"""
    with start_process("from pathlib import Path\n" + program, str(stores.path), str(size)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if size > LARGE:
            with refused(store, QuotaError):
                put(store, b"b", 41)
            put(store, b"b", 40)
        else:
            put(store, b"b", 41 + LARGE)
        process.communicate("\n", timeout=60)
        assert process.returncode == 0
    assert sums(store)[0] == (100 + LARGE if size > LARGE else 101 + LARGE)
    with refused(store, QuotaError):
        put(store, b"c", 1)


@pytest.mark.parametrize("how", [How.REPLACE, How.APPEND])
def test_many_that_are_acknowledged_cost_the_next_no_more(
    stores: Stores, how: How, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not gone through where their sums are far from the limits, in their own pipeline or elsewhere."""
    store = stores.open(max_bytes=10 * LARGE)
    store.create_pipeline(APP.name, 0, 100)
    store.create_pipeline(OTHER.name, 0, LARGE)
    put(store, b"there", 1)
    put(store, b"there", 1000, OTHER)
    many = [prepare(store, b"%d" % number, 1) for number in range(50)]
    many.append(prepare(store, b"x", 50, scope=OTHER))  # more than `app` has left beside the others
    monkeypatch.setattr(room, "growth", None)
    publish(store, prepare(store, b"there", 40, how=how))
    put(store, b"at once", 5)
    monkeypatch.undo()
    before = sums(store)[0]
    assert before == (45 if how is How.REPLACE else 46)
    with refused(store, QuotaError):
        prepare(store, b"one too many", 101 - 50 - before)
    for acknowledged in many:
        publish(store, acknowledged)
    assert sums(store)[0] == before + 50


@pytest.mark.parametrize("way", ["moved", "exchanged"])
def test_what_is_acknowledged_counts_where_its_directory_has_come_to(limited: Store, way: str) -> None:
    limited.tree.make_directory(directory(limited, APP), b"d", 0o755, 0, 0)
    acknowledged = prepare(limited, b"d/a", 60)
    put(limited, b"b", 40)  # asks for the sums
    if way == "moved":
        rename(limited, APP, b"d", b"d", OTHER)
    else:
        limited.tree.make_directory(directory(limited, OTHER), b"d", 0o755, 0, 0)
        limited.tree.exchange(directory(limited, APP), b"d", directory(limited, OTHER), b"d")
    put(limited, b"c", 60)
    for attempt in (lambda: put(limited, b"a", 41, OTHER), lambda: prepare(limited, b"a", 41, 2, scope=OTHER)):
        with refused(limited, QuotaError):
            attempt()
    put(limited, b"a", 40, OTHER)
    publish(limited, acknowledged)
    assert [info.bytes for info in limited.list_pipelines()] == [100, 100]


def test_what_is_undone_with_its_transaction_is_acknowledged_still(stores: Stores) -> None:
    store = stores.open()
    store.create_pipeline(APP.name, 0, 100)
    new, draft = prepare(store, b"a", 60)
    store.publisher.publish(new, draft, (new.ino, 1), later=True)
    assert store.database.writes.open
    store.database.writes.undo(False)
    assert keys(store, APP) == []
    for size, error in ((41, QuotaError), (40, None)):
        with refused(store, error) if error else nullcontext():
            prepare(store, b"b", size, 2)
    store.publisher.publish_again()
    store.publisher.abandon(draft)
    assert sums(store)[0] == 60


def test_what_another_process_acknowledges_is_asked_for(stores: Stores) -> None:
    store, other = stores.open(), stores.open()
    store.create_pipeline(APP.name, 0, 2 * LARGE)
    first = prepare(store, b"a", LARGE)
    second = prepare(other, b"b", LARGE - 10)
    for size in (11, 10):
        new, draft = new_put(store, directory(store, APP), b"c"), new_draft(store, b"x" * size)
        with refused(store, QuotaError) if size == 11 else nullcontext():
            store.publisher.prepare(new, draft, 1)
    publish(other, second)
    publish(store, first)


def test_what_is_acknowledged_is_published_whatever_took_its_room(limited: Store) -> None:
    """Nothing that was acknowledged is lost, also where its old value, which gave it room, is gone meanwhile."""
    put(limited, b"a", 60)
    acknowledged = prepare(limited, b"a", 100)
    limited.delete_object(APP, b"a")
    limited.set_max_bytes(APP.name, 50)
    publish(limited, acknowledged)
    assert sums(limited) == (100, 100)


def test_what_a_killed_process_had_acknowledged_is_recovered_over_the_limit(stores: Stores) -> None:
    store = stores.open()
    store.create_pipeline(APP.name, 0, 100)
    stores.close(store)
    program = """
from pathlib import Path
store = Stores(Path(sys.argv[1]).parent).open()
put = new_put(store, directory(store, ScopeName.pipeline("app")), b"a")
store.publisher.prepare(put, new_draft(store, b"x" * 60), 1)
store.set_max_bytes(b"app", 50)
die()
"""
    run_process(program, str(stores.path), expected=-9)
    store = stores.open()
    assert sums(store) == (60, 60)
    with refused(store, QuotaError):
        put(store, b"b", 1)


@pytest.mark.parametrize("how", [How.REPLACE, How.APPEND])
def test_prepared_again_it_counts_once(limited: Store, how: How) -> None:
    new, draft = prepare(limited, b"a", 60, how=how)
    for more in (40, 1):
        if not limited.contents.shares_catalog:
            limited.publisher.retract(new.ino, draft, 1)
        draft.write(draft.size, b"x" * more)
        if draft.size <= 100:
            limited.publisher.prepare(new, draft, 1)
    with refused(limited, QuotaError):
        limited.publisher.prepare(new, draft, 1)
    limited.publisher.abandon(draft, new.ino, 1)
    put(limited, b"b", 100)


def test_what_is_larger_than_what_was_acknowledged_is_looked_at_again(stores: Stores) -> None:
    """As an fsync after a write that followed the close of another descriptor."""
    store = stores.open()
    store.create_pipeline(APP.name, 0, 100)
    new, draft = prepare(store, b"a", 60)
    draft.write(60, b"x" * 41)
    with refused(store, QuotaError):
        store.publisher.publish(new, draft, (new.ino, 1))
    store.publisher.abandon(draft, new.ino, 1)


def test_one_that_waits_and_becomes_smaller_gives_no_room_yet(limited: Store) -> None:
    put(limited, b"a", 90)
    smaller, new = prepare(limited, b"a", 10), prepare(limited, b"b", 10, 2)
    for size in (80, 1):
        with refused(limited, QuotaError):
            prepare(limited, b"c", size, 3)
    publish(limited, new, 2)
    publish(limited, smaller)
    publish(limited, prepare(limited, b"c", 80, 3), 3)


def test_two_new_names_that_wait_make_two_others_go(limited: Store) -> None:
    """At both limits, each of them has the room of another one that goes."""
    for key in (b"a", b"b", b"c"):
        put(limited, key, 33)
    first, second = prepare(limited, b"d", 34), prepare(limited, b"e", 33, 2)
    with refused(limited, QuotaError):
        prepare(limited, b"f", 34, 3)
    publish(limited, second, 2)
    publish(limited, first)
    assert keys(limited, APP) == [b"c", b"d", b"e"]
    assert sums(limited) == (100, 100)


def test_it_has_to_fit_also_if_it_is_published_before_what_waits(limited: Store) -> None:
    limited.set_limit(APP.name, 2)
    put(limited, b"a", 10)
    put(limited, b"b", 80)
    acknowledged = prepare(limited, b"c", 20)  # for which a goes
    with refused(limited, QuotaError):
        prepare(limited, b"d", 60, 2)  # for which b would go, if c were there
    publish(limited, acknowledged)
    publish(limited, prepare(limited, b"d", 60, 2), 2)


def test_several_writers_of_one_name_count_as_the_largest(limited: Store) -> None:
    first, second = prepare(limited, b"a", 60), prepare(limited, b"a", 100, 2)
    with refused(limited, QuotaError):
        put(limited, b"b", 1)
    publish(limited, second, 2)
    publish(limited, first)
    put(limited, b"b", 40)
    assert sums(limited) == (100, 100)


def test_an_acknowledged_put_that_is_withdrawn_gives_its_room_back(limited: Store) -> None:
    new, draft = prepare(limited, b"a", 100)
    limited.publisher.abandon(draft, new.ino, 1)
    put(limited, b"b", 100)


# Renaming


def test_a_rename_into_a_pipeline_without_room(limited: Store) -> None:
    put(limited, b"a", 60)
    put(limited, b"big", 41, RUN)
    put(limited, b"small", 40, RUN)
    with refused(limited, QuotaError):
        rename(limited, RUN, b"big", b"b", APP)
    assert keys(limited, RUN) == [b"big", b"small"]
    rename(limited, RUN, b"small", b"b", APP)
    rename(limited, RUN, b"big", b"a", APP)  # over one of 60
    assert sums(limited) == (81, 81)


def test_a_rename_leaves_the_room_of_what_was_acknowledged(limited: Store) -> None:
    acknowledged = prepare(limited, b"a", 60)
    put(limited, b"b", 41, RUN)
    with refused(limited, QuotaError):
        rename(limited, RUN, b"b", b"b", APP)
    publish(limited, acknowledged)


def test_a_directory_is_moved_with_all_its_bytes(limited: Store) -> None:
    for key, size in ((b"d/a", 10), (b"d/e/b", 20), (b"f", 3)):
        put(limited, key, size, RUN)
    rename(limited, RUN, b"d", b"d", APP)
    assert sums(limited) == (30, 33)
    put(limited, b"c", 71, OTHER)
    with refused(limited, QuotaError):
        rename(limited, APP, b"d", b"d", OTHER)
    put(limited, b"c", 70, OTHER)
    rename(limited, APP, b"d", b"d", OTHER)
    assert sums(limited) == (0, 103)


def test_exchanging_counts_on_both_sides(limited: Store) -> None:
    put(limited, b"a", 60)
    put(limited, b"b", 40)
    put(limited, b"c", 90, OTHER)
    app, other = directory(limited, APP), directory(limited, OTHER)
    with refused(limited, QuotaError):
        limited.tree.exchange(app, b"a", other, b"c")
    limited.set_max_bytes(APP.name, 130)
    limited.tree.exchange(app, b"a", other, b"c")
    assert sums(limited) == (130, 190)


# Coming back


def test_what_was_displaced_comes_back_where_its_bytes_have_room(limited: Store) -> None:
    for key, size in ((b"a", 40), (b"b", 20), (b"c", 20)):
        put(limited, key, size)
    put(limited, b"tmp", 60)
    assert rename(limited, APP, b"tmp", b"c")[1] == []  # 20 and 60 are there, and a has 40
    assert sums(limited) == (80, 80)
    limited.delete_object(APP, b"c")
    assert keys(limited, APP) == [b"b"]
    put(limited, b"a", 40)
    put(limited, b"c", 20)
    put(limited, b"tmp", 40)
    assert rename(limited, APP, b"tmp", b"c")[1] == [b"pipeline/app/b"]
    assert sums(limited) == (100, 100)


def test_nothing_comes_back_into_a_store_without_room(stores: Stores) -> None:
    store = stores.open(max_bytes=100)
    store.create_pipeline(APP.name, 1)
    put(store, b"a", 60)
    put(store, b"b", 40)
    store.start_run(RUN.name)
    put(store, b"c", 60, RUN)
    store.delete_object(APP, b"b")
    assert keys(store, APP) == []
    check_store(store)


def test_adding_to_what_was_displaced_counts_all_of_it(limited: Store) -> None:
    for key, size in ((b"a", 40), (b"b", 10), (b"c", 20), (b"d", 20)):
        put(limited, key, size)
    with refused(limited, QuotaError):
        prepare(limited, b"a", 21, how=How.APPEND)
    publish(limited, prepare(limited, b"a", 20, how=How.APPEND))  # for which b goes
    assert (keys(limited, APP), sums(limited)) == ([b"a", b"c", b"d"], (100, 100))


def test_what_waits_brings_back_all_of_what_was_displaced(limited: Store) -> None:
    """Which counts for who comes later and replaces something, or adds to it."""
    for key, size in ((b"a", 60), (b"b", 1), (b"c", 1), (b"d", 1)):
        put(limited, key, size)
    acknowledged = prepare(limited, b"a", 5, how=How.APPEND)
    for how in How:
        with refused(limited, QuotaError):
            prepare(limited, b"x", 40, 2, how)
    other = prepare(limited, b"x", 34, 2)
    publish(limited, acknowledged)
    publish(limited, other, 2)
    assert (keys(limited, APP), sums(limited)) == ([b"a", b"d", b"x"], (100, 100))


@pytest.mark.parametrize("few", [0, 1000])
def test_a_lowered_number_gives_bytes_back(limited: Store, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "_FEW", few)
    for key, size in ((b"a", 40), (b"b", 10), (b"c", 20)):
        put(limited, key, size)
    limited.set_limit(APP.name, 1)
    assert sums(limited) == (20, 20)


# Transactions


def test_an_operation_that_is_undone_takes_its_bytes_back(stores: Stores) -> None:
    """Several operations share a transaction of SQLite's, and the sum of the store is written at its end."""
    store = stores.open()
    store.create_pipeline(APP.name, 0, 100)
    new, draft = prepare(store, b"a", 60)
    store.publisher.publish(new, draft, (new.ino, 1), later=True)
    assert store.database.writes.open
    with pytest.raises(QuotaError):
        put(store, b"b", 41)
    put(store, b"c", 40)
    store.publisher.settle()
    store.publisher.abandon(draft)
    assert sums(store) == (100, 100)


def test_a_transaction_that_is_undone_takes_its_bytes_back(stores: Stores) -> None:
    store = stores.open()
    store.create_pipeline(APP.name)
    put(store, b"a", 60)
    with pytest.raises(ZeroDivisionError), store.database.write():
        Transaction(store.database, 0).note_store_bytes(1)
        raise ZeroDivisionError
    assert sums(store) == (60, 60)


def test_a_put_runs_no_statement_for_limits_that_there_are_none_of(stores: Stores) -> None:
    store = stores.open()
    store.create_pipeline(APP.name)
    put(store, b"a", 5)
    publish(store, prepare(store, b"a", 5))
    counts = []
    for limit in (0, 1000):
        store.set_max_bytes(APP.name, 2 * limit)
        for key, size in ((b"a", 6 + limit), (b"new%d" % limit, 7)):
            new, draft = new_put(store, directory(store, APP), key), new_draft(store, b"x" * size)
            with statements(store) as seen:
                store.publisher.prepare(new, draft, 1)
                store.publisher.publish(new, draft, (new.ino, 1))
            store.publisher.abandon(draft)
            counts.append(len(seen))
    assert counts[0] + 1 == counts[2]  # what waits is asked for, once
    assert counts[1] + 1 == counts[3]


# Values of holes, which take no room on the disk


def hole(store: Store, key: bytes, size: int, scope: ScopeName, *, acknowledge: bool = False) -> None:
    draft = new_draft(store, b"")
    draft.truncate(size)
    new = new_put(store, directory(store, scope), key)
    try:
        if acknowledge:
            store.publisher.prepare(new, draft, 1)
        store.publisher.publish(new, draft, (new.ino, 1) if acknowledge else None)
    finally:
        store.publisher.abandon(draft)


def test_values_that_are_larger_together_than_a_number_can_be(stores: Stores) -> None:
    store = stores.open()
    scopes = [ScopeName.pipeline(name) for name in ("app", "b", "c", "d", "e")]
    for scope in scopes:
        store.create_pipeline(scope.name)
        for acknowledge in (False, True):
            hole(store, b"a", room.MOST - 1, scope, acknowledge=acknowledge)
            hole(store, b"b", 1, scope, acknowledge=acknowledge)
            for size in (1, room.MOST):
                with refused(store, QuotaError):
                    hole(store, b"c", size, scope, acknowledge=acknowledge)
    assert [info.bytes for info in store.list_pipelines()] == [room.MOST] * 5
    check_store(store)
    for scope in scopes:
        put(store, b"d", 0, scope)
        store.delete_object(scope, b"a")
    assert sums(store) == (1, 5)
