"""Several Puts that come into one pipeline at once: nobody is shown what they evict once they are closed."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio

from engine import ScopeName, Store, open_store
from engine.config import ObjectStoreSettings
from engine.model import Node
from engine.tree import Tree
from fusefs.coming import Coming
from tests.support.mounting import MountedStore
from tests.support.processes import Other
from tests.support.states import mount_state
from tests.support.stores import directory

APP = ScopeName.pipeline("app")
OLD = ["a", "b", "c"]


def full_pipeline(mounted: MountedStore, number: int) -> Path:
    """With as many objects as it may have, which the kernel knows."""
    pipeline = mounted.pipeline / f"p{number}"
    pipeline.mkdir()
    os.setxattr(pipeline, "fusefs.limit", b"3")
    for name in OLD:
        (pipeline / name).write_text(name)
        (pipeline / name).stat()
    return pipeline


@pytest.mark.mount
@pytest.mark.parametrize("names", [["x", "y", "z"], ["x", "y"], ["x", "a", "y"]])
def test_all_are_closed_at_once(mounted: MountedStore, names: list[str]) -> None:
    for number in range(20):
        pipeline = full_pipeline(mounted, number)
        with Other() as other:
            other("fds = []; flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC")
            for name in names:
                other("fds.append(os.open(path, flags)); os.write(fds[-1], b'new')", path=pipeline / name)
            other("os.closerange(fds[0], fds[-1] + 1)")
            shown = {name for name in [*OLD, *names] if (pipeline / name).exists()}
        assert len(shown) == 3
        assert shown >= {*names}


HOLD = "held.append(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)); os.close(os.dup(held[-1]))"
"""As a shell does for each command of a group that writes a key: it comes when the last of them has ended."""


def evict_by_puts(pipeline: Path) -> None:
    for number in range(20):
        order = sorted(os.listdir(pipeline), key=lambda name: int(os.getxattr(pipeline / name, "fusefs.order")))
        (pipeline / f"new{number}").write_text("new")
        assert not (pipeline / order[0]).exists()
        for name in order[1:]:
            (pipeline / name).stat()


def move_into(pipeline: Path) -> None:
    for number in range(2):
        source = pipeline.parent.parent / "run" / "r" / f"{pipeline.name}-{number}"
        source.write_text("moved")
        source.rename(pipeline / f"moved{number}")
    (pipeline / "c").stat()
    (pipeline / "new").write_text("new")
    assert not (pipeline / "c").exists()


def lower_the_limit(pipeline: Path) -> None:
    os.setxattr(pipeline, "fusefs.limit", b"2")
    (pipeline / "b").stat()
    (pipeline / "new").write_text("new")
    assert not (pipeline / "b").exists()


@pytest.mark.mount
@pytest.mark.parametrize("held", [0, 1, 2, 3])
@pytest.mark.parametrize("change", [evict_by_puts, move_into, lower_the_limit])
def test_others_are_on_their_way_for_long(mounted: MountedStore, held: int, change: Callable[[Path], None]) -> None:
    (mounted.run / "r").mkdir()
    for number in range(5):
        pipeline = full_pipeline(mounted, number)
        with Other() as other:
            other("held = []")
            for name in range(held):
                other(HOLD, path=pipeline / f"held{name}")
            change(pipeline)
            other("for fd in held: os.close(fd)")


@pytest.mark.mount
def test_several_close_at_once(mounted: MountedStore) -> None:
    """Whoever has closed is shown nothing that this evicts, although another has asked the kernel to forget it."""
    pipeline = mounted.pipeline / "p"
    pipeline.mkdir()
    os.setxattr(pipeline, "fusefs.limit", b"240")
    for number in range(240):
        (pipeline / f"old{number:03}").write_text("old")
        (pipeline / f"old{number:03}").stat()
    oldest = multiprocessing.Value("i", 0)

    def put_and_look(name: str) -> None:
        for number in range(40):
            fd = os.open(pipeline / f"{name}{number}", os.O_WRONLY | os.O_CREAT)
            os.write(fd, b"new")
            os.close(fd)
            with oldest.get_lock():
                gone = oldest.value
                oldest.value += 1
            assert not (pipeline / f"old{gone:03}").exists()

    processes = [multiprocessing.Process(target=put_and_look, args=(name,)) for name in "abcdef"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6


@pytest.mark.mount
def test_two_close_at_once_what_another_was_renamed_onto(mounted: MountedStore) -> None:
    directory = mounted.run / "r"
    directory.mkdir()
    with Other() as one, Other() as other:
        for number in range(100):
            key, moved = directory / f"k{number}", directory / f"moved{number}"
            key.write_text("old")
            moved.write_text("moved")
            for process in (one, other):
                process("k = os.open(path, os.O_WRONLY | os.O_TRUNC); os.write(k, b'put')", path=key)
            moved.stat()
            moved.rename(key)
            for process in (one, other):
                process.begin("os.close(k); shown = path.read_text()")
            for process in (one, other):
                process.answer()
                assert process("shown") == "put"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(ObjectStoreSettings(path=tmp_path / "objects.db", pipeline_object_limit=100))) as store:
        store.create_pipeline(APP.name)
        for number in range(100):
            store.put_object(APP, b"%03d" % number, b"x")
        yield store


def test_as_many_are_at_risk_as_are_coming(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that ends with very many of them asks the store for does not grow with their square."""
    asked = []
    next_victims = Tree.next_victims

    def counted(tree: Tree, parent: int, puts: int = 1) -> list[Node]:
        asked.append(puts)
        return next_victims(tree, parent, puts)

    monkeypatch.setattr(Tree, "next_victims", counted)
    top = directory(store, APP)
    order = [node.ino for node in next_victims(store.tree, top, 100)]
    coming = Coming(store, mount_state(store).kernel)
    handles = [object() for _ in range(2000)]

    async def announce(number: int, *, takes_place: bool) -> None:
        await coming.announce(handles[number], top, top, takes_place=takes_place)

    async def steps() -> None:
        await announce(0, takes_place=False)
        assert not coming
        await announce(1, takes_place=True)
        assert set(order[:2]) <= {ino for ino in order if ino in coming}
        coming.arrived(handles[0])
        coming.arrived(handles[1])
        assert not coming
        for number in range(2000):
            await announce(number, takes_place=True)
            assert all(ino in coming for ino in order[: number + 1])
            await announce(number, takes_place=True)

    trio.run(steps)
    assert len(asked) < 20
    for handle in handles:
        coming.arrived(handle)
        coming.arrived(handle)
    assert not coming
