"""Runs: their expiry by number of newer ones, per pipeline, and the sweep of what they held."""

import pytest

from engine import Effects, ScopeName, Store
from engine.errors import NotFoundError
from engine.model import RUNS_INO, Removed
from tests.support.invariants import check_nothing_left
from tests.support.stores import Stores, directory, keys, names, new_draft, new_put, rename, value


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, stores: Stores) -> Store:
    """A store whose runs go when two newer ones have started."""
    return stores.open(engine=request.param, run_object_expiry=2)


def start(store: Store, name: int, pipeline: bytes | None = None, *, finish: bool = True) -> list[bytes]:
    """Start a run, and finish it. Returns the paths of the runs that expired."""
    expired = store.start_run(b"%d" % name, pipeline).expired
    if finish:
        expired += store.finish_run(b"%d" % name).expired
    return [run.path for run in expired]


def make(store: Store, name: int) -> list[bytes]:
    """Start a run as mkdir does."""
    return [run.path for run in store.tree.make_directory(RUNS_INO, b"%d" % name, 0o755, 0, 0)[1].expired]


def runs(store: Store) -> list[int]:
    return [int(run.name) for run in store.list_runs()]


def test_a_run_goes_when_enough_newer_ones_have_started(store: Store) -> None:
    """The contract: with an expiry of 2, the objects of run 5 go when run 7 starts."""
    assert start(store, 5) == start(store, 6) == []
    store.put_object(ScopeName.run("5"), b"a/b", b"value")
    assert start(store, 7) == [b"run/5"]
    assert runs(store) == [6, 7]
    assert names(store, RUNS_INO) == [b"6", b"7"]
    with pytest.raises(NotFoundError):
        store.read_object(ScopeName.run("5"), b"a/b")
    check_nothing_left(store)
    assert store.engine.list_object_keys() == []


def test_what_expired_is_told_in_full(store: Store) -> None:
    start(store, 1)
    ino = directory(store, ScopeName.run("1"))
    start(store, 2)
    (expired,) = store.start_run(b"3").expired
    assert expired == Removed(ino, RUNS_INO, b"1", b"run/")


def test_a_run_made_by_mkdir_expires_and_makes_expire(store: Store) -> None:
    assert make(store, 1) == start(store, 2) == []
    assert make(store, 3) == [b"run/1"]
    assert make(store, 4) == [b"run/2"]


def test_each_pipelines_runs_are_counted_apart(store: Store) -> None:
    for name, pipeline in ((1, b"app"), (2, b"app"), (3, None), (4, b"other"), (5, None), (6, b"other")):
        assert start(store, name, pipeline) == []
    assert start(store, 7, b"app") == [b"run/1"]
    assert make(store, 8) == [b"run/3"]
    assert start(store, 9, b"other") == [b"run/4"]
    assert runs(store) == [2, 5, 6, 7, 8, 9]


def test_a_run_does_not_expire_before_it_is_finished(store: Store) -> None:
    assert start(store, 1, finish=False) == []
    for name in (2, 3, 4):
        start(store, name)
    assert runs(store) == [1, 3, 4]
    store.put_object(ScopeName.run("1"), b"key", b"value")
    assert [run.path for run in store.finish_run(b"1").expired] == [b"run/1"]
    assert runs(store) == [3, 4]
    with pytest.raises(NotFoundError):
        store.finish_run(b"1")


def test_an_unfinished_run_counts_as_a_newer_one(store: Store) -> None:
    start(store, 1)
    assert start(store, 2, finish=False) == []
    assert start(store, 3, finish=False) == [b"run/1"]
    assert start(store, 4, finish=False) == start(store, 5, finish=False) == []
    assert runs(store) == [2, 3, 4, 5]
    assert store.finish_run(b"5") == store.finish_run(b"4") == Effects()
    assert [run.name for run in store.finish_run(b"3").expired] == [b"3"]


def test_finishing_twice_changes_nothing(store: Store) -> None:
    start(store, 1)
    assert store.finish_run(b"1") == Effects()


def test_a_removed_run_is_not_counted(store: Store) -> None:
    start(store, 1)
    start(store, 2)
    store.tree.remove_directory(RUNS_INO, b"2")
    assert start(store, 3) == []
    assert runs(store) == [1, 3]
    assert start(store, 2) == [b"run/1"], "the name is free, and the run a new one"
    assert runs(store) == [3, 2]


def test_an_expiry_of_one_keeps_the_newest_run(stores: Stores) -> None:
    store = stores.open(run_object_expiry=1)
    assert [start(store, name) for name in (1, 2, 3)] == [[], [b"run/1"], [b"run/2"]]


