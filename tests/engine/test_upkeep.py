"""What happens behind the scenes between several processes with one store: news, pins, deletion of values."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import ScopeName, Store
from engine.model import Attributes
from engine.registry import BUILT_IN
from engine.upkeep import News
from tests.support.invariants import check_nothing_left, check_store
from tests.support.stores import Stores, directory, node, reclaim_all, rename, start_process, value, values
from tests.support.third_party.fusefs_dirstore import DirectoryEngine

APP = ScopeName.pipeline("app")
LARGE = b"large" * 50_000


@pytest.fixture
def one(stores: Stores) -> Store:
    """A store with the pipeline app, as a mount has it open."""
    store = stores.open()
    store.create_pipeline(APP.name, 3)
    store.sessions.ensure()
    return store


@pytest.fixture(params=["mount", "command"])
def other(request: pytest.FixtureRequest, one: Store, stores: Stores) -> Store:
    """The same store, opened by another mount, or by a command, which needs no session for what it does."""
    store = stores.open()
    if request.param == "mount":
        store.sessions.ensure()
    return store


def told(store: Store) -> list[News]:
    """Take notice of all news, and return those of names."""
    news = store.upkeep.news()
    if news:
        store.upkeep.acknowledge(news)
    assert store.upkeep.news() == []
    return [item for item in news if item.ino]


def told_names(store: Store) -> list[bytes]:
    return [item.name for item in told(store)]


def kept(store: Store) -> int:
    return len(store.engine.list_object_keys())


# News


def test_what_one_takes_away_the_other_hears_of_in_order(one: Store, other: Store) -> None:
    for key in (b"1", b"2", b"a/3"):
        one.put_object(APP, key, b"old")
    assert told(one) == []
    nodes = [node(one, APP, key) for key in (b"1", b"2", b"a/3")]
    other.put_object(APP, b"2", b"new", force=True)
    other.delete_object(APP, b"a/3")
    for key in (b"4", b"5"):
        other.put_object(APP, key, b"")
    assert [(item.ino, item.parent, item.name) for item in told(one)] == [
        (nodes[1].ino, nodes[1].parent, b"2"),
        (nodes[2].ino, nodes[2].parent, b"3"),
        (nodes[0].ino, nodes[0].parent, b"1"),
    ]
    if other.sessions.own:
        assert told(other) == []


def test_every_kind_of_change_is_told(one: Store, other: Store) -> None:
    other.put_object(APP, b"a/key", b"value")
    other.tree.make_symlink(directory(other, APP), b"link", b"target", 0, 0)
    told(one)
    top, below = directory(one, APP), directory(one, APP, b"a")
    rename(other, APP, b"a/key", b"a/moved")
    assert [(item.parent, item.name) for item in told(one)] == [(below, b"key")]
    other.tree.exchange(below, b"moved", top, b"link")
    assert sorted((item.parent, item.name) for item in told(one)) == sorted([(below, b"moved"), (top, b"link")])
    found = node(other, APP, b"link")
    other.tree.set_attributes(found.ino, Attributes(mode=0o600))
    assert [(item.ino, item.parent) for item in told(one)] == [(found.ino, 0)]
    other.tree.set_xattrs(found.ino, b"packed")
    assert (found.ino, 0) in [(item.ino, item.parent) for item in told(one)]
    other.tree.remove(below, b"moved")
    other.tree.remove_directory(top, b"a")
    assert told_names(one) == [b"moved", b"a"]
    other.delete_pipeline(APP.name, force=True)
    assert told_names(one) == [b"app"]


def test_an_expired_run_is_told(stores: Stores, one: Store, other: Store) -> None:
    stores.open(run_object_expiry=1)
    other.start_run(b"1")
    other.finish_run(b"1")
    told(one)
    other.start_run(b"2")
    assert told_names(one) == [b"1"]


def test_what_came_before_a_session_is_no_news_to_it(stores: Stores, one: Store) -> None:
    stores.open().sessions.ensure()
    one.put_object(APP, b"key", b"value")
    one.delete_object(APP, b"key")
    late = stores.open()
    late.sessions.ensure()
    assert told(late) == []
    one.put_object(APP, b"key", b"value")
    one.delete_object(APP, b"key")
    assert told_names(late) == [b"key"]


def test_news_are_not_lost_to_whoever_tidies_up_first(one: Store, other: Store) -> None:
    one.put_object(APP, b"key", b"value")
    other.delete_object(APP, b"key")
    for store in (one, other):
        reclaim_all(store)
    assert told_names(one) == [b"key"]
    for store in (other, one):
        reclaim_all(store)
    check_nothing_left(one)
    assert kept(one) == 0


def test_news_wait_for_the_slowest(stores: Stores, one: Store, other: Store) -> None:
    third = stores.open()
    third.sessions.ensure()
    one.put_object(APP, b"key", b"value")
    other.delete_object(APP, b"key")
    assert told_names(one) == [b"key"]
    for store in (one, other, third):
        reclaim_all(store)
    assert told_names(third) == [b"key"]


def test_nobody_to_tell_is_nothing_to_write(stores: Stores) -> None:
    store = stores.open()
    store.create_pipeline(APP.name)
    store.put_object(APP, b"key", b"")
    store.delete_object(APP, b"key")
    assert not store.upkeep.anything_to_reclaim()


# Values


@pytest.mark.parametrize("content", [b"value", LARGE], ids=len)
def test_a_value_is_deleted_when_nobody_has_it_open(one: Store, other: Store, content: bytes) -> None:
    """Every store here is a process of its own to the others: nothing is shared but the file."""
    one.put_object(APP, b"key", content)
    found = node(one, APP, b"key")
    one.contents.pin(found.content)
    other.delete_object(APP, b"key")
    for _ in range(2):
        reclaim_all(other)
        reclaim_all(one)
        told(one)
        assert one.contents.read(found.content, 0, len(content)) == content
    one.contents.unpin(found.content)
    one.upkeep.unpin(found.content)
    reclaim_all(other)
    reclaim_all(one)
    check_nothing_left(one)
    assert kept(one) == 0


def test_a_value_open_twice_waits_for_both(one: Store, other: Store) -> None:
    one.put_object(APP, b"key", b"value")
    content = node(one, APP, b"key").content
    one.contents.pin(content)
    one.contents.pin(content)
    other.put_object(APP, b"key", b"new", force=True)
    told(one)
    one.contents.unpin(content)
    one.upkeep.unpin(content)
    reclaim_all(other)
    assert one.contents.read(content, 0, 5) == b"value"
    one.contents.unpin(content)
    one.upkeep.unpin(content)
    reclaim_all(other)
    reclaim_all(one)
    assert kept(one) == 1


def test_an_own_value_open_here_waits_too(one: Store) -> None:
    one.put_object(APP, b"key", LARGE)
    content = node(one, APP, b"key").content
    one.contents.pin(content)
    one.delete_object(APP, b"key")
    reclaim_all(one)
    assert one.contents.read(content, 0, 10**6) == LARGE
    one.contents.unpin(content)
    one.upkeep.unpin(content)
    check_nothing_left(one)
    assert kept(one) == 0


def test_an_own_value_that_was_taken_away_just_now_waits(store: Store) -> None:
    """As in a mount: the thread of the store is about to pin it, and another one deletes."""
    store.create_pipeline(APP.name)
    for key in (b"before", b"just now"):
        store.put_object(APP, key, LARGE)
    content = node(store, APP, b"just now").content
    store.delete_object(APP, b"before")
    before = store.upkeep.last_change()
    store.delete_object(APP, b"just now")
    for _ in range(2):
        while store.upkeep.work(before):
            pass
        assert store.contents.read(content, 0, 10**6) == LARGE
        assert kept(store) == 1
    while store.upkeep.work(store.upkeep.last_change()):
        pass
    assert kept(store) == 0


def test_a_closed_store_keeps_nothing_alive(stores: Stores, one: Store, other: Store) -> None:
    one.put_object(APP, b"key", b"value")
    other.contents.pin(node(other, APP, b"key").content)
    one.delete_object(APP, b"key")
    if other.sessions.own:
        told(other)
    stores.close(other)
    check_nothing_left(one)
    assert kept(one) == 0


def test_a_value_open_in_another_process(stores: Stores, one: Store) -> None:
    one.put_object(APP, b"key", LARGE)
    program = """
