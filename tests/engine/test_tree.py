"""The store as a tree of inodes: looking up, making and removing names, and their attributes."""

import os
from collections.abc import Callable

import pytest

from engine import ScopeName, Store
from engine.errors import (
    ExistsError,
    InvalidError,
    IsDirectoryError,
    NameTooLongError,
    NotDirectoryError,
    NotEmptyError,
    NotFoundError,
    NotPermittedError,
    StoreError,
)
from engine.model import PIPELINES_INO, ROOT_INO, RUNS_INO, Attributes, Kind, Node
from tests.support.stores import directory, names, node, values

RUN = ScopeName.run("42")


def make_directory(store: Store, parent: int, name: bytes) -> Node:
    return store.tree.make_directory(parent, name, 0o700, 7, 8)[0]


# What a new store has


def test_the_fixed_directories_are_there(store: Store) -> None:
    root = store.tree.node(ROOT_INO)
    assert root is not None
    assert (root.kind, root.parent, root.scope) == (Kind.DIRECTORY, 0, 0)
    assert names(store, ROOT_INO) == [b"pipeline", b"run"]
    for ino, name in ((PIPELINES_INO, b"pipeline"), (RUNS_INO, b"run")):
        found = store.tree.child(ROOT_INO, name)
        assert found is not None
        assert found == store.tree.node(ino)
        assert (found.ino, found.mode, found.uid, found.gid) == (ino, 0o1777, os.geteuid(), os.getegid())


@pytest.mark.parametrize("parent", [0, 4, 15, 10**9, -1])
def test_no_other_inode_is_there(store: Store, parent: int) -> None:
    assert store.tree.node(parent) is None
    assert store.tree.child(parent, b"pipeline") is None
    assert store.tree.children(parent, b"", 10) == [] or parent == 0


@pytest.mark.parametrize("ino", [PIPELINES_INO, RUNS_INO])
def test_the_fixed_directories_stay(store: Store, ino: int) -> None:
    name = {PIPELINES_INO: b"pipeline", RUNS_INO: b"run"}[ino]
    attempts: list[Callable[[], object]] = [
        lambda: store.tree.remove_directory(ROOT_INO, name),
        lambda: store.tree.rename(ROOT_INO, name, ROOT_INO, b"other", replace=True),
        lambda: store.tree.exchange(ROOT_INO, b"pipeline", ROOT_INO, b"run"),
        lambda: make_directory(store, ROOT_INO, b"third"),
        lambda: store.tree.make_symlink(ROOT_INO, b"link", b"pipeline", 0, 0),
        lambda: store.tree.make_symlink(ino, b"link", b"target", 0, 0),
    ]
    for attempt in attempts:
        with pytest.raises(NotPermittedError):
            attempt()
    with pytest.raises(IsDirectoryError):
        store.tree.remove(ROOT_INO, name)
    assert names(store, ROOT_INO) == [b"pipeline", b"run"]
    assert names(store, ino) == []


# Directories


def test_a_directory_below_pipeline_is_a_pipeline_and_below_run_a_run(store: Store) -> None:
    app = make_directory(store, PIPELINES_INO, b"app")
    run = make_directory(store, RUNS_INO, b"42")
    assert (app.scope, run.scope) == (app.ino, run.ino)
    assert (app.mode, app.uid, app.gid) == (0o700, 7, 8)
    assert [info.name for info in store.list_pipelines()] == [b"app"]
    assert [(info.name, info.finished) for info in store.list_runs()] == [(b"42", True)]
    for parent, name in ((PIPELINES_INO, b"app"), (RUNS_INO, b"42")):
        with pytest.raises(ExistsError):
            make_directory(store, parent, name)
        with pytest.raises(InvalidError):
            make_directory(store, parent, b"no good")


def test_a_directory_below_a_pipeline_is_part_of_it(store: Store, app: ScopeName) -> None:
    top = directory(store, app)
    made = make_directory(store, top, b"a")
    below = make_directory(store, made.ino, b"\xff")
    assert (below.parent, below.scope, below.kind, below.size) == (made.ino, top, Kind.DIRECTORY, 0)
    assert store.tree.child(made.ino, b"\xff") == store.tree.node(below.ino) == below
    assert store.list_pipelines()[0].objects == 0


def test_a_taken_name_is_refused_whatever_has_it(store: Store, app: ScopeName) -> None:
    top = directory(store, app)
    make_directory(store, top, b"directory")
    store.put_object(app, b"object", b"value")
    store.tree.make_symlink(top, b"link", b"nowhere", 0, 0)
    for name in (b"directory", b"object", b"link"):
        with pytest.raises(ExistsError):
            make_directory(store, top, name)
        with pytest.raises(ExistsError):
            store.tree.make_symlink(top, name, b"target", 0, 0)
    assert names(store, top) == [b"directory", b"link", b"object"]


