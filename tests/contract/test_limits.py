"""Limits: what goes when objects move between full pipelines, when limits change, and what does not count."""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.contract.full_pipelines import FullPipeline, before, set_limit
from tests.support.mounting import MountedStore
from tests.support.processes import Other, sh
from tests.support.renaming import EXCHANGE, renameat2
from tests.support.shared_mount import listed

pytestmark = pytest.mark.mount


def put(directory: Path, *keys: str) -> None:
    for key in keys:
        path = directory / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(before(key))


def keys_in(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


# Between two full pipelines


@pytest.mark.parametrize("key", "abc")
def test_a_rename_between_full_pipelines(shared: MountedStore, key: str) -> None:
    """Exactly one goes where one came: the oldest. The other pipeline has a free place and evicts nothing."""
    here, there = FullPipeline(shared, 3), FullPipeline(shared, 3)
    os.rename(here.path / key, there.path / "moved")
    assert listed(here.path) == [each for each in "abc" if each != key]
    assert listed(there.path) == ["b", "c", "moved"]
    assert (there.path / "moved").read_text() == before(key)
    put(here.path, "new")
    assert len(listed(here.path)) == 3
    # It kept its age: written before all that is there.
    assert there.order_of_eviction() == ["moved", "b", "c"]


@pytest.mark.parametrize("replaced", "abc")
def test_a_rename_over_an_object_of_a_full_pipeline(shared: MountedStore, replaced: str) -> None:
    """A rename that replaces needs no place: nothing goes."""
    here, there = FullPipeline(shared, 3), FullPipeline(shared, 3)
    os.rename(here.path / "b", there.path / replaced)
    assert listed(here.path) == ["a", "c"]
    assert there.values() == {each: before("b" if each == replaced else each) for each in "abc"}


def test_what_came_back_when_an_object_left(shared: MountedStore) -> None:
    """An object that moves to another pipeline gives up its place: what it had displaced comes back."""
    here, there = FullPipeline(shared, 3), FullPipeline(shared, 3)
    put(here.path, "d")
    assert listed(here.path) == ["b", "c", "d"]
    os.rename(here.path / "d", there.path / "d")
    assert listed(here.path) == ["a", "b", "c"]
    assert listed(there.path) == ["b", "c", "d"]
    os.rename(there.path / "d", here.path / "d")
    assert listed(there.path) == ["a", "b", "c"]
    assert len(listed(here.path)) == 3


@pytest.mark.parametrize(("one", "other"), [("a", "a"), ("a", "c"), ("b", "b"), ("c", "a")])
def test_an_exchange_between_full_pipelines(shared: MountedStore, one: str, other: str) -> None:
    """One for one: nothing goes in either."""
    here, there = FullPipeline(shared, 3), FullPipeline(shared, 3)
    renameat2(here.path / one, there.path / other, EXCHANGE)
    assert here.values() == {each: before(other if each == one else each) for each in "abc"}
    assert there.values() == {each: before(one if each == other else each) for each in "abc"}


def test_an_exchange_of_directories_between_full_pipelines(shared: MountedStore) -> None:
    """Two objects for one: exactly one too many, and the oldest goes."""
    here, there = FullPipeline(shared, 3), FullPipeline(shared, 3)
    put(here.path, "two/1", "two/2")
    put(there.path, "one/1")
    assert (keys_in(here.path), keys_in(there.path)) == (["c", "two/1", "two/2"], ["b", "c", "one/1"])
    renameat2(here.path / "two", there.path / "one", EXCHANGE)
    assert keys_in(here.path) == ["c", "two/1"]
    assert keys_in(there.path) == ["c", "one/1", "one/2"]


def test_an_exchange_of_a_directory_and_an_object(shared: MountedStore) -> None:
    """Three objects for one, where there are three already."""
    here, there = FullPipeline(shared, 3), FullPipeline(shared, 3)
    put(here.path, "d/1", "d/2", "d/3")
    renameat2(here.path / "d", there.path / "c", EXCHANGE)
    assert keys_in(here.path) == ["d"]
    assert keys_in(there.path) == ["c/1", "c/2", "c/3"]
    assert (here.path / "d").read_text() == before("c")


def test_an_exchange_inside_a_full_pipeline(shared: MountedStore) -> None:
    """Nothing goes, and each keeps its age under its new name."""
    full = FullPipeline(shared, 3)
    renameat2(full.path / "a", full.path / "c", EXCHANGE)
    assert full.values() == {"a": before("c"), "b": before("b"), "c": before("a")}
    assert full.order_of_eviction() == ["c", "b", "a"]


# Directories of objects


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_a_directory_of_newer_objects(shared: MountedStore, run: Path, objects: int) -> None:
    """As many of the oldest go as must."""
    full = FullPipeline(shared, 3)
    put(run, *(f"d/{number}" for number in range(objects)))
    os.rename(run / "d", full.path / "d")
    moved = [f"d/{number}" for number in range(objects)]
    assert keys_in(full.path) == [*list("abc")[objects:], *moved]
    assert keys_in(run) == []


def test_a_directory_of_more_objects_than_fit(shared: MountedStore, run: Path) -> None:
    """The limit holds for what is moved as for what is put: the newest stay."""
    full = FullPipeline(shared, 3)
    put(run, "d/1", "d/2", "d/3", "d/4", "d/5")
    os.rename(run / "d", full.path / "d")
    assert keys_in(full.path) == ["d/3", "d/4", "d/5"]


def test_a_directory_of_older_objects(shared: MountedStore, run: Path) -> None:
    """What was just brought is never its own victim, as with a single object that is older than all that is there."""
    put(run, "d/1", "d/2", "single")
    full, other = FullPipeline(shared, 3), FullPipeline(shared, 3)
    os.rename(run / "single", other.path / "single")
    assert keys_in(other.path) == ["b", "c", "single"]
    os.rename(run / "d", full.path / "d")
    assert keys_in(full.path) == ["c", "d/1", "d/2"]


def test_a_directory_moved_between_full_pipelines(shared: MountedStore) -> None:
    """All of it is counted where it is, and where it was its places are free."""
    here, there = FullPipeline(shared, 3), FullPipeline(shared, 3)
    put(here.path, "d/1", "d/e/2")
    assert keys_in(here.path) == ["c", "d/1", "d/e/2"]
    os.rename(here.path / "d", there.path / "d")
    assert keys_in(here.path) == ["c"]
    assert keys_in(there.path) == ["c", "d/1", "d/e/2"]
    put(here.path, "x", "y")
    assert keys_in(here.path) == ["c", "x", "y"]


# What does not count


def test_directories_and_symlinks_do_not_count(shared: MountedStore) -> None:
    """Only objects count against the limit, and only objects go: directories stay when they are emptied by it."""
    full = FullPipeline(shared, 3)
    sh("mkdir -p d/e f; for i in 1 2 3 4 5 6; do ln -s $i l$i; ln -s x d/e/l$i; done", full.path)
    assert keys_in(full.path) == ["a", "b", "c"]
    put(full.path, "d/e/1", "d/2", "f/3")
    assert keys_in(full.path) == ["d/2", "d/e/1", "f/3"]
    put(full.path, "x", "y", "z")
    assert keys_in(full.path) == ["x", "y", "z"]
    assert listed(full.path / "d/e") == [f"l{number}" for number in range(1, 7)]
    assert os.readlink(full.path / "l1") == "1"
    assert listed(full.path / "f") == []


def test_a_symlink_that_an_object_replaces(shared: MountedStore) -> None:
    """A symlink replaced by an object makes one object more, an object replaced by a symlink one less."""
    full = FullPipeline(shared, 3)
    os.symlink("a", full.path / "link")
    put(full.path, "d")
    os.rename(full.path / "d", full.path / "link")
    assert keys_in(full.path) == ["b", "c", "link"]
    os.symlink("nowhere", full.path / "other")
    os.rename(full.path / "other", full.path / "b")
    assert (full.path / "b").is_symlink()
    put(full.path, "e")
    assert set(listed(full.path)) >= {"b", "c", "e"}
    assert len(keys_in(full.path)) == 3


# A limit of 1


def test_a_limit_of_1(shared: MountedStore) -> None:
    """The one object is always the one that was put last, however it came."""
    full = FullPipeline(shared, 1)
    steps = [
        ("echo 1 > k", "k", "1"),
        ("echo 2 > k", "k", "2"),
        ("echo 3 >> k", "k", "2 3"),
        ("sed -i s/3/4/ k", "k", "2 4"),
        ("mv k l", "l", "2 4"),
        ("cp l m", "m", "2 4"),
        ("echo 5 > n.tmp; mv n.tmp n", "n", "5"),
        ("mkdir -p d; echo 6 > d/k", "d/k", "6"),
        ("ln -s d/k link; cat link", "d/k", "6"),
        ("truncate -s 0 d/k; echo 7 > d/k", "d/k", "7"),
    ]
    for script, key, value in steps:
        sh(script, full.path)
        objects = [path for path in keys_in(full.path) if not (full.path / path).is_symlink()]
        assert objects == [key], script
        assert (full.path / key).read_text().split() == value.split(), script


def test_two_open_writers_at_a_limit_of_1(shared: MountedStore) -> None:
    """The last to close stays; nothing is seen of either before."""
    full = FullPipeline(shared, 1)
    with Other() as one, Other() as other:
        one("file = open(path, 'w'); file.write('one')", path=full.path / "one")
        other("file = open(path, 'w'); file.write('other')", path=full.path / "other")
        assert listed(full.path) == ["a"]
        other("file.close()")
        assert listed(full.path) == ["other"]
        one("file.close()")
        assert listed(full.path) == ["one"]
    assert (full.path / "one").read_text() == "one"


# Changing limits


def test_no_limit_and_back(shared: MountedStore) -> None:
    """0 means no limit; setting one again leaves exactly the newest."""
    full = FullPipeline(shared, 3)
    set_limit(shared, full.path.name, 0)
    put(full.path, *"defgh")
    assert listed(full.path) == list("abcdefgh")
    set_limit(shared, full.path.name, 2)
    assert listed(full.path) == ["g", "h"]


def test_what_a_lower_limit_evicted_does_not_come_back(shared: MountedStore) -> None:
    """Lowering evicts for good: neither a higher limit nor a deletion brings anything back."""
    full = FullPipeline(shared, 3)
    set_limit(shared, full.path.name, 1)
    assert listed(full.path) == ["c"]
    set_limit(shared, full.path.name, 3)
    put(full.path, "d")
    os.unlink(full.path / "d")
    os.unlink(full.path / "c")
    assert listed(full.path) == []


def test_own_limits_and_that_of_the_store(make_mount: MakeMount) -> None:
    """A pipeline's own limit stands when the store's changes, until it is given up; the store's is for the others."""
    store = make_mount(pipeline_object_limit=4)
    for name, limit in (("own", "5"), ("none", "0"), ("same", "4")):
        store.cli("pipeline", "create", name, "--limit", limit, exit_code=0)
    names = ("own", "none", "same", "default")
    (store.pipeline / "default").mkdir()
    for name in names:
        put(store.pipeline / name, *"abcdefgh")
    assert [len(listed(store.pipeline / name)) for name in names] == [5, 8, 4, 4]
    store.unmount()
    changed = make_mount(store=store.store, pipeline_object_limit=2)
    assert [len(listed(changed.pipeline / name)) for name in names] == [5, 8, 4, 2]
    changed.cli("pipeline", "set-limit", "own", "default", exit_code=0)
    assert listed(changed.pipeline / "own") == ["g", "h"]
    found = json.loads(changed.cli("pipeline", "list", "--json", exit_code=0).stdout)
    assert {info["name"]: (info["limit"], info["own_limit"]) for info in found} == {
        "default": (2, None),
        "none": (0, 0),
        "own": (2, None),
        "same": (4, 4),
    }


# Runs of pipelines


def test_runs_of_a_full_pipeline(make_mount: MakeMount) -> None:
    """A run of a pipeline has no limit in number, counts nothing in the pipeline, and expires among its own."""
    store = make_mount(pipeline_object_limit=3, run_object_expiry=1)
    (store.pipeline / "p").mkdir()
    put(store.pipeline / "p", *"abc")
    store.cli("run", "start", "r1", "--pipeline", "p", exit_code=0)
    put(store.run / "r1", *"abcdefgh")
    assert listed(store.pipeline / "p") == ["a", "b", "c"]
    assert len(listed(store.run / "r1")) == 8
    # Moved to its pipeline, an object counts there and outlives its run.
    os.rename(store.run / "r1/a", store.pipeline / "p/model")
    assert listed(store.pipeline / "p") == ["b", "c", "model"]
    store.cli("run", "start", "r2", "--pipeline", "p", exit_code=0)
    assert listed(store.run) == ["r1", "r2"]  # protected until it is finished
    store.cli("run", "finish", "r1", exit_code=0)
    assert listed(store.run) == ["r2"]
    store.cli("pipeline", "delete", "p", "--force", exit_code=0)
    store.cli("run", "finish", "r2", exit_code=0)
    assert listed(store.run) == ["r2"]  # the newest of its pipeline, though that is gone
    assert listed(store.pipeline) == []