store = open_store(ObjectStoreSettings(path=sys.argv[1]))
store.sessions.ensure()
content = node(store, ScopeName.pipeline("app"), b"key").content
store.contents.pin(content)
wait()
store.upkeep.acknowledge(store.upkeep.news())
wait()
assert store.contents.read(content, 0, 10**6) == b"large" * 50_000
die()
"""
    with start_process(program, str(stores.path)) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        one.delete_object(APP, b"key")
        reclaim_all(one)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        reclaim_all(one)
        assert kept(one) == 1
        _, errors = process.communicate("\n", timeout=60)
        assert process.returncode == -9, errors
    assert len(one.publisher.recover().nodes) == 0
    check_nothing_left(one)
    assert kept(one) == 0


def test_a_reader_in_another_process_reads_one_value(stores: Stores, one: Store) -> None:
    """The store's own read_object, while somebody else deletes and tidies up."""
    one.put_object(APP, b"key", LARGE * 20)
    program = """
store = open_store(ObjectStoreSettings(path=sys.argv[1]), read_only=sys.argv[2] == "True")
pieces = store.read_object(ScopeName.pipeline("app"), b"key")
first = next(pieces)
wait()
assert first + b"".join(pieces) == b"large" * 1_000_000
store.close()
"""
    for read_only in (True, False):
        one.put_object(APP, b"key", LARGE * 20, force=True)
        with start_process(program, str(stores.path), str(read_only)) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            one.delete_object(APP, b"key")
            reclaim_all(one)
            _, errors = process.communicate("\n", timeout=60)
            assert process.returncode == 0, errors
    check_nothing_left(one)
    assert kept(one) == 0


