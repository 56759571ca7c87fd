"""rename and exchange: within and across pipelines and runs, as POSIX and renameat2 have them."""

from typing import Any

import pytest

from engine import ScopeName, Store
from engine.errors import (
    ExistsError,
    InvalidError,
    IsDirectoryError,
    NotDirectoryError,
    NotEmptyError,
    NotFoundError,
    NotPermittedError,
)
from engine.model import PIPELINES_INO, RUNS_INO, Attributes
from engine.sqlite.database import Database, Row
from tests.support.invariants import check_nothing_left
from tests.support.stores import directory, keys, names, node, rename, value, values

LARGE = b"large" * 50_000
OTHER = ScopeName.pipeline("other")
RUN = ScopeName.run("42")


@pytest.fixture
def run(store: Store) -> ScopeName:
    store.start_run(RUN.name)
    return RUN


def count_statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list to which the statements are added that are run from now on."""
    statements: list[str] = []
    rows = Database.rows

    def counted(self: Database, sql: str, *arguments: Any) -> list[Row]:
        statements.append(sql)
        return rows(self, sql, *arguments)

    monkeypatch.setattr(Database, "rows", counted)
    return statements


def make(store: Store, scope: ScopeName, path: bytes) -> None:
    parent, _, name = path.rpartition(b"/")
    store.tree.make_directory(directory(store, scope, parent), name, 0o755, 0, 0)


def exchange(store: Store, scope: ScopeName, one: bytes, other: bytes, to: ScopeName | None = None) -> list[bytes]:
    """Swap two keys. Returns what was evicted."""
    one_parent, _, one_name = one.rpartition(b"/")
    other_parent, _, other_name = other.rpartition(b"/")
    return [
        gone.path
        for gone in store.tree.exchange(
            directory(store, scope, one_parent), one_name, directory(store, to or scope, other_parent), other_name
        ).evicted
    ]


def objects(store: Store) -> list[int]:
    return [pipeline.objects for pipeline in store.list_pipelines()]


# rename


def test_a_renamed_object_is_the_same_one(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"old", b"value")
    make(store, app, b"a")
    before = node(store, app, b"old")
    assert rename(store, app, b"old", b"a/new") == ([], [])
    after = node(store, app, b"a/new")
    assert values(store, app) == {b"a/new": b"value"}
    assert after.ctime_ns > before.ctime_ns
    assert after == before._replace(parent=after.parent, name=b"new", ctime_ns=after.ctime_ns)


@pytest.mark.parametrize("content", [b"", b"value", LARGE], ids=len)
def test_between_scopes_no_bytes_move(store: Store, app: ScopeName, run: ScopeName, content: bytes) -> None:
    store.put_object(run, b"model", content)
    before = node(store, run, b"model")
    rename(store, run, b"model", b"model", app)
    after = node(store, app, b"model")
    assert (after.ino, after.content, after.put_ns) == (before.ino, before.content, before.put_ns)
    assert value(store, app, b"model") == content
    assert keys(store, run) == []
    assert objects(store) == [1]
    assert store.list_runs()[0].objects == 0
    rename(store, app, b"model", b"back", run)
    assert values(store, run) == {b"back": content}
    assert objects(store) == [0]


@pytest.mark.parametrize("old", [b"", b"old", LARGE], ids=len)
def test_rename_replaces(store: Store, app: ScopeName, old: bytes) -> None:
    store.put_object(app, b"source", b"value")
    store.put_object(app, b"target", old)
    target = node(store, app, b"target")
    top = directory(store, app)
    replaced, effects = store.tree.rename(top, b"source", top, b"target", replace=True)
    assert replaced == target
    assert not effects.evicted
    assert values(store, app) == {b"target": b"value"}
    assert objects(store) == [1]
    check_nothing_left(store)


def test_noreplace_replaces_nothing(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"source", b"value")
    store.put_object(app, b"target", b"old")
    top = directory(store, app)
    for target in (b"target", b"source"):
        with pytest.raises(ExistsError):
            store.tree.rename(top, b"source", top, target, replace=False)
    assert values(store, app) == {b"source": b"value", b"target": b"old"}
    assert store.tree.rename(top, b"source", top, b"free", replace=False)[0] is None


def test_a_rename_to_itself_changes_nothing(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"key", b"value")
    before = node(store, app, b"key")
    assert rename(store, app, b"key", b"key") == ([], [])
    assert node(store, app, b"key") == before


def test_a_rename_is_no_put(store: Store, app: ScopeName) -> None:
    for key in (b"a", b"b", b"c"):
        store.put_object(app, key, b"")
    rename(store, app, b"a", b"z")
    assert [gone.name for gone in store.put_object(app, b"d", b"").evicted] == [b"z"]


def test_symlinks_and_objects_replace_each_other(store: Store, app: ScopeName) -> None:
    top = directory(store, app)
    store.put_object(app, b"object", b"value")
    store.tree.make_symlink(top, b"link", b"target", 0, 0)
    rename(store, app, b"link", b"object")
    assert node(store, app, b"object").target == b"target"
    assert objects(store) == [0]
    store.put_object(app, b"new", b"value")
    rename(store, app, b"new", b"object")
    assert values(store, app) == {b"object": b"value"}
    assert objects(store) == [1]


def test_a_directory_moves_with_all_that_is_in_it(store: Store, app: ScopeName, run: ScopeName) -> None:
    for key in (b"a/b/c", b"a/d", b"e"):
        store.put_object(run, key, key)
    make(store, run, b"a/empty")
    store.tree.make_symlink(directory(store, run, b"a"), b"link", b"b", 0, 0)
    rename(store, run, b"a", b"moved")
    assert keys(store, run) == [b"e", b"moved/b/c", b"moved/d"]
    rename(store, run, b"moved", b"moved", app)
    assert values(store, app) == {b"moved/b/c": b"a/b/c", b"moved/d": b"a/d"}
    assert names(store, directory(store, app, b"moved")) == [b"b", b"d", b"empty", b"link"]
    assert objects(store) == [2]
    assert store.list_runs()[0].objects == 1
    rename(store, app, b"moved/b", b"b", run)
    assert keys(store, run) == [b"b/c", b"e"]
    assert objects(store) == [1]


def test_a_moved_directory_meets_the_limit(store: Store, app: ScopeName, run: ScopeName) -> None:
    """Exactly as many of the oldest go as must; what was moved goes last, like an object just put."""
    store.put_object(app, b"1", b"")
    store.put_object(run, b"a/2", b"")
    store.put_object(app, b"3", b"")
    for key in (b"a/4", b"a/5"):
        store.put_object(run, key, b"")
    evicted, _ = rename(store, run, b"a", b"a", app)
    assert evicted == [b"pipeline/app/1", b"pipeline/app/3"]
    assert keys(store, app) == [b"a/2", b"a/4", b"a/5"]
    for key in (b"6", b"b/7", b"b/8", b"b/9"):
        store.put_object(run, key, b"")
    evicted, _ = rename(store, run, b"b", b"b", app)
    assert evicted == [b"pipeline/app/a/2", b"pipeline/app/a/4", b"pipeline/app/a/5"]
    for key in (b"c/1", b"c/2", b"c/3", b"c/4"):
        store.put_object(run, key, b"")
    evicted, _ = rename(store, run, b"c", b"c", app)
    assert evicted == [b"pipeline/app/b/7", b"pipeline/app/b/8", b"pipeline/app/b/9", b"pipeline/app/c/1"]


def test_a_directory_replaces_an_empty_one_only(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"a/key", b"value")
    store.put_object(app, b"full/key", b"other")
    store.put_object(app, b"object", b"")
    make(store, app, b"empty")
    before = {**values(store, app)}
    with pytest.raises(NotEmptyError):
        rename(store, app, b"a", b"full")
    with pytest.raises(NotDirectoryError):
        rename(store, app, b"a", b"object")
    with pytest.raises(IsDirectoryError):
        rename(store, app, b"object", b"empty")
    assert values(store, app) == before
    rename(store, app, b"a", b"empty")
    assert values(store, app) == {b"empty/key": b"value", b"full/key": b"other", b"object": b""}


@pytest.mark.parametrize("target", [b"a/a", b"a/b/x", b"a/b/c/x"])
def test_a_directory_cannot_move_into_itself(store: Store, app: ScopeName, target: bytes) -> None:
    store.put_object(app, b"a/b/c/key", b"value")
    with pytest.raises(InvalidError):
        rename(store, app, b"a", target)
    with pytest.raises(NotEmptyError):
        rename(store, app, b"a/b", b"a")
    assert keys(store, app) == [b"a/b/c/key"]


def test_a_directory_comes_to_a_deep_place(store: Store, app: ScopeName, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is above that is looked at in one step, for everybody waits for it."""
    deep = b"/".join([b"d"] * 300)
    store.put_object(app, deep + b"/key", b"value")
    make(store, app, b"a")
    top, bottom = directory(store, app), directory(store, app, deep)
    statements = count_statements(monkeypatch)
    store.tree.rename(top, b"a", bottom, b"a", replace=False)
    with pytest.raises(InvalidError):
        store.tree.rename(top, b"d", bottom, b"x", replace=False)
    assert len(statements) < 50
    assert names(store, top) == [b"d"]


