"""The number of a thread that opened a file is another's later; what that opened is not the other's."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from engine import ScopeName, open_store
from engine.config import ObjectStoreSettings
from fusefs import callers
from fusefs.callers import Caller, identity_of
from fusefs.opened import Opened
from fusefs.opening import Opening
from fusefs.state import MountState
from fusefs.writers import Writers
from tests.support.numbers import with_number
from tests.support.processes import Other
from tests.support.states import mount_state
from tests.support.stores import directory

APP = ScopeName.pipeline("app")


@pytest.fixture
def state(tmp_path: Path, nursery: trio.Nursery) -> Iterator[MountState]:
    with open_store(ObjectStoreSettings(path=tmp_path / "objects.db")) as store:
        store.create_pipeline(APP.name)
        yield mount_state(store, nursery)


@pytest.fixture(params=["told apart", "not told apart"])
def are_told_apart(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """As on this kernel, and as before Linux 6.9."""
    if request.param == "not told apart":
        monkeypatch.setattr(callers, "_HAS_IDENTITIES", False)
    return bool(identity_of(os.getpid()))


def create(state: MountState, caller: Caller) -> Writers:
    _, inode, _ = Opening(state).create(directory(state.store, APP), b"k", 0o600, os.O_RDWR, caller)
    writers = state.writers.of(inode.ino)
    assert writers is not None
    return writers


def is_gone(file: Opened) -> bool:
    """Whether the process has ended that opened it, whoever has its number."""
    return file.by.process.began() > file.by.at


@pytest.mark.trio
async def test_at_once(state: MountState, are_told_apart: bool) -> None:
    """It holds as soon as the kernel tells them apart; before, when a second has passed between them."""
    with Other() as opener:
        writers = create(state, Caller(opener.pid, 0, 0))
        (opening,) = writers.openings
        assert writers.openings.of(opener.pid) == writers.openings.of_process(opener.pid) == [opening]
        assert not is_gone(opening)
    assert is_gone(opening)
    time.sleep(0 if are_told_apart else 1.1)
    with with_number(opener.pid) as stranger:
        assert writers.openings.of(stranger.pid) == writers.openings.of_process(stranger.pid) == []
        assert is_gone(opening)
        create(state, Caller(stranger.pid, 0, 0))
        assert writers.openings.of(stranger.pid) == writers.openings.of_process(stranger.pid) == [*writers.openings][1:]


@pytest.mark.trio
async def test_it_is_the_same_for_as_long_as_it_lives(state: MountState, are_told_apart: bool) -> None:
    """Also longer than a number is taken for known."""
    with Other() as opener:
        writers = create(state, Caller(opener.pid, 0, 0))
        time.sleep(0 if are_told_apart else 1.1)
        assert writers.openings.of(opener.pid) == writers.openings.of_process(opener.pid) == [*writers.openings]
        assert not any(is_gone(file) for file in writers.openings)