@pytest.mark.parametrize(
    ("name", "error"),
    [*((bad, InvalidError) for bad in (b"", b".", b"..", b"a/b", b"a\0")), (b"x" * 256, NameTooLongError)],
)
def test_an_invalid_name_makes_nothing(store: Store, app: ScopeName, name: bytes, error: type[StoreError]) -> None:
    top = directory(store, app)
    store.put_object(app, b"key", b"value")
    attempts: list[Callable[[], object]] = [
        lambda: make_directory(store, top, name),
        lambda: store.tree.make_symlink(top, name, b"target", 0, 0),
        lambda: store.tree.rename(top, b"key", top, name, replace=True),
    ]
    for attempt in attempts:
        with pytest.raises(error):
            attempt()
    assert names(store, top) == [b"key"]


def test_nothing_is_made_in_what_is_gone_or_is_no_directory(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"key", b"value")
    gone = make_directory(store, directory(store, app), b"gone")
    store.tree.remove_directory(gone.parent, gone.name)
    for parent in (gone.ino, node(store, app, b"key").ino):
        with pytest.raises((NotFoundError, NotDirectoryError)):
            make_directory(store, parent, b"new")
        with pytest.raises((NotFoundError, NotDirectoryError)):
            store.tree.make_symlink(parent, b"new", b"target", 0, 0)


def test_children_come_in_pages_in_the_order_of_their_bytes(store: Store, app: ScopeName) -> None:
    top = directory(store, app)
    expected = sorted([b"B", b"a", b"a!", b"ab", b"b", b"\x01", b"\xff", b"\xc3\xa9"])
    for name in reversed(expected):
        make_directory(store, top, name)
    assert names(store, top) == expected
    found: list[bytes] = []
    while page := store.tree.children(top, found[-1] if found else b"", 3):
        assert len(page) <= 3
        found += [entry.name for entry in page]
    assert found == expected
    assert [entry.name for entry in store.tree.children(top, b"aa", 2)] == [b"ab", b"b"]


# Removing


def test_an_empty_directory_can_be_removed(store: Store, app: ScopeName) -> None:
    top = directory(store, app)
    made = make_directory(store, top, b"a")
    assert store.tree.remove_directory(top, b"a").ino == made.ino
    assert names(store, top) == []
    assert store.tree.node(made.ino) is None
    store.tree.remove_directory(PIPELINES_INO, app.name)
    assert store.list_pipelines() == []
    make_directory(store, RUNS_INO, b"42")
    store.tree.remove_directory(RUNS_INO, b"42")
    assert store.list_runs() == []


def test_a_directory_that_holds_something_stays(store: Store, app: ScopeName) -> None:
    top = directory(store, app)
    store.put_object(app, b"object/key", b"value")
    make_directory(store, make_directory(store, top, b"directory").ino, b"below")
    store.tree.make_symlink(make_directory(store, top, b"symlink").ino, b"link", b"target", 0, 0)
    for name in names(store, top):
        with pytest.raises(NotEmptyError):
            store.tree.remove_directory(top, name)
    with pytest.raises(NotEmptyError):
        store.tree.remove_directory(PIPELINES_INO, app.name)
    assert names(store, top) == [b"directory", b"object", b"symlink"]


def test_what_is_removed_must_be_there_and_of_its_kind(store: Store, app: ScopeName) -> None:
    top = directory(store, app)
    make_directory(store, top, b"directory")
    store.put_object(app, b"object", b"value")
    with pytest.raises(IsDirectoryError):
        store.tree.remove(top, b"directory")
    with pytest.raises(NotDirectoryError):
        store.tree.remove_directory(top, b"object")
    for parent, name in ((top, b"missing"), (10**9, b"object")):
        with pytest.raises(NotFoundError):
            store.tree.remove(parent, name)
        with pytest.raises(NotFoundError):
            store.tree.remove_directory(parent, name)
    assert names(store, top) == [b"directory", b"object"]


def test_removing_returns_what_the_name_stood_for(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"key", b"value")
    found = node(store, app, b"key")
    assert store.tree.remove(found.parent, b"key")[0] == found


# Symlinks


@pytest.mark.parametrize("target", [b"target", b"/absolute/../x", b"\xff" * 4095], ids=["short", "absolute", "long"])
def test_a_symlink_keeps_its_target(store: Store, app: ScopeName, target: bytes) -> None:
    made = store.tree.make_symlink(directory(store, app), b"link", target, 7, 8)
    assert store.tree.node(made.ino) == made
    assert (made.kind, made.target, made.size, made.mode) == (Kind.SYMLINK, target, len(target), 0o777)
    assert (made.uid, made.gid, made.put_ns, made.content) == (7, 8, 0, 0)