def test_who_only_puts_keeps_nothing_alive(stores: Stores, one: Store) -> None:
    """As `producer | fusefs put`, which may take long and hears of nothing meanwhile."""
    other = stores.open()

    def slow() -> Iterator[bytes]:
        yield 5_000_000 * b"x"
        for number in range(3):
            one.put_object(APP, b"key", b"%d" % number, force=True)
        reclaim_all(one)
        assert kept(one) == 1, "the newest of the other"
        yield b"x"

    other.put_object(APP, b"slow", slow())
    assert other.sessions.own
    assert told(other) == []


@pytest.mark.parametrize("size", [1000, 200_000])
def test_who_only_puts_into_another_engine_keeps_nothing_alive(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setitem(BUILT_IN, "dirstore", DirectoryEngine)
    settings: dict[str, Any] = {"engine": "dirstore", "options": {"location": str(tmp_path / "values")}}
    store, other = stores.open(**settings), stores.open(**settings)
    store.create_pipeline(APP.name)
    other.put_object(APP, b"from the other", b"x" * size)
    assert other.sessions.own
    for number in range(3):
        store.put_object(APP, b"key", b"%d" % number, force=True)
    reclaim_all(store)
    assert store.database.value("SELECT count(*) FROM change") == 0
    assert told(other) == []


def test_who_put_and_then_listens(stores: Stores, one: Store) -> None:
    other = stores.open()
    other.put_object(APP, b"key", LARGE)
    other.sessions.ensure()
    one.put_object(APP, b"key", b"new", force=True)
    reclaim_all(one)
    assert kept(one) == 2, "the other has not acknowledged it"
    assert told_names(other) == [b"key"]
    reclaim_all(one)
    assert kept(one) == 1


def test_another_engine_deletes_what_no_power_cut_brings_back(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUILT_IN, "dirstore", DirectoryEngine)
    settings: dict[str, Any] = {"engine": "dirstore", "options": {"location": str(tmp_path / "values")}}
    store = stores.open(**settings)
    store.create_pipeline(APP.name)
    disk = tmp_path / "disk"

    def sync() -> None:
        for ending in ("", "-wal"):
            shutil.copyfile(f"{stores.path}{ending}", f"{disk}{ending}")

    monkeypatch.setattr(store.database.log, "sync", sync)
    store.put_object(APP, b"key", b"synced")
    store.sync()
    store.put_object(APP, b"key", b"not synced", force=True)
    reclaim_all(store)
    assert kept(store) == 1
    after_a_power_cut = stores.open(path=str(disk), **settings)
    assert value(after_a_power_cut, APP, b"key") in (b"synced", b"not synced")


# In small steps


def test_reclaiming_goes_in_steps(store: Store) -> None:
    run = ScopeName.run("42")
    store.start_run(run.name)
    for number in range(500):
        store.put_object(run, b"%d" % number, b"x")
    for number in range(500):
        store.delete_object(run, b"%d" % number)
    assert store.upkeep.reclaim()
    assert 0 < kept(store) < 500
    check_store(store)
    check_nothing_left(store)
    assert kept(store) == 0


def test_a_large_value_goes_in_steps(stores: Stores) -> None:
    store = stores.open()
    store.create_pipeline(APP.name)
    store.put_object(APP, b"key", iter([b"x" * 2**20] * 24))
    store.put_object(APP, b"other", b"value")
    store.delete_object(APP, b"key")
    steps = 0
    while store.upkeep.reclaim():
        steps += 1
        check_store(store)
        assert value(store, APP, b"other") == b"value"
    assert steps >= 2
    assert store.database.value("SELECT count(*) FROM chunk") == 0


def test_nothing_to_do_is_said_without_a_transaction(store: Store) -> None:
    store.create_pipeline(APP.name)
    before = store.database.value("SELECT clock_ns FROM store")
    assert not store.upkeep.sweep()
    assert not store.upkeep.anything_to_reclaim()
    assert not store.upkeep.reclaim()
    store.upkeep.checkpoint()
    assert store.database.value("SELECT clock_ns FROM store") == before


def test_a_checkpoint_makes_the_log_short(stores: Stores) -> None:
    store = stores.open()
    store.create_pipeline(APP.name)
    log = stores.path.with_name(stores.path.name + "-wal")
    for number in range(40):
        store.put_object(APP, b"%d" % number, iter([b"x" * 2**20] * 4))
        store.upkeep.checkpoint()
    assert log.stat().st_size < 96 * 2**20
    assert len(values(store, APP)) == 40
