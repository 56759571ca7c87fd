"""Objects by pipeline or run and key, as a program without a mount uses them."""

from collections.abc import Iterator
from typing import Any

import pytest

from engine import Effects, ObjectInfo, PipelineInfo, RunInfo, ScopeName, Store
from engine.errors import (
    ExistsError,
    InvalidError,
    IsDirectoryError,
    NameTooLongError,
    NotDirectoryError,
    NotEmptyError,
    NotFoundError,
    StoreError,
    TooLargeError,
)
from tests.support.invariants import check_nothing_left
from tests.support.stores import Stores, directory, keys, names, node, value, values

LARGE = bytes(range(256)) * 5000 + b"odd"  # several chunks, the last one not full
NOWHERE = ScopeName.pipeline("nowhere")


# Pipelines


def test_a_new_store_is_empty(store: Store) -> None:
    assert store.list_pipelines() == []
    assert store.list_runs() == []


def test_pipelines_are_listed_by_name(store: Store) -> None:
    store.create_pipeline(b"b", 7)
    store.create_pipeline(b"a")
    store.create_pipeline(b"c", 0)
    store.put_object(ScopeName.pipeline("b"), b"key", b"value")
    assert store.list_pipelines() == [
        PipelineInfo(b"a", 0, None, 50),
        PipelineInfo(b"b", 1, 7, 7, bytes=5),
        PipelineInfo(b"c", 0, 0, 0),
    ]


def test_a_pipeline_is_made_once(store: Store) -> None:
    store.create_pipeline(b"app", 7)
    with pytest.raises(ExistsError):
        store.create_pipeline(b"app", 8)
    assert store.list_pipelines() == [PipelineInfo(b"app", 0, 7, 7)]


@pytest.mark.parametrize("name", [b"", b".", b"..", b"-a", b"_a", b".a", b"a b", b"a/b", b"\xff", b"a" * 129, b"a\n"])
def test_an_invalid_name_makes_nothing(store: Store, name: bytes) -> None:
    with pytest.raises(InvalidError):
        store.create_pipeline(name)
    with pytest.raises(InvalidError):
        store.start_run(name)
    with pytest.raises(InvalidError):
        store.start_run(b"42", name)
    with pytest.raises(InvalidError):
        store.put_object(ScopeName.pipeline(name), b"key", b"value")
    assert store.list_pipelines() == []
    assert store.list_runs() == []


@pytest.mark.parametrize("name", [b"a" * 128, b"0", b"A-z_0.9", b"a."])
def test_an_unusual_name_is_good(store: Store, name: bytes) -> None:
    store.create_pipeline(name)
    store.start_run(name)
    assert [info.name for info in store.list_pipelines()] == [name]
    assert [info.name for info in store.list_runs()] == [name]


@pytest.mark.parametrize("limit", [-1, 2**31])
def test_an_invalid_limit_is_refused(store: Store, app: ScopeName, limit: int) -> None:
    with pytest.raises(InvalidError):
        store.create_pipeline(b"other", limit)
    with pytest.raises(InvalidError):
        store.set_limit(app.name, limit)
    assert store.list_pipelines() == [PipelineInfo(b"app", 0, 3, 3)]


def test_a_pipeline_that_holds_something_is_deleted_by_force_only(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"a/b/c", LARGE)
    store.put_object(app, b"key", b"value")
    with pytest.raises(NotEmptyError):
        store.delete_pipeline(app.name)
    assert keys(store, app) == [b"a/b/c", b"key"]
    store.delete_pipeline(app.name, force=True)
    assert store.list_pipelines() == []
    with pytest.raises(NotFoundError):
        store.read_object(app, b"key")
    check_nothing_left(store)


def test_an_empty_pipeline_needs_no_force(store: Store, app: ScopeName) -> None:
    store.delete_pipeline(app.name)
    assert store.list_pipelines() == []


