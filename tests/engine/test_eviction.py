"""The limit of a pipeline: what goes, in which order, and what comes back."""

import time

import pytest

from engine import Effects, ScopeName, Store, upkeep
from engine.catalog import eviction, nodes, taken
from engine.errors import NotEmptyError
from engine.model import PIPELINES_INO, Attributes
from tests.support.invariants import check_nothing_left
from tests.support.stores import (
    Stores,
    directory,
    keys,
    names,
    node,
    reclaim_all,
    rename,
    value,
    values,
)

LARGE = b"large" * 50_000
OTHER = ScopeName.pipeline("other")
RUN = ScopeName.run("42")


def put(store: Store, scope: ScopeName, *keys: bytes) -> list[bytes]:
    """Put each key, with itself as its value. Returns the paths of what that evicted."""
    return [gone.path for key in keys for gone in store.put_object(scope, key, key, force=True).evicted]


def delete(store: Store, scope: ScopeName, key: bytes) -> list[bytes]:
    """Delete a key. Returns the paths of what came back."""
    return [back.path for back in store.delete_object(scope, key).restored]


def pipeline_path(*keys: bytes) -> list[bytes]:
    return [b"pipeline/app/" + key for key in keys]


# The limit


def test_the_oldest_makes_way(store: Store, app: ScopeName) -> None:
    assert put(store, app, b"k1", b"k2", b"k3") == []
    assert put(store, app, b"k4") == pipeline_path(b"k1")
    assert keys(store, app) == [b"k2", b"k3", b"k4"]
    assert put(store, app, b"k1", b"k0") == pipeline_path(b"k2", b"k3")
    assert keys(store, app) == [b"k0", b"k1", b"k4"]


@pytest.mark.parametrize("limit", ["reached", "lowered"])
def test_of_deep_directories_the_last_ones_are_told(store: Store, app: ScopeName, limit: str) -> None:
    """Whoever makes them one in the other is not to have everybody wait while they are named."""
    whole, deep = (b"/".join([*[b"d"] * number, b"k"]) for number in (nodes.PATH_PARTS, nodes.PATH_PARTS + 1))
    put(store, app, whole, deep, b"3")
    if limit == "reached":
        told = put(store, app, b"4", b"5")
    else:
        told = [gone.path for gone in store.set_limit(app.name, 1).evicted]
    assert told == pipeline_path(whole, b".../" + whole)
    if limit == "reached":
        assert delete(store, app, b"5") == pipeline_path(b".../" + whole)


@pytest.mark.parametrize("removed", [True, False])
def test_what_waits_without_its_directory_is_not_told(store: Store, app: ScopeName, removed: bool) -> None:
    """It cannot come back: the directory was removed, or is in another pipeline."""
    store.create_pipeline(OTHER.name)
    put(store, app, b"d/1", b"2", b"3", b"4")
    assert store.tree.fact(node(store, app, b"4"), "evicted") == b"d/1\n"
    if removed:
        store.tree.remove_directory(directory(store, app), b"d")
    else:
        rename(store, app, b"d", b"d", OTHER)
    assert store.tree.fact(node(store, app, b"4"), "evicted") == b""
    assert delete(store, app, b"4") == []


def test_no_more_is_kept_of_a_long_key_than_can_be_shown(store: Store, app: ScopeName) -> None:
    put(store, app, b"/".join([b"d" * 255] * 300), b"2", b"3", b"4")
    pipeline = node(store, app, b"4").parent
    kept = store.database.value("SELECT max(length(name)) FROM taken WHERE scope = ?", (pipeline,))
    assert kept == taken.TEXT_MAX_BYTES
    put(store, app, b"5")
    assert store.tree.fact(store.tree.child(PIPELINES_INO, b"app"), "evicted") == b"2\n"


def test_what_was_evicted_is_told_in_full(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"a/b/c", b"value")
    put(store, app, b"2", b"3")
    gone = node(store, app, b"a/b/c")
    (evicted,) = store.put_object(app, b"4", b"").evicted
    assert (evicted.ino, evicted.parent, evicted.name) == (gone.ino, gone.parent, b"c")
    assert evicted.path == b"pipeline/app/a/b/c"
    assert names(store, directory(store, app, b"a")) == [b"b"], "directories are kept"