def test_symlinks_count_against_no_limit(store: Store, app: ScopeName) -> None:
    top = directory(store, app)
    for number in range(5):
        store.tree.make_symlink(top, b"%d" % number, b"target", 0, 0)
    for key in (b"a", b"b", b"c", b"d"):
        store.put_object(app, key, b"")
    assert names(store, top) == [b"0", b"1", b"2", b"3", b"4", b"b", b"c", b"d"]
    store.tree.remove(top, b"0")
    assert store.list_pipelines()[0].objects == 3


# Attributes


def test_attributes_change_one_by_one(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"key", b"value")
    before = node(store, app, b"key")
    expected = before
    changes: list[dict[str, int]] = [{"mode": 0o4711}, {"uid": 7}, {"gid": 8}, {"atime_ns": 1}, {"mtime_ns": -(10**18)}]
    for change in changes:
        changed = store.tree.set_attributes(before.ino, Attributes(**change))
        assert changed.ctime_ns > expected.ctime_ns
        expected = expected._replace(ctime_ns=changed.ctime_ns, **change)  # type: ignore[arg-type]  # numbers only
        assert changed == expected == node(store, app, b"key")
    with pytest.raises(NotFoundError):
        store.tree.set_attributes(10**9, Attributes(mode=0))


def test_attributes_of_what_has_another_owner_by_now(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"key", b"value")
    before = store.tree.set_attributes(node(store, app, b"key").ino, Attributes(uid=7))
    with pytest.raises(NotPermittedError):
        store.tree.set_attributes(before.ino, Attributes(mode=0o666), owner=8)
    assert node(store, app, b"key") == before
    assert store.tree.set_attributes(before.ino, Attributes(mode=0o666), owner=7).mode == 0o666
    with pytest.raises(NotFoundError):
        store.tree.set_attributes(10**9, Attributes(mode=0), owner=7)


def test_extended_attributes_are_kept_whole(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"key", b"value")
    ino = node(store, app, b"key").ino
    store.tree.set_xattrs(ino, b"packed")
    assert node(store, app, b"key").xattrs == b"packed"
    store.tree.set_xattrs(ino, None)
    assert node(store, app, b"key").xattrs is None
    with pytest.raises(NotFoundError):
        store.tree.set_xattrs(10**9, b"packed")


def test_a_change_of_entries_gives_a_directory_its_time(store: Store, app: ScopeName) -> None:
    """POSIX open, unlink, rename, mkdir and rmdir mark st_mtime and st_ctime of the parent directory."""
    top = directory(store, app)
    last = 0

    def moved_on() -> bool:
        nonlocal last
        found = store.tree.node(top)
        assert found is not None
        before, last = last, found.mtime_ns
        assert found.mtime_ns == found.ctime_ns
        return last > before

    assert moved_on()
    store.put_object(app, b"key", b"value")
    assert moved_on()
    store.put_object(app, b"key", b"value", force=True)
    assert not moved_on()  # no entry changes when its value does
    make_directory(store, top, b"directory")
    assert moved_on()
    store.tree.rename(top, b"key", top, b"other", replace=False)
    assert moved_on()
    store.tree.make_symlink(top, b"link", b"target", 0, 0)
    assert moved_on()
    store.tree.remove(top, b"link")
    assert moved_on()
    store.tree.remove_directory(top, b"directory")
    assert moved_on()
    store.read_object(app, b"other")
    assert not moved_on()


def test_what_is_refused_leaves_the_directorys_time(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"a/key", b"value")
    before = store.tree.node(directory(store, app, b"a"))
    for attempt in (
        lambda: make_directory(store, directory(store, app, b"a"), b"key"),
        lambda: store.tree.remove(directory(store, app, b"a"), b"missing"),
        lambda: store.tree.remove_directory(directory(store, app), b"a"),
        lambda: store.put_object(app, b"a/key", b"new"),
    ):
        with pytest.raises(StoreError):
            attempt()
    assert store.tree.node(directory(store, app, b"a")) == before
    assert values(store, app) == {b"a/key": b"value"}


def test_inodes_are_never_used_twice(store: Store, app: ScopeName) -> None:
    seen = set()
    for number in range(30):
        store.put_object(app, b"key", b"", force=True)
        seen.add(node(store, app, b"key").ino)
        if number % 3 == 0:
            store.delete_object(app, b"key")
    assert len(seen) == 30


def test_space_is_that_of_the_disk(store: Store, app: ScopeName) -> None:
    store.put_object(app, b"key", b"x" * 10**6)
    store.delete_object(app, b"key")
    space = store.tree.space()
    assert 0 < space.available_bytes <= space.total_bytes * 2
    assert space.available_bytes <= space.free_bytes
    assert space.names >= 4