def test_a_deleted_pipelines_name_is_free_before_it_is_swept(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"key", b"old")
    store.delete_pipeline(app.name, force=True)
    store.create_pipeline(app.name, 0)
    assert keys(store, app) == []
    store.put_object(app, b"key", b"new")
    check_nothing_left(store)
    assert values(store, app) == {b"key": b"new"}


def test_what_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="pipeline create nowhere"):
        store.delete_pipeline(b"nowhere")
    with pytest.raises(NotFoundError):
        store.set_limit(b"nowhere", 1)
    with pytest.raises(NotFoundError, match="run start 42"):
        store.finish_run(b"42")
    for scope in (NOWHERE, ScopeName.run("42")):
        for attempt in (
            lambda scope=scope: store.put_object(scope, b"key", b"value"),
            lambda scope=scope: store.read_object(scope, b"key"),
            lambda scope=scope: store.list_objects(scope),
            lambda scope=scope: store.delete_object(scope, b"key"),
        ):
            with pytest.raises(NotFoundError):
                attempt()


# Runs


def test_runs_are_listed_oldest_first(store: Store) -> None:
    for name in (b"b", b"a", b"c"):
        store.start_run(name, b"app" if name == b"a" else None)
    store.put_object(ScopeName.run("a"), b"key", b"value")
    store.finish_run(b"a")
    runs = store.list_runs()
    assert [run.name for run in runs] == [b"b", b"a", b"c"]
    assert sorted(runs, key=lambda run: run.started_ns) == runs
    assert runs[1] == RunInfo(b"a", b"app", 1, runs[1].started_ns, True, bytes=5)
    assert runs[0] == RunInfo(b"b", None, 0, runs[0].started_ns, False)


def test_a_run_is_started_once(store: Store) -> None:
    store.start_run(b"42")
    store.finish_run(b"42")
    with pytest.raises(ExistsError):
        store.start_run(b"42", b"app")
    assert [(run.pipeline, run.finished) for run in store.list_runs()] == [(None, True)]


def test_a_pipeline_and_a_run_of_one_name_are_apart(store: Store, app: ScopeName) -> None:
    run = ScopeName.run(app.name)
    store.start_run(app.name)
    store.put_object(app, b"key", b"of the pipeline")
    store.put_object(run, b"key", b"of the run")
    store.delete_object(run, b"key")
    assert values(store, app) == {b"key": b"of the pipeline"}
    assert keys(store, run) == []


def test_a_run_has_no_limit(store: Store) -> None:
    store.start_run(b"42")
    for number in range(60):
        assert store.put_object(ScopeName.run("42"), b"%02d" % number, b"") == Effects()
    assert len(keys(store, ScopeName.run("42"))) == 60


# Put and get


@pytest.mark.parametrize("content", [b"", b"\0", b"hello\n", b"x" * 65536, b"x" * 65537, LARGE], ids=len)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_what_is_put_is_got(store: Store, app: ScopeName, content: bytes, streamed: bool) -> None:
    store.put_object(app, b"key", iter([content[:1], b"", content[1:]]) if streamed else content)
    assert value(store, app, b"key") == content
    found = node(store, app, b"key")
    (info,) = store.list_objects(app)
    assert info == ObjectInfo(b"key", len(content), found.mtime_ns, found.put_ns)


def test_without_force_the_old_value_stands(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"key", b"old")
    with pytest.raises(ExistsError, match="--force"):
        store.put_object(app, b"key", b"new")
    assert value(store, app, b"key") == b"old"


def test_without_force_a_stream_is_not_even_read(store: Store, app: ScopeName) -> None:
    read = []

    def never() -> Iterator[bytes]:
        read.append(True)
        yield b"value"

    store.put_object(app, b"key", b"old")
    with pytest.raises(ExistsError):
        store.put_object(app, b"key", never())
    with pytest.raises(NotFoundError):
        store.put_object(NOWHERE, b"key", never())
    assert read == []