def test_pipelines_and_runs_keep_their_places(store: Store, app: ScopeName, run: ScopeName) -> None:
    store.put_object(app, b"key", b"value")
    make(store, app, b"a")
    top = directory(store, app)
    places = [(PIPELINES_INO, b"app"), (RUNS_INO, b"42")]
    for parent, name in places:
        for new_parent in (PIPELINES_INO, RUNS_INO, top):
            with pytest.raises(NotPermittedError):
                store.tree.rename(parent, name, new_parent, b"new", replace=True)
    for name in (b"key", b"a"):
        for new_parent in (1, PIPELINES_INO, RUNS_INO):
            with pytest.raises(NotPermittedError):
                store.tree.rename(top, name, new_parent, b"new", replace=True)
        for parent, other in places:
            with pytest.raises(NotPermittedError):
                store.tree.exchange(top, name, parent, other)
            with pytest.raises(NotPermittedError):
                store.tree.exchange(parent, other, top, name)
    assert names(store, top) == [b"a", b"key"]


def test_what_is_renamed_must_be_there(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"key", b"value")
    top = directory(store, app)
    make(store, app, b"gone")
    gone = directory(store, app, b"gone")
    store.tree.remove_directory(top, b"gone")
    for parent, name, new_parent in ((top, b"missing", top), (top, b"key", gone), (gone, b"key", top)):
        with pytest.raises(NotFoundError):
            store.tree.rename(parent, name, new_parent, b"new", replace=True)
    for other_parent, other in ((top, b"missing"), (gone, b"key")):
        with pytest.raises(NotFoundError):
            store.tree.exchange(top, b"key", other_parent, other)
    assert values(store, app) == {b"key": b"value"}


