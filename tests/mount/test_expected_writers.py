"""Who was told to look a name up again in order to write it, and does not come."""

import os
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

import fusefs.writers
from engine import ScopeName, open_store
from engine.config import ObjectStoreSettings
from fusefs.callers import Caller
from fusefs.files import Files
from fusefs.opening import Opening
from fusefs.publication import Publication
from fusefs.state import StaleError
from tests.support.states import mount_state
from tests.support.stores import directory, node

APP = ScopeName.pipeline("app")
GONE, WRITER = Caller(101, 0, 0), Caller(102, 0, 0)
PUT = os.O_WRONLY | os.O_TRUNC


@pytest.mark.trio
async def test_it_is_not_shown_what_another_writes(tmp_path: Path, nursery: trio.Nursery) -> None:
    """It has the private inode by its name for a while, but as what it would begin with."""
    with open_store(ObjectStoreSettings(path=tmp_path / "objects.db")) as store:
        store.create_pipeline(APP.name)
        store.put_object(APP, b"k", b"old")
        published = node(store, APP, b"k")
        state = mount_state(store, nursery)
        opening = Opening(state)
        for caller in (GONE, WRITER):
            with pytest.raises(StaleError):
                opening.open(published.ino, PUT, caller)
        writers = state.writers.at(published.parent, b"k")
        assert writers is not None
        opening.open(writers.ino, PUT, WRITER)
        assert writers.as_node(WRITER.pid).size == 0
        shown = writers.as_node(GONE.pid)
        assert (shown.size, shown.mtime_ns) == (3, published.mtime_ns)


@pytest.mark.trio
async def test_who_has_opened_several_works_on_the_last(tmp_path: Path, nursery: trio.Nursery) -> None:
    """A process, by whichever of its threads; one that opens again is the last from then on."""
    with open_store(ObjectStoreSettings(path=tmp_path / "objects.db")) as store:
        store.create_pipeline(APP.name)
        state = mount_state(store, nursery)
        opening = Opening(state)
        parent = directory(store, APP)
        for caller in (GONE, WRITER, GONE):
            opening.create(parent, b"k", 0o600, PUT, caller)
        writers = state.writers.at(parent, b"k")
        assert writers is not None
        first, second, third = (handle.copy for handle in state.handles.writers())
        assert writers.openings.copies == [first, second, third]
        assert [file.copy for file in writers.openings.of(GONE.pid)] == [first, third]
        assert writers.openings.own_copy(GONE.pid) is third
        assert writers.openings.own_copy(WRITER.pid) is second


@pytest.mark.trio
async def test_the_numbers_that_it_was_shown_are_not_kept_for_ever(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Each fsync of an edit in place gives the object another, and a program may call it without end."""
    with open_store(ObjectStoreSettings(path=tmp_path / "objects.db")) as store:
        store.create_pipeline(APP.name)
        store.put_object(APP, b"k", b"old")
        state = mount_state(store, nursery)
        opening = Opening(state)
        _, inode, _ = opening.create(directory(store, APP), b"k", 0o644, os.O_RDWR, WRITER)
        writers = state.writers.of(inode.ino)
        assert writers is not None
        assert writers.edit is not None
        for _ in range(100):
            writers.edit.touch()
            await Publication(state).publish_now(writers, writers.edit)
            assert writers.as_shown(WRITER.pid).ino == node(store, APP, b"k").ino in writers.openings._shown
        assert len(writers.openings._shown) < 10


@pytest.mark.trio
@pytest.mark.parametrize("ended", [False, True])
async def test_a_truncate_takes_longer_than_it_is_expected(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """Its writers stay for as long; and where they end all the same, they let go once of what they had kept."""
    monkeypatch.setattr(fusefs.writers, "EXPECTED_S", 0.0)
    with open_store(ObjectStoreSettings(path=tmp_path / "objects.db")) as store:
        store.create_pipeline(APP.name)
        store.put_object(APP, b"k", b"x" * 1_000_000)
        read = node(store, APP, b"k")
        state = mount_state(store, nursery)
        state.opened(read)
        opening = Opening(state)
        opening.expect_writer(read.ino, WRITER.pid)
        gate, settle = threading.Event(), store.contents.settle
        monkeypatch.setattr(store.contents, "settle", lambda draft: gate.wait() and settle(draft))
        writers = state.writers.edit(read)
        async with trio.open_nursery() as requests:
            files = Files(state, opening, Publication(state))
            requests.start_soon(files.truncate_path, writers, 300_000, WRITER)
            await trio.testing.wait_all_tasks_blocked()  # for the disk
            state.writers.drop_idle()
            kept = state.writers.at(read.parent, b"k") is writers
            if ended:
                state.writers.end(writers)
            gate.set()
        assert kept
        assert node(store, APP, b"k").size == 300_000
        assert store.contents.is_pinned(read.content)
        state.writers.drop_idle()
        assert not state.writers
        state.closed(read)
        assert not store.contents.is_pinned(read.content)