@pytest.mark.parametrize("content", [b"meanwhile", LARGE], ids=["small", "large"])
def test_a_value_that_came_meanwhile_stands_without_force(store: Store, app: ScopeName, content: bytes) -> None:
    def overtaken() -> Iterator[bytes]:
        yield LARGE
        store.put_object(app, b"key", content)

    with pytest.raises(ExistsError):
        store.put_object(app, b"key", overtaken())
    assert value(store, app, b"key") == content
    check_nothing_left(store)


@pytest.mark.parametrize("old", [b"", b"old", LARGE], ids=len)
@pytest.mark.parametrize("new", [b"", b"new", LARGE[::-1]], ids=len)
def test_force_replaces_the_whole_value(store: Store, app: ScopeName, old: bytes, new: bytes) -> None:
    store.put_object(app, b"key", old)
    store.put_object(app, b"key", new, force=True)
    assert values(store, app) == {b"key": new}
    check_nothing_left(store)


def test_force_keeps_the_attributes_and_changes_the_inode(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"key", b"old", uid=7, gid=8)
    old = node(store, app, b"key")
    store.tree.set_xattrs(old.ino, b"\x81\xc4\x01a\xc4\x01b")
    store.put_object(app, b"key", b"new", force=True, uid=1, gid=1)
    new = node(store, app, b"key")
    assert (new.mode, new.uid, new.gid, new.xattrs) == (0o644, 7, 8, b"\x81\xc4\x01a\xc4\x01b")
    assert new.ino != old.ino
    assert new.put_ns > old.put_ns


def test_force_puts_an_ordinary_object_in_place_of_a_symlink(store: Store, app: ScopeName) -> None:
    store.tree.make_symlink(directory(store, app), b"key", b"target", 0, 0)
    with pytest.raises(InvalidError):
        store.read_object(app, b"key")
    with pytest.raises(ExistsError):
        store.put_object(app, b"key", b"value")
    store.put_object(app, b"key", b"value", force=True)
    assert values(store, app) == {b"key": b"value"}
    assert node(store, app, b"key").mode == 0o644
    assert store.list_pipelines()[0].objects == 1


def test_a_stream_that_breaks_off_leaves_the_old_value(store: Store, app: ScopeName) -> None:
    class BrokenError(Exception):
        pass

    def broken() -> Iterator[bytes]:
        yield LARGE
        raise BrokenError

    store.put_object(app, b"key", b"old")
    for key in (b"key", b"a/new/one"):
        with pytest.raises(BrokenError):
            store.put_object(app, key, broken(), force=True)
    assert values(store, app) == {b"key": b"old"}
    assert names(store, directory(store, app)) == [b"key"]
    check_nothing_left(store)


def test_a_value_is_not_seen_before_its_end(store: Store, app: ScopeName) -> None:
    def watched() -> Iterator[bytes]:
        for _ in range(3):
            yield LARGE
            assert values(store, app) == {b"old": b"old"}

    store.put_object(app, b"old", b"old")
    store.put_object(app, b"new", watched())
    store.put_object(app, b"new", b"short", force=True)
    store.delete_object(app, b"new")
    store.put_object(app, b"old", watched(), force=True)
    assert values(store, app) == {b"old": LARGE * 3}


@pytest.mark.parametrize("old", [b"old", LARGE], ids=["small", "large"])
def test_a_value_being_read_stands_still(store: Store, app: ScopeName, old: bytes) -> None:
    """The contract: an object opened for reading is one committed value, whatever is overwritten or deleted."""
    store.put_object(app, b"key", old)
    replaced = store.read_object(app, b"key")
    store.put_object(app, b"key", b"new", force=True)
    deleted = store.read_object(app, b"key")
    store.delete_object(app, b"key")
    while store.upkeep.reclaim():
        pass
    assert b"".join(replaced) == old
    assert b"".join(deleted) == b"new"
    check_nothing_left(store)


def test_a_value_that_nobody_reads_to_its_end_is_let_go(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"key", LARGE * 3)
    reading = store.read_object(app, b"key")
    next(reading)
    del reading
    store.delete_object(app, b"key")
    check_nothing_left(store)