# exchange


def test_exchange_swaps_two_names(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"one", b"1")
    store.put_object(app, b"a/two", b"2")
    assert exchange(store, app, b"one", b"a/two") == []
    assert values(store, app) == {b"one": b"2", b"a/two": b"1"}
    assert exchange(store, app, b"one", b"one") == []
    assert exchange(store, app, b"one", b"a") == []
    assert values(store, app) == {b"a": b"2", b"one/two": b"1"}
    assert objects(store) == [2]


def test_exchange_refuses_a_directory_and_what_is_in_it(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"a/b/key", b"value")
    for one, other in ((b"a", b"a/b"), (b"a/b", b"a"), (b"a", b"a/b/key"), (b"a/b/key", b"a")):
        with pytest.raises(InvalidError):
            exchange(store, app, one, other)
    assert keys(store, app) == [b"a/b/key"]


def test_an_exchange_of_full_pipelines_costs_nothing(store: Store, app: ScopeName) -> None:
    """Both have as many objects after it as before: exactly as many go as must, which is none."""
    store.create_pipeline(OTHER.name, 2)
    for scope, new in ((OTHER, (b"1", b"2")), (app, (b"3", b"4", b"5"))):
        for key in new:
            store.put_object(scope, key, key)
    assert exchange(store, app, b"3", b"1", OTHER) == []
    assert values(store, app) == {b"3": b"1", b"4": b"4", b"5": b"5"}
    assert values(store, OTHER) == {b"1": b"3", b"2": b"2"}
    assert exchange(store, OTHER, b"1", b"5", app) == []
    assert values(store, app) == {b"3": b"1", b"4": b"4", b"5": b"3"}
    assert values(store, OTHER) == {b"1": b"5", b"2": b"2"}


def test_an_exchange_with_a_symlink_or_directory_meets_the_limit(store: Store, app: ScopeName) -> None:
    store.create_pipeline(OTHER.name, 1)
    store.put_object(OTHER, b"old", b"")
    store.tree.make_symlink(directory(store, OTHER), b"link", b"target", 0, 0)
    store.put_object(app, b"new", b"value")
    assert exchange(store, app, b"new", b"link", OTHER) == [b"pipeline/other/old"]
    assert values(store, OTHER) == {b"link": b"value"}
    assert node(store, app, b"new").target == b"target"
    make(store, app, b"a")
    for key in (b"a/1", b"a/2"):
        store.put_object(app, key, key)
    exchange(store, app, b"a", b"link", OTHER)
    assert values(store, OTHER) == {b"link/2": b"a/2"}
    assert values(store, app) == {b"a": b"value"}
    check_nothing_left(store)


def test_an_exchange_between_a_run_and_a_pipeline(store: Store, app: ScopeName, run: ScopeName) -> None:
    store.put_object(app, b"key", b"of the pipeline")
    store.put_object(run, b"a/key", b"of the run")
    exchange(store, app, b"key", b"a", run)
    assert values(store, app) == {b"key/key": b"of the run"}
    assert values(store, run) == {b"a": b"of the pipeline"}
    assert objects(store) == [1]


def test_a_renamed_name_can_be_used_again(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"key", b"old")
    rename(store, app, b"key", b"backup")
    store.put_object(app, b"key", b"new")
    assert values(store, app) == {b"backup": b"old", b"key": b"new"}


def test_attributes_move_with_the_name(store: Store, app: ScopeName, run: ScopeName) -> None:
    store.put_object(run, b"key", b"value")
    ino = node(store, run, b"key").ino
    store.tree.set_attributes(ino, Attributes(mode=0o600, uid=7, gid=8, atime_ns=1, mtime_ns=2))
    store.tree.set_xattrs(ino, b"packed")
    rename(store, run, b"key", b"key", app)
    moved = node(store, app, b"key")
    assert (moved.mode, moved.uid, moved.gid, moved.atime_ns, moved.mtime_ns) == (0o600, 7, 8, 1, 2)
    assert moved.xattrs == b"packed"