def test_zero_means_never(stores: Stores) -> None:
    store = stores.open(run_object_expiry=0)
    for name in range(60):
        assert start(store, name) == []
    assert len(runs(store)) == 60


def test_50_runs_are_kept_unless_something_else_was_said(stores: Stores) -> None:
    store = stores.open()
    for name in range(51):
        expired = start(store, name)
    assert expired == [b"run/0"]


def test_a_lower_expiry_holds_at_once(stores: Stores) -> None:
    store = stores.open(run_object_expiry=0)
    for name, pipeline in ((1, None), (2, b"app"), (3, None), (4, b"app"), (5, None)):
        start(store, name, pipeline)
    start(store, 0, b"other", finish=False)
    store = stores.reopen(store, run_object_expiry=1)
    assert runs(store) == [4, 5, 0]


def test_what_expires_next_is_known_beforehand(store: Store) -> None:
    first = store.tree.make_directory(RUNS_INO, b"1", 0o755, 0, 0)
    assert first[2] == []
    assert not store.tree.expires_next(first[0].ino)
    second = store.tree.make_directory(RUNS_INO, b"2", 0o755, 0, 0)
    assert [run.ino for run in second[2]] == [first[0].ino]
    assert store.tree.expires_next(first[0].ino)
    assert not store.tree.expires_next(second[0].ino)
    assert make(store, 3) == [b"run/1"]


def test_a_protected_run_does_not_expire_next(store: Store) -> None:
    for name in (1, 2, 3):
        start(store, name, finish=False)
    assert [store.tree.expires_next(directory(store, ScopeName.run(str(name)))) for name in (1, 2, 3)] == [False] * 3


def test_an_expired_runs_objects_are_swept_in_small_steps(store: Store) -> None:
    run = ScopeName.run("1")
    start(store, 1)
    for number in range(450):
        store.put_object(run, b"a/b%d/%d" % (number % 3, number), b"x")
    start(store, 2)
    start(store, 3)
    steps = 0
    while store.upkeep.sweep():
        steps += 1
    assert steps > 2
    assert store.upkeep.anything_to_reclaim()
    check_nothing_left(store)
    assert not store.upkeep.anything_to_reclaim()
    assert store.engine.list_object_keys() == []


def test_a_value_being_read_outlives_its_run(store: Store) -> None:
    run = ScopeName.run("1")
    start(store, 1)
    store.put_object(run, b"key", b"value")
    reading = store.read_object(run, b"key")
    start(store, 2)
    start(store, 3)
    while store.upkeep.sweep() or store.upkeep.reclaim():
        pass
    assert b"".join(reading) == b"value"
    check_nothing_left(store)


def test_nothing_can_be_put_into_an_expired_run(store: Store) -> None:
    run = ScopeName.run("1")
    start(store, 1)
    store.put_object(run, b"a/key", b"value")
    top, below = directory(store, run), directory(store, run, b"a")
    draft = new_draft(store, b"late")
    put = new_put(store, below, b"late")
    start(store, 2)
    start(store, 3)
    with pytest.raises(NotFoundError):
        store.publisher.publish(put, draft)
    with pytest.raises(NotFoundError):
        store.publisher.prepare(put, draft, 1)
    store.publisher.abandon(draft)
    assert store.tree.child(top, b"late") is None
    check_nothing_left(store)
    assert store.engine.list_object_keys() == []


def test_moving_out_of_an_expired_run_fails_or_moves_all(store: Store) -> None:
    """Whoever still has the directory open must not be able to make the counts wrong."""
    run, kept = ScopeName.run("1"), ScopeName.run("3")
    start(store, 1)
    store.put_object(run, b"key", b"value")
    store.put_object(run, b"a/key", b"value")
    top = directory(store, run)
    start(store, 2)
    start(store, 3)
    for name in (b"key", b"a"):
        with pytest.raises(NotFoundError):
            store.tree.rename(top, name, directory(store, kept), name, replace=True)
    assert keys(store, kept) == []
    check_nothing_left(store)


def test_what_was_moved_to_a_pipeline_stays(store: Store) -> None:
    app = ScopeName.pipeline("app")
    store.create_pipeline(app.name)
    start(store, 42)
    store.put_object(ScopeName.run("42"), b"model", b"value")
    rename(store, ScopeName.run("42"), b"model", b"model", app)
    start(store, 43)
    start(store, 44)
    check_nothing_left(store)
    assert value(store, app, b"model") == b"value"


def test_a_run_need_not_have_its_pipeline(store: Store) -> None:
    """A run outlives the pipeline that it was started for, and may come before it."""
    start(store, 1, b"app")
    store.create_pipeline(b"app")
    store.delete_pipeline(b"app")
    start(store, 2, b"app")
    assert start(store, 3, b"app") == [b"run/1"]