def test_what_is_not_there_is_said_before_the_first_piece(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"a/b", b"value")
    with pytest.raises(NotFoundError, match="missing"):
        store.read_object(app, b"missing")
    with pytest.raises(NotFoundError):
        store.read_object(app, b"a/b/c")
    with pytest.raises(IsDirectoryError):
        store.read_object(app, b"a")
    with pytest.raises(InvalidError):
        store.read_object(app, b"")


def test_max_object_size_is_the_largest_that_fits(stores: Stores) -> None:
    store = stores.open(max_object_size=70_000)
    app = ScopeName.pipeline("app")
    store.create_pipeline(app.name)
    store.put_object(app, b"fits", b"x" * 70_000)
    for content in (b"x" * 70_001, iter([b"x" * 70_000, b"x"])):
        with pytest.raises(TooLargeError):
            store.put_object(app, b"a/too/large", content)
        with pytest.raises(TooLargeError):
            store.put_object(app, b"fits", b"x" * 70_001, force=True)
    assert values(store, app) == {b"fits": b"x" * 70_000}
    assert names(store, directory(store, app)) == [b"fits"]
    check_nothing_left(store)


# Keys


def test_a_key_makes_its_directories(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"a/b/c", b"value", uid=7, gid=8)
    store.put_object(app, b"a/b/d", b"value")
    made = node(store, app, b"a/b")
    assert (made.mode, made.uid, made.gid) == (0o755, 7, 8)
    store.delete_object(app, b"a/b/c")
    store.delete_object(app, b"a/b/d")
    assert names(store, directory(store, app, b"a")) == [b"b"]


@pytest.mark.parametrize("key", [b"", b"/", b"/a", b"a/", b"a//b", b".", b"..", b"a/./b", b"a/../b", b"a\0b"])
def test_an_invalid_key_is_refused(store: Store, app: ScopeName, key: bytes) -> None:
    for attempt in (
        lambda: store.put_object(app, key, b"value", force=True),
        lambda: store.read_object(app, key),
        lambda: store.delete_object(app, key),
    ):
        with pytest.raises(InvalidError):
            attempt()
    assert names(store, directory(store, app)) == []


def test_the_longest_part_of_a_key_is_255_bytes(store: Store, app: ScopeName) -> None:
    longest = b"\xff" * 255
    store.put_object(app, longest + b"/" + longest, b"value")
    assert keys(store, app) == [longest + b"/" + longest]
    for key in (longest + b"x", b"new/" + longest + b"x", longest + b"x/new"):
        with pytest.raises(NameTooLongError):
            store.put_object(app, key, b"value")
    assert names(store, directory(store, app)) == [longest]


def test_a_deep_key_is_good(store: Store, app: ScopeName) -> None:
    key = b"/".join([b"d"] * 600)
    store.put_object(app, key, b"value")
    assert keys(store, app) == [key]
    assert value(store, app, key) == b"value"


