"""Several Puts that come into one pipeline at once: nobody is shown what they evict once they are closed."""

import os
from collections.abc import Iterator
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
