"""A key that is open thousands of times: how many of its open files a request about it looks at.

One process may have as many open as `max_open_writers` allows, and whatever one of them costs, all others wait for.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from engine import ScopeName, open_store
from engine.catalog.puts import How
from engine.config import ObjectStoreSettings
from fusefs import openings, tasks
from fusefs.callers import Caller
from fusefs.copies import PrivateCopy
from fusefs.handles import WriteHandle
from fusefs.opening import Opening
from fusefs.publication import Publication
from fusefs.releasing import Releasing
from fusefs.state import MountState
from fusefs.tasks import Opener, Processes, Task
from fusefs.writers import Writers
from tests.support.states import mount_state
from tests.support.stores import directory

APP = ScopeName.pipeline("app")
FEW, MANY = 10, 1000
SELF, PARENT = os.getpid(), os.getppid()


class Looked(WriteHandle):
    """A handle that counts, for all of them together, how often somebody asks what it is."""

    looks = 0

    def __getattribute__(self, name: str) -> object:
        if name in ("by", "copy"):
            Looked.looks += 1
        return super().__getattribute__(name)


@pytest.fixture
def state(tmp_path: Path, nursery: trio.Nursery) -> Iterator[MountState]:
    with open_store(ObjectStoreSettings(path=tmp_path / "objects.db")) as store:
        store.create_pipeline(APP.name)
        yield mount_state(store, nursery)


def opened(state: MountState, number: int, pid: int, *, shared: bool = False) -> tuple[Writers, list[Looked]]:
    """A new key that a process has open so often; each a file of its own, or all of them one."""
    opening, processes = Opening(state), Processes()
    name = b"%d %d" % (number, pid)
    writers = state.writers.begin(directory(state.store, APP), name, None, 0o600, 0, 0)
    copies: list[PrivateCopy] = []
    handles: list[Looked] = []
    for _ in range(number):
        if not copies or not shared:
            copies.append(opening.new_copy(writers, How.REPLACE, None))
        copies[-1].touch()
        copies[-1].holders += 1
        by = processes.opener(pid)._replace(at=0.0)  # before its children were started
        handles.append(Looked(writers, copies[-1], by, Caller(pid, 0, 0), appends=False, changes=True))
        writers.note_open(handles[-1])
    return writers, handles


def looks(ask: Callable[[], object]) -> int:
    before = Looked.looks
    ask()
    return Looked.looks - before


ASKED: dict[str, Callable[[Writers], object]] = {
    "by its path": lambda writers: writers.openings.held_by(SELF) and writers.as_node(SELF),
    "by its descriptor": lambda writers: writers.as_shown(SELF),
    "to open it": lambda writers: writers.openings.removed_by(SELF) or writers.openings.held_by(SELF),
    "whose it is": lambda writers: writers.openings.own_copy(SELF),
    "whether it is read only": lambda writers: writers.only_reads(SELF),
    "for its attributes": lambda writers: writers.own_file(SELF),
}


@pytest.mark.trio
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("shared", [False, True], ids=["several files", "one file"])
@pytest.mark.parametrize("opener", [SELF, PARENT], ids=["by its opener", "by a child"])
async def test_asked(state: MountState, asked: str, shared: bool, opener: int) -> None:
    few, many = (opened(state, number, opener, shared=shared)[0] for number in (FEW, MANY))
    assert looks(lambda: ASKED[asked](many)) == looks(lambda: ASKED[asked](few)) < FEW


@pytest.mark.trio
async def test_opened_and_closed(state: MountState) -> None:
    """Each of them is put."""
    releasing = Releasing(state, Publication(state))
    counted = []
    for number in (FEW, MANY):
        writers, [*handles, last] = opened(state, number, SELF)
        writers.note_release(last)
        at_each = [looks(lambda writers=writers, last=last: writers.note_open(last))]  # type: ignore[misc]
        for handle in (handles[0], handles[number // 2], last):
            at_each.append(looks(lambda handle=handle: releasing.release(handle)))  # type: ignore[misc]
        assert writers.openings.own_copy(SELF) is handles[-1].copy
        counted.append(at_each)
    few, many = counted
    assert few == many


@pytest.mark.trio
async def test_another_copy_stands_for_one(state: MountState) -> None:
    """As when what was appended to is edited: it is the same file, for who opens it then, too."""
    writers, [handle, last] = opened(state, 2, SELF, shared=True)
    writers.note_release(last)
    copy = Opening(state).new_copy(writers, How.REPLACE, None)
    copy.take_over(handle.copy)
    handle.copy = last.copy = copy
    writers.note_open(last)
    assert (writers.openings.differ, writers.openings.own_copy(SELF)) == (False, copy)
    for each in (handle, last):
        writers.note_release(each)
    other = opened(state, 1, SELF)[1][0]
    writers.note_open(other)
    assert not writers.openings.differ


@pytest.mark.trio
async def test_what_a_process_that_is_gone_opened(state: MountState, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at once."""
    writers, handles = opened(state, MANY, SELF)
    gone = Task(2**22 + 1, 0)  # more than any number of a process
    for handle in handles:
        writers.note_release(handle)
        handle.by = Opener(gone, gone, handle.by.at)
        writers.note_open(handle)
    asked: list[int] = []
    kill = os.kill

    def noted(pid: int, signal: int) -> None:
        asked.append(pid)
        kill(pid, signal)

    monkeypatch.setattr(tasks.os, "kill", noted)
    assert writers.openings.orphans(SELF) == []  # they are many files
    for handle in handles[1:]:
        writers.note_release(handle)
    assert writers.openings.orphans(SELF) == handles[:1]
    assert asked == [gone.number] * 2
    monkeypatch.setattr(openings, "_LOOKED_AT_S", -1)  # as with more processes than can be looked at in time
    assert writers.openings.orphans(SELF) == []


@pytest.mark.trio
async def test_who_has_removed_the_name_is_not_asked(state: MountState, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many do, and have it open still."""
    home = directory(state.store, APP)
    all_of_them = []
    for _ in range(FEW):
        all_of_them.append(state.writers.begin(home, b"k", None, 0o600, 0, 0))
        if len(all_of_them) < FEW:
            state.writers.give_name_up(all_of_them[-1])
    asked: list[openings.Openings] = []

    def held_by(self: openings.Openings, pid: int) -> bool:
        asked.append(self)
        return True

    monkeypatch.setattr(openings.Openings, "held_by", held_by)
    assert [*state.writers.held(home, b"k", SELF)] == all_of_them[-1:]
    assert asked == [all_of_them[-1].openings]