def test_a_directory_that_another_makes_at_the_same_time(
    store: Store, app: ScopeName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes it, both keys are put."""
    make_directory = store.tree.make_directory

    def second(*arguments: Any) -> Any:
        monkeypatch.undo()
        store.put_object(app, b"new/other", b"value")
        return make_directory(*arguments)

    monkeypatch.setattr(store.tree, "make_directory", second)
    store.put_object(app, b"new/key", b"value")
    assert keys(store, app) == [b"new/key", b"new/other"]


def test_an_object_is_no_directory_and_a_directory_no_object(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"a/b", b"value")
    for key in (b"a/b/c", b"a/b/c/d"):
        with pytest.raises(NotDirectoryError):
            store.put_object(app, key, b"value")
    for force in (False, True):
        with pytest.raises(IsDirectoryError):
            store.put_object(app, b"a", b"value", force=force)
    with pytest.raises(IsDirectoryError):
        store.delete_object(app, b"a")
    assert values(store, app) == {b"a/b": b"value"}


def test_what_is_refused_makes_no_directory(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"a/object", b"value")
    with pytest.raises(NotDirectoryError):
        store.put_object(app, b"a/object/c/d", b"value")
    with pytest.raises(StoreError):
        store.put_object(app, b"new/" + b"x" * 256, b"value")
    assert names(store, directory(store, app)) == [b"a"]
    assert names(store, directory(store, app, b"a")) == [b"object"]


# Lists

KEYS = [
    b"%",
    b"A",
    b"a",
    b"a%",
    b"a-b",
    b"a-b/c",
    b"a/b",
    b"a/b/c",
    b"a0",
    b"a_",
    b"ab",
    b"b/c/d",
    b"\xc3\xa9",
    b"\xff",
]


def fill(store: Store) -> ScopeName:
    scope = ScopeName.run("42")
    store.start_run(scope.name)
    for key in KEYS:
        # A name is a directory or an object, so some keys of the list move aside.
        name = key + b"." if any(other.startswith(key + b"/") for other in KEYS) else key
        store.put_object(scope, name, key)
    return scope


def test_a_list_is_in_the_order_of_the_keys_bytes(store: Store) -> None:
    found = keys(store, fill(store))
    assert len(found) == len(KEYS)
    assert found == sorted(found)


@pytest.mark.parametrize(
    "prefix",
    [
        *(b"", b"a", b"a-", b"a-b/", b"a/", b"a/b", b"a/b/", b"a/b/c", b"a%", b"a_", b"%", b"_", b"*", b"A", b"\xff"),
        *(b"b", b"b/", b"b/c/d", b"b/c/d/e", b"a/b/c/d", b"/", b"z", b"\xc3", b"a\0"),
    ],
)
def test_a_prefix_is_literal(store: Store, prefix: bytes) -> None:
    scope = fill(store)
    assert [info.key for info in store.list_objects(scope, prefix)] == [
        key for key in keys(store, scope) if key.startswith(prefix)
    ]


def test_a_long_list_has_every_key_once(store: Store) -> None:
    scope = ScopeName.run("42")
    store.start_run(scope.name)
    expected = sorted(b"%d" % number for number in range(600))
    for key in expected:
        store.put_object(scope, key, b"")
    assert keys(store, scope) == expected
    assert [info.key for info in store.list_objects(scope, b"59")] == [
        b"59",
        *(b"59%d" % number for number in range(10)),
    ]


def test_directories_and_symlinks_are_not_listed(store: Store, app: ScopeName) -> None:
    store.tree.make_directory(directory(store, app), b"directory", 0o755, 0, 0)
    store.tree.make_symlink(directory(store, app), b"link", b"target", 0, 0)
    assert keys(store, app) == []


# Delete


@pytest.mark.parametrize("content", [b"", b"value", LARGE], ids=len)
def test_a_deleted_object_is_gone(store: Store, app: ScopeName, content: bytes) -> None:
    store.put_object(app, b"key", content)
    store.put_object(app, b"other", b"other")
    assert store.delete_object(app, b"key") == Effects()
    assert keys(store, app) == [b"other"]
    with pytest.raises(NotFoundError):
        store.read_object(app, b"key")
    with pytest.raises(NotFoundError):
        store.delete_object(app, b"key")
    check_nothing_left(store)


def test_everything_outlives_the_process(stores: Stores) -> None:
    store = stores.open()
    app, run = ScopeName.pipeline("app"), ScopeName.run("42")
    store.create_pipeline(app.name, 3)
    store.start_run(run.name, app.name)
    expected = {b"a/b": LARGE, b"empty": b"", b"small": b"value"}
    for scope in (app, run):
        for key, content in expected.items():
            store.put_object(scope, key, content)
    pipelines, runs = store.list_pipelines(), store.list_runs()
    store = stores.reopen(store)
    assert (store.list_pipelines(), store.list_runs()) == (pipelines, runs)
    assert values(store, app) == values(store, run) == expected
    check_nothing_left(store)


def test_sync_can_be_called_at_any_time(store: Store, app: ScopeName) -> None:
    store.sync()
    store.put_object(app, b"key", b"value")
    store.sync()
    store.sync()
    assert value(store, app, b"key") == b"value"