def test_the_store_has_a_limit_for_pipelines_without_one(stores: Stores) -> None:
    store = stores.open(pipeline_object_limit=2)
    for name, limit in ((b"app", None), (b"own", 1), (b"none", 0)):
        store.create_pipeline(name, limit)
        put(store, ScopeName.pipeline(name), b"1", b"2", b"3")
    assert [info.objects for info in store.list_pipelines()] == [2, 3, 1]
    store = stores.reopen(store, pipeline_object_limit=1)
    assert [info.objects for info in store.list_pipelines()] == [1, 3, 1], "lowering the limit evicts at once"
    store = stores.reopen(store, pipeline_object_limit=0)
    assert [info.effective_limit for info in store.list_pipelines()] == [0, 0, 1]
    assert put(store, ScopeName.pipeline("app"), *(b"%d" % number for number in range(60))) == []


def test_zero_means_no_limit(store: Store, app: ScopeName) -> None:
    store.set_limit(app.name, 0)
    assert put(store, app, *(b"%03d" % number for number in range(120))) == []
    assert len(keys(store, app)) == 120


def test_the_limit_is_50_unless_something_else_was_said(store: Store) -> None:
    store.create_pipeline(b"app")
    put(store, ScopeName.pipeline("app"), *(b"%03d" % number for number in range(51)))
    assert keys(store, ScopeName.pipeline("app")) == [b"%03d" % number for number in range(1, 51)]


def test_lowering_the_limit_evicts_at_once(store: Store, app: ScopeName) -> None:
    put(store, app, b"1", b"2", b"3")
    effects = store.set_limit(app.name, 1)
    assert [gone.path for gone in effects.evicted] == pipeline_path(b"1", b"2")
    assert store.set_limit(app.name, None) == Effects()
    assert store.set_limit(app.name, 5) == Effects()
    assert keys(store, app) == [b"3"]
    check_nothing_left(store)


def test_reading_and_touching_make_nothing_younger(store: Store, app: ScopeName) -> None:
    put(store, app, b"1", b"2", b"3")
    value(store, app, b"1")
    later = node(store, app, b"3").mtime_ns + 10**12
    store.tree.set_attributes(node(store, app, b"1").ino, Attributes(atime_ns=later, mtime_ns=later, mode=0o600))
    assert put(store, app, b"4") == pipeline_path(b"1")


def test_overwriting_makes_an_object_the_youngest(store: Store, app: ScopeName) -> None:
    put(store, app, b"1", b"2", b"3")
    assert put(store, app, b"1") == []
    assert put(store, app, b"4", b"5") == pipeline_path(b"2", b"3")
    assert keys(store, app) == [b"1", b"4", b"5"]


def test_the_object_just_put_is_never_its_own_victim(store: Store, app: ScopeName) -> None:
    store.set_limit(app.name, 1)
    assert put(store, app, b"1", b"2", b"3") == pipeline_path(b"1", b"2")
    store.start_run(RUN.name)
    put(store, RUN, b"old")
    assert put(store, app, b"4") == pipeline_path(b"3")
    assert rename(store, RUN, b"old", b"new", app) == (pipeline_path(b"4"), [])
    assert keys(store, app) == [b"new"], "though it was put before the one that made way"


def test_the_limit_counts_every_object_in_the_pipeline_and_nothing_else(store: Store, app: ScopeName) -> None:
    top = directory(store, app)
    for number in range(5):
        store.tree.make_directory(top, b"d%d" % number, 0o755, 0, 0)
        store.tree.make_symlink(top, b"l%d" % number, b"target", 0, 0)
    assert put(store, app, b"d0/1", b"d1/2", b"3") == []
    assert put(store, app, b"4") == pipeline_path(b"d0/1")


