"""What is done often costs the same in a large store as in a small one."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import apsw
import pytest

from engine import ScopeName, Store
from engine.catalog import facts, lifetimes, lowering, nodes, taken
from engine.model import PIPELINES_INO, RUNS_INO, Attributes
from tests.support.invariants import check_nothing_left, check_store
from tests.support.stores import Stores, directory, keys, node, reclaim_all, rename

APP = ScopeName.pipeline("app")
RUN = ScopeName.run("1")

_SHORT = {"CONSTANT", "store", "session", "doomed", "above", "below"}
"""What may be read from one end to the other: a row or a few, what is walked through, or up to its first row only."""
_FIRST_ROW = {"SELECT EXISTS (SELECT 1 FROM change)"}


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """The statements that run meanwhile on the main connection."""
    seen: list[str] = []

    def note(_cursor: apsw.Cursor, sql: str, _bindings: object) -> bool:
        seen.append(sql)
        return True

    connection = store.database._main
    connection.exec_trace = note
    try:
        yield seen
    finally:
        connection.exec_trace = None


def scans(store: Store, sql: str) -> list[str]:
    """The steps of a statement's plan that read a whole table or index, or sort."""
    arguments = (None,) * (int(max(re.findall(r"\?(\d+)", sql), default=0, key=int)) or sql.count("?"))
    steps = [row[3] for row in store.database.rows(f"EXPLAIN QUERY PLAN {sql}", arguments)]
    found = [re.match(r"SCAN (\w+)|USE TEMP B-TREE", step) for step in steps]
    return [step for step, match in zip(steps, found, strict=True) if match and match[1] not in _SHORT]


def use(store: Store) -> None:
    """Everything that happens often, at the limits."""
    app = directory(store, APP)
    for number in range(6):
        store.put_object(APP, b"%d" % number, b"value", force=True)
    store.put_object(APP, b"5", b"again", force=True)
    b"".join(store.read_object(APP, b"5"))
    next(store.list_objects(APP, b"5"))
    store.tree.children(app, b"4", 10)
    store.tree.next_victims(app)
    store.tree.set_attributes(node(store, APP, b"5").ino, Attributes(mode=0o600))
    store.tree.make_directory(app, b"d", 0o755, 0, 0)
    rename(store, APP, b"5", b"d/x")
    store.tree.exchange(app, b"3", app, b"d")
    for number in range(4):
        run = store.tree.make_directory(RUNS_INO, b"%d" % number, 0o755, 0, 0)[0]
        store.tree.expires_next(run.ino)
        store.put_object(ScopeName.run(b"%d" % number), b"key", b"value")
    rename(store, ScopeName.run("3"), b"key", b"key", APP)
    store.delete_object(APP, b"key")
    store.tree.children(PIPELINES_INO, b"", 10)


def tick(store: Store) -> None:
    """What a mount does several times a second."""
    store.upkeep.anything_to_do  # noqa: B018 - its statements
    reclaim_all(store)
    store.database.changed_elsewhere()
    store.upkeep.news(10)
    store.publisher.recover()


def test_no_statement_that_runs_often_reads_a_whole_table(stores: Stores) -> None:
    store = stores.open(run_object_expiry=2)
    store.sessions.ensure()
    other = stores.open()
    other.sessions.ensure()
    store.create_pipeline(APP.name, 3)
    with statements(store) as seen:
        use(store)
        other.upkeep.acknowledge(other.upkeep.news())
        tick(store)
    often = {sql for sql in seen if re.match("SELECT|INSERT|UPDATE|DELETE|WITH", sql)} - _FIRST_ROW
    assert len(often) > 40
    assert {sql: found for sql in often if (found := scans(store, sql))} == {}


def test_an_object_is_found_without_its_neighbours(store: Store) -> None:
    store.create_pipeline(APP.name, 0)
    for number in range(600):
        store.put_object(APP, b"k%03d" % number, b"x")
    pages = []
    children = store.tree.children
    store.tree.children = lambda *arguments: pages.append(arguments) or children(*arguments)  # type: ignore[method-assign,func-returns-value]
    assert store.object_info(APP, b"k300").size == 1
    assert pages == []
    assert [info.key for info in store.list_objects(APP, b"k30")] == [b"k30%d" % number for number in range(10)]
    assert len(pages) == 1
    assert next(store.list_objects(APP)).key == b"k000"
    assert len(pages) == 2


def test_a_listing_is_in_the_order_of_the_keys(store: Store) -> None:
    store.create_pipeline(APP.name, 0)
    wanted = sorted([b"a!", b"a-b/1", b"a-b/2", b"a/b/c", b"a/b0", b"a/z", b"a0", b"b", b"a-b-", b"a/b-/x", b"a.b"])
    for key in reversed(wanted):
        store.put_object(APP, key, b"x")
    assert keys(store, APP) == wanted
    for prefix in (b"a", b"a-", b"a-b", b"a/", b"a/b", b"a/b/", b"a/b/c", b"b", b"c", b"/", b"a//", b"a/b/c/"):
        found = [info.key for info in store.list_objects(APP, prefix)]
        assert found == [key for key in wanted if key.startswith(prefix)], prefix


