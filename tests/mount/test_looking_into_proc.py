"""How much of /proc is read to tell whose copy is meant: that costs as much as a request."""

import builtins
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import trio

from engine import ScopeName, open_store
from engine.config import ObjectStoreSettings
from fusefs.callers import Caller, lineage
from fusefs.handles import PeekHandle, WriteHandle
from fusefs.namespace import Namespace
from fusefs.opening import Opening
from fusefs.publication import Publication
from fusefs.releasing import Releasing
from fusefs.state import MountState
from fusefs.writers import Writers
from tests.support.states import mount_state
from tests.support.stores import directory

APP = ScopeName.pipeline("app")
PUT = os.O_WRONLY | os.O_TRUNC


@pytest.fixture
def state(tmp_path: Path, nursery: trio.Nursery) -> Iterator[MountState]:
    with open_store(ObjectStoreSettings(path=tmp_path / "objects.db")) as store:
        store.create_pipeline(APP.name)
        state = mount_state(store, nursery)
        yield state


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is opened and listed in /proc from now on."""
    seen: list[str] = []

    def noting(call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(path: Any, *arguments: Any, **named: Any) -> Any:
            if str(path).startswith("/proc"):
                seen.append(str(path))
            return call(path, *arguments, **named)

        return noted

    for module, name in ((builtins, "open"), (os, "open"), (os, "listdir"), (os, "scandir")):
        monkeypatch.setattr(module, name, noting(getattr(module, name)))
    return seen


def create(state: MountState, caller: Caller) -> Writers:
    _, inode, _ = Opening(state).create(directory(state.store, APP), b"k", 0o600, PUT, caller)
    writers = state.writers.of(inode.ino)
    assert writers is not None
    return writers


@pytest.mark.trio
async def test_nothing_for_the_only_writer(state: MountState, looked_at: list[str]) -> None:
    """Who creates a key, looks at it by path and by descriptor, reads it, and closes it."""
    caller = Caller(os.getpid(), 0, 0)
    writers = create(state, caller)
    Namespace(state, Publication(state)).lookup(writers.parent, b"k", caller.pid)
    assert writers.as_shown(caller.pid).size == 0
    opening, releasing = Opening(state), Releasing(state, Publication(state))
    peek = state.handles.pop(opening.open(writers.ino, os.O_RDONLY, caller))
    put = state.handles.pop(opening.open(writers.ino, os.O_WRONLY, caller))
    assert isinstance(peek, PeekHandle)
    assert isinstance(put, WriteHandle)
    releasing.release(put)
    releasing.release_peek(peek)
    assert looked_at == []


@pytest.mark.trio
async def test_a_thread_of_many(state: MountState, looked_at: list[str]) -> None:
    """Another one opened the key, as did another process: one file for each process from there on, whatever it runs."""
    create(state, Caller(os.getppid(), 0, 0))
    writers = create(state, Caller(os.getpid(), 0, 0))
    done = Event()
    threads = [Thread(target=done.wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    number = threads[-1].native_id
    assert number is not None
    looked_at.clear()
    try:
        assert writers.openings.own_copy(number) is [*writers.openings][-1].copy
        assert looked_at == [f"/proc/{number}/status"]
        assert [*lineage(number)][:2] == [os.getpid(), os.getppid()]
    finally:
        done.set()
        for thread in threads:
            thread.join()