def test_pipelines_have_limits_of_their_own(store: Store, app: ScopeName) -> None:
    store.create_pipeline(OTHER.name, 1)
    put(store, OTHER, b"other")
    assert put(store, app, b"1", b"2", b"3", b"4") == pipeline_path(b"1")
    assert keys(store, OTHER) == [b"other"]


def test_next_victims_are_what_a_put_evicts(store: Store, app: ScopeName) -> None:
    top = directory(store, app)
    put(store, app, b"1", b"a/2")
    assert store.tree.next_victims(top) == []
    put(store, app, b"3")
    for parent in (top, directory(store, app, b"a")):
        assert [victim.name for victim in store.tree.next_victims(parent)] == [b"1"]
    assert [victim.name for victim in store.tree.next_victims(top, 2)] == [b"1", b"2"]
    assert len(store.tree.next_victims(top, 9)) == 3
    assert put(store, app, b"4") == pipeline_path(b"1")
    store.start_run(RUN.name)
    store.set_limit(app.name, 0)
    assert store.tree.next_victims(top) == store.tree.next_victims(directory(store, RUN)) == []


def test_what_was_evicted_gives_its_space_back_in_time(
    store: Store, app: ScopeName, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set_limit(app.name, 1)
    store.put_object(app, b"1", LARGE)
    store.put_object(app, b"2", b"2")
    reclaim_all(store)
    assert len(store.engine.list_object_keys()) == 2, "kept aside: it may come back"
    monkeypatch.setattr(eviction, "KEEP_DISPLACED_NS", -(10**9))
    reclaim_all(store)
    check_nothing_left(store)
    assert len(store.engine.list_object_keys()) == 1
    assert delete(store, app, b"2") == []


def test_a_clock_that_was_put_back_keeps_nothing_for_longer(
    store: Store, app: ScopeName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's clock does not go back, so that by it, nothing grows old for as long as the system's is behind."""
    store.set_limit(app.name, 1)
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 365 * 24 * 3600 * 10**9)
    put(store, app, b"1")
    monkeypatch.setattr(time, "time_ns", now)
    put(store, app, b"2")
    reclaim_all(store)
    reclaim_all(store)
    assert len(store.engine.list_object_keys()) == 2, "kept aside: it may come back"
    monkeypatch.setattr(eviction, "KEEP_DISPLACED_NS", 0)
    assert store.upkeep.anything_to_do
    reclaim_all(store)
    check_nothing_left(store)
    assert len(store.engine.list_object_keys()) == 1


@pytest.mark.parametrize("behind_s", [0, 365 * 24 * 3600])
def test_a_full_disk_takes_what_was_kept_aside(
    store: Store, app: ScopeName, monkeypatch: pytest.MonkeyPatch, behind_s: int
) -> None:
    """However far the system's clock is behind the store's."""
    store.set_limit(app.name, 1)
    put(store, app, b"1", b"2")
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() - behind_s * 10**9)
    monkeypatch.setattr(upkeep, "is_nearly_full", lambda database: True)
    reclaim_all(store)
    assert delete(store, app, b"2") == []
    check_nothing_left(store)
    assert store.engine.list_object_keys() == []


# Temporary files: what they displaced comes back


def test_a_temporary_name_costs_nothing_in_the_end(store: Store, app: ScopeName) -> None:
    """sed -i, rsync, editors: put a temporary name, rename it over the key."""
    put(store, app, b"1", b"2", b"3")
    before = [node(store, app, key) for key in (b"1", b"2")]
    assert put(store, app, b".tmp") == pipeline_path(b"1")
    assert rename(store, app, b".tmp", b"3") == ([], pipeline_path(b"1"))
    assert values(store, app) == {b"1": b"1", b"2": b"2", b"3": b".tmp"}
    assert [node(store, app, key) for key in (b"1", b"2")] == before
    assert put(store, app, b"4") == pipeline_path(b"1"), "it is as old as it was"


def test_a_temporary_name_that_replaces_what_it_displaced(store: Store, app: ScopeName) -> None:
    put(store, app, b"1", b"2", b"3", b".tmp")
    assert rename(store, app, b".tmp", b"1") == ([], [])
    assert values(store, app) == {b"1": b".tmp", b"2": b"2", b"3": b"3"}


def test_a_deleted_temporary_name_gives_its_place_back(store: Store, app: ScopeName) -> None:
    put(store, app, b"a/1", b"2", b"3", b".tmp")
    assert delete(store, app, b".tmp") == pipeline_path(b"a/1")
    assert values(store, app) == {b"2": b"2", b"3": b"3", b"a/1": b"a/1"}


def test_a_temporary_name_that_leaves_the_pipeline_gives_its_place_back(store: Store, app: ScopeName) -> None:
    store.start_run(RUN.name)
    put(store, app, b"1", b"2", b"3", b".tmp")
    assert rename(store, app, b".tmp", b"kept", RUN) == ([], pipeline_path(b"1"))
    assert keys(store, app) == [b"1", b"2", b"3"]


def test_a_temporary_name_that_came_by_rename(store: Store, app: ScopeName) -> None:
    """What a rename into a full pipeline displaced comes back like what a Put displaced."""
    store.start_run(RUN.name)
    put(store, app, b"1", b"2", b"3")
    put(store, RUN, b"new")
    assert rename(store, RUN, b"new", b".tmp", app) == (pipeline_path(b"1"), [])
    assert rename(store, app, b".tmp", b"3") == ([], pipeline_path(b"1"))
    assert values(store, app) == {b"1": b"1", b"2": b"2", b"3": b"new"}


def test_a_temporary_name_written_twice(store: Store, app: ScopeName) -> None:
    """The overwritten name stands for another inode: what the first displaced waits for the second."""
    put(store, app, b"1", b"2", b"3", b".tmp", b".tmp", b".tmp")
    assert rename(store, app, b".tmp", b"3") == ([], pipeline_path(b"1"))
    put(store, app, b".tmp", b".tmp")
    assert delete(store, app, b".tmp") == pipeline_path(b"1")


def test_a_temporary_name_renamed_twice(store: Store, app: ScopeName) -> None:
    put(store, app, b"1", b"2", b"3", b".tmp1")
    assert rename(store, app, b".tmp1", b".tmp2") == ([], [])
    assert rename(store, app, b".tmp2", b"2") == ([], pipeline_path(b"1"))
    assert keys(store, app) == [b"1", b"2", b"3"]


def test_two_temporary_names_at_once(store: Store, app: ScopeName) -> None:
    put(store, app, b"1", b"2", b"3", b".tmp2", b".tmp3")
    assert keys(store, app) == [b".tmp2", b".tmp3", b"3"]
    assert rename(store, app, b".tmp3", b"3") == ([], pipeline_path(b"2"))
    assert rename(store, app, b".tmp2", b"2") == ([], pipeline_path(b"1"))
    assert values(store, app) == {b"1": b"1", b"2": b".tmp2", b"3": b".tmp3"}


def test_what_a_replaced_object_had_displaced_waits_for_the_new_one(store: Store, app: ScopeName) -> None:
    put(store, app, b"1", b"2", b"3", b"4")
    put(store, app, b".tmp")
    assert rename(store, app, b".tmp", b"4") == ([], pipeline_path(b"2"))
    assert keys(store, app) == [b"2", b"3", b"4"]
    assert delete(store, app, b"4") == pipeline_path(b"1")


def test_what_was_displaced_stays_gone_when_its_name_is_taken(store: Store, app: ScopeName) -> None:
    put(store, app, b"1", b"2", b"3", b".tmp")
    store.delete_object(app, b"2")
    put(store, app, b"1")
    assert delete(store, app, b".tmp") == []
    assert keys(store, app) == [b"1", b"3"]
    check_nothing_left(store)


def test_what_was_displaced_stays_gone_when_its_directory_is(store: Store, app: ScopeName) -> None:
    put(store, app, b"a/1", b"2", b"3", b".tmp")
    store.tree.remove_directory(directory(store, app), b"a")
    assert delete(store, app, b".tmp") == []
    assert keys(store, app) == [b"2", b"3"]
    check_nothing_left(store)


def test_what_was_displaced_stays_gone_when_its_directory_left_the_pipeline(store: Store, app: ScopeName) -> None:
    store.start_run(RUN.name)
    put(store, app, b"a/1", b"2", b"3", b".tmp")
    rename(store, app, b"a", b"a", RUN)
    assert delete(store, app, b".tmp") == []
    assert keys(store, RUN) == []
    check_nothing_left(store)


def test_what_is_put_anew_in_a_directory_that_left_the_pipeline(store: Store, app: ScopeName) -> None:
    """What makes way for it has nothing to do with the pipeline that its name was evicted from."""
    store.create_pipeline(OTHER.name, 2)
    put(store, OTHER, b"x", b"y")
    put(store, app, b"a/1", b"2", b"3", b".tmp")
    rename(store, app, b"a", b"a", OTHER)
    assert put(store, OTHER, b"a/1") == [b"pipeline/other/x"]
    assert delete(store, app, b".tmp") == []
    assert delete(store, OTHER, b"a/1") == [b"pipeline/other/x"]


def test_a_victim_takes_what_it_had_displaced_with_it(store: Store, app: ScopeName) -> None:
    store.set_limit(app.name, 1)
    put(store, app, b"1", b"2", b"3")
    assert delete(store, app, b"3") == pipeline_path(b"2")
    assert delete(store, app, b"2") == []
    check_nothing_left(store)
    assert store.engine.list_object_keys() == []


def test_a_higher_limit_brings_nothing_back_by_itself(store: Store, app: ScopeName) -> None:
    put(store, app, b"1", b"2", b"3", b"4")
    assert store.set_limit(app.name, 10) == Effects()
    assert keys(store, app) == [b"2", b"3", b"4"]


def test_what_comes_back_can_be_read_whole(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"1", LARGE)
    put(store, app, b"2", b"3", b".tmp")
    reclaim_all(store)
    delete(store, app, b".tmp")
    assert value(store, app, b"1") == LARGE


def test_a_full_pipeline_can_be_emptied_and_removed(store: Store, app: ScopeName) -> None:
    """rm -r deletes the names that it saw, then the directory: what comes back meanwhile must not stop it."""
    put(store, app, b"a/1", b"a/2", b"a/3", b"a/4", b"a/5")
    top, below = directory(store, app), directory(store, app, b"a")
    for name in names(store, below):
        store.tree.remove(below, name)
    assert keys(store, app), "the test is about what came back"
    store.tree.remove_directory(top, b"a")
    store.tree.remove_directory(PIPELINES_INO, app.name)
    assert store.list_pipelines() == []
    check_nothing_left(store)
    assert store.engine.list_object_keys() == []


def test_a_directory_that_holds_anything_else_stays(store: Store, app: ScopeName) -> None:
    put(store, app, b"1", b"2", b"3", b"4")
    delete(store, app, b"4")
    assert keys(store, app) == [b"1", b"2", b"3"]
    with pytest.raises(NotEmptyError):
        store.tree.remove_directory(PIPELINES_INO, app.name)
    assert values(store, app) == {b"1": b"1", b"2": b"2", b"3": b"3"}


def test_an_object_put_again_after_it_came_back_keeps_its_directory(store: Store, app: ScopeName) -> None:
    store.set_limit(app.name, 1)
    put(store, app, b"1", b"2")
    assert delete(store, app, b"2") == pipeline_path(b"1")
    store.put_object(app, b"1", b"new", force=True)
    with pytest.raises(NotEmptyError):
        store.tree.remove_directory(PIPELINES_INO, app.name)
    assert values(store, app) == {b"1": b"new"}


def test_eviction_outlives_the_process(stores: Stores) -> None:
    store = stores.open(pipeline_object_limit=2)
    app = ScopeName.pipeline("app")
    store.create_pipeline(app.name)
    put(store, app, b"1", b"2", b"3")
    store = stores.reopen(store)
    assert keys(store, app) == [b"2", b"3"]
    assert put(store, app, b".tmp") == pipeline_path(b"2")
    store = stores.reopen(store)
    assert rename(store, app, b".tmp", b"3") == ([], pipeline_path(b"2"))