# Lowering a limit


@pytest.mark.parametrize("few", [0, 1000])
def test_many_objects_are_evicted_as_few_are(few: int, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "_FEW", few)
    store.create_pipeline(APP.name, 20)
    for number in range(120):  # so that all of them have displaced others
        store.put_object(APP, b"%s%d" % (b"d/" if number % 3 else b"", number % 70), b"x" * (number % 5), force=True)
    before = [key for key, _ in sorted(((i.key, i.put_ns) for i in store.list_objects(APP)), key=lambda each: each[1])]
    effects = store.set_limit(APP.name, 4)
    assert [gone.path for gone in effects.evicted] == [b"pipeline/app/" + key for key in before[:-4]]
    assert set(keys(store, APP)) == set(before[-4:])
    check_store(store)
    home = store.tree.node(directory(store, APP))
    assert home is not None
    assert store.tree.fact(home, "objects") == b"4"
    assert store.tree.fact(home, "evicted").splitlines()[:16] == list(reversed(before[:-4]))
    check_nothing_left(store)
    assert store.set_limit(APP.name, 4).evicted == ()


@pytest.mark.parametrize("few", [0, 1000])
def test_the_paths_of_deep_directories_are_bounded(few: int, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are one in the other; of what was evicted last the keys are kept."""
    monkeypatch.setattr(lowering, "_FEW", few)
    monkeypatch.setattr(nodes, "_TOLD_NAMES", 50)
    monkeypatch.setattr(taken, "KEPT", 2)
    monkeypatch.setattr(lowering, "_DIRECTORIES_OF_LAST", lowering._DIRECTORIES_OF_LAST.replace("64", "2"))
    store.create_pipeline(APP.name, 0)
    deep = [b"/".join([b"d"] * depth + [b"k"]) for depth in range(1, 41)]
    for key in deep:
        store.put_object(APP, key, b"x")
    gone = store.set_limit(APP.name, 1).evicted
    told = [removed.path.removeprefix(b"pipeline/app/") for removed in gone]
    assert sum(map(len, {removed.directory for removed in gone} - {b"pipeline/app/.../"})) < 4 * 50
    assert told[-2:] == deep[-3:-1]
    assert all(path in (key, b".../k") for path, key in zip(told, deep[:-1], strict=True))
    assert told[0] == b".../k" if not few else told[-3] == b".../k"
    home = store.tree.node(directory(store, APP))
    assert home is not None
    assert store.tree.fact(home, "evicted").splitlines()[:2] == deep[-2:-4:-1]


@pytest.mark.parametrize("few", [0, 1000])
def test_the_objects_of_one_directory_share_its_path(few: int, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "_FEW", few)
    store.create_pipeline(APP.name, 0)
    for number in range(20):
        store.put_object(APP, b"d/%d" % number, b"x")
    assert len({id(gone.directory) for gone in store.set_limit(APP.name, 1).evicted}) == 1


def test_few_directories_are_looked_at_for_what_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However deep the keys are: behind them, those that were evicted first are told to those who see all alone."""
    store.create_pipeline(APP.name, 0)
    deep = [b"/".join([b"%d" % number, *[b"d"] * 20, b"k"]) for number in range(9)]
    for key in [*deep, b"...", b"end"]:
        store.put_object(APP, key, b"x")
    too_deep = b"/".join([b"d"] * (nodes.PATH_PARTS + 1))
    store.put_object(APP, too_deep + b"/k", b"x")
    store.put_object(APP, b"last", b"x")
    store.set_limit(APP.name, 1)
    store.put_object(APP, b".../x", b"x")  # so that there is a directory of this name, and for which `last` goes
    home = store.tree.node(directory(store, APP))
    assert home is not None
    asked: list[int] = []
    looked = store.tree.fact(home, "evicted", lambda found: not asked.append(found.ino)).splitlines()
    assert len(asked) == 1 + 9 * 21
    assert looked == [b"last", b"end", b"...", *reversed(deep)]
    monkeypatch.setattr(facts, "_LOOKED_AT", 50)
    asked.clear()
    looked = store.tree.fact(home, "evicted", lambda found: not asked.append(found.ino)).splitlines()
    assert len(asked) == 50
    assert looked == [b"last", b"end", b"...", deep[8], deep[7]]
    assert b".../d/" in store.tree.fact(home, "evicted")


def test_the_others_hear_of_many_evicted_objects(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "_FEW", 0)
    store, other = stores.open(), stores.open()
    store.create_pipeline(APP.name, 0)
    other.sessions.ensure()
    for key in (b"full", b"empty", b"new"):
        store.put_object(APP, key, b"" if key == b"empty" else b"x")
    store.set_limit(APP.name, 1)
    assert [item.name for item in other.upkeep.news(1)] == [b"full"]
    assert [item.name for item in other.upkeep.news()] == [b"full", b"empty"]
    other.upkeep.acknowledge(other.upkeep.news())


@pytest.mark.parametrize("few", [0, 1000])
def test_a_directory_moved_in_costs_the_oldest_beside_it_first(
    few: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lowering, "_FEW", few)
    store.create_pipeline(APP.name, 3)
    store.start_run(RUN.name)
    for key in (b"d/1", b"d/2"):
        store.put_object(RUN, key, b"x")
    for key in (b"a", b"b", b"c"):
        store.put_object(APP, key, b"x")
    assert rename(store, RUN, b"d", b"d", APP)[0] == [b"pipeline/app/a", b"pipeline/app/b"]
    store.set_limit(APP.name, 1)
    for key in (b"e/1", b"e/2", b"e/3"):
        store.put_object(RUN, key, b"x")
    assert rename(store, RUN, b"e", b"e", APP)[0] == [b"pipeline/app/c", b"pipeline/app/e/1", b"pipeline/app/e/2"]
    check_store(store)
    assert rename(store, APP, b"e", b"e", RUN)[0] == []


def test_many_that_are_moved_in_are_evicted_without_what_is_known_of_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have attributes of up to 64 KiB each, and all of them have to fit into memory."""
    monkeypatch.setattr(lowering, "_FEW", 2)
    store.create_pipeline(APP.name, 3)
    store.start_run(RUN.name)
    for number in range(8):
        store.put_object(RUN, b"d/%d" % number, b"x")
    top = directory(store, RUN)
    _, effects = store.tree.rename(top, b"d", directory(store, APP), b"d", replace=False)
    assert [gone.name for gone in effects.evicted] == [b"%d" % number for number in range(5)]
    assert {gone.node for gone in effects.evicted} == {None}
    assert keys(store, APP) == [b"d/5", b"d/6", b"d/7"]
    check_store(store)


def test_which_runs_expire_next_is_kept_and_right(stores: Stores) -> None:
    store, other = stores.open(run_object_expiry=3), stores.open()
    for name in range(9):
        (store if name % 2 else other).start_run(b"%d" % name, b"app" if name % 3 == 0 else None)
        (store if name % 2 else other).finish_run(b"%d" % name)
        if not name % 2:
            store.tree.note_change()  # as a mount does within a tenth of a second
        for info in store.list_runs():
            ino = directory(store, ScopeName.run(info.name))
            left = lifetimes.starts_left(store.database, ino)
            assert store.tree.expires_next(ino) == (left is not None and left <= 0)


# Upkeep


def test_a_step_takes_a_moment_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of this test moves by a millisecond whenever it is looked at."""
    store.start_run(RUN.name)
    for number in range(300):
        store.put_object(RUN, b"%d" % number, b"x")
    ino = directory(store, RUN)
    with store.database.write():
        lifetimes.doom(store._transaction(), ino, RUNS_INO, RUN.name)
    now = [0.0]

    def monotonic() -> float:
        now[0] += 0.001
        return now[0]

    monkeypatch.setattr(time, "monotonic", monotonic)
    left = 300
    for _ in range(3):
        assert store.upkeep.sweep()
        assert left - 5 <= len(store.tree.children(ino, b"", 300)) < left
        left = len(store.tree.children(ino, b"", 300))
    values = len(store.engine.list_object_keys())
    assert store.upkeep.reclaim()
    assert values - 5 <= len(store.engine.list_object_keys()) < values


def test_work_does_all_of_it(store: Store) -> None:
    store.start_run(RUN.name)
    for number in range(300):
        store.put_object(RUN, b"%d" % number, b"x")
    with store.database.write():
        lifetimes.doom(store._transaction(), directory(store, RUN), RUNS_INO, RUN.name)
    assert store.upkeep.anything_to_do
    while store.upkeep.work():
        check_store(store)
    assert not store.upkeep.anything_to_do
    assert store.engine.list_object_keys() == []


def test_what_another_has_to_delete_is_not_read_again_and_again(stores: Stores) -> None:
    store, other = stores.open(), stores.open()
    store.sessions.ensure()
    other.sessions.ensure()
    store.create_pipeline(APP.name, 0)
    for number in range(500):
        other.put_object(APP, b"%d" % number, b"x")
        other.delete_object(APP, b"%d" % number)
    store.upkeep.acknowledge(store.upkeep.news())
    while store.upkeep.reclaim():
        pass
    assert store.upkeep._next_changes() == []
    store.put_object(APP, b"own", b"x")
    store.delete_object(APP, b"own")
    other.upkeep.acknowledge(other.upkeep.news())
    while store.upkeep.reclaim():
        pass
    assert len(store.engine.list_object_keys()) == 500
    stores.close(other)


def test_closing_leaves_what_takes_long_to_the_next(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.store._CLOSING_S", 0)
    store = stores.open()
    store.create_pipeline(APP.name, 0)
    for number in range(500):
        store.put_object(APP, b"%d" % number, b"x")
    store.delete_pipeline(APP.name, force=True)
    store = stores.reopen(store)
    assert store.upkeep.anything_to_do
    check_nothing_left(store)
    assert store.engine.list_object_keys() == []
