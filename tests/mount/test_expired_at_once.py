"""A run that expired is found by no path once the mkdir that started the next one has returned."""

import errno
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from engine import open_store
from engine.config import ObjectStoreSettings
from engine.model import RUNS_INO, Attributes
from fusefs.attributes import NodeAttributes
from fusefs.callers import Caller
from fusefs.files import Files
from fusefs.opening import Opening
from fusefs.publication import Publication
from fusefs.state import StaleError
from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import Other
from tests.support.shared_mount import listed, refused
from tests.support.states import mount_state
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

# The kernel is asked to forget a name as late as a thread may come to that on a busy machine.
LATE = """
import os
import time
from fusefs import kernel
from fusefs.cli import main

def late(parent, name, invalidate=kernel._invalidate):
    time.sleep(float(os.environ.get('LATE_S', '0.7')))
    invalidate(parent, name)

kernel._invalidate = late
main()
"""
ASKED = {
    "stat": "os.stat(path)",
    "what is in it": "os.stat(path + '/d/k')",
    "a listing": "os.listdir(path)",
    "open": "open(path + '/d/k')",
    "a path relative to another directory": "os.stat('1/d/k', dir_fd=runs)",
    "an attribute": "os.getxattr(path, 'fusefs.order')",
    "chmod": "os.chmod(path, 0o700)",
    "utime": "os.utime(path)",
    "access": "os.access(path, os.F_OK) or os.stat(path)",
    "a working directory": "os.chdir(path)",
}


@pytest.fixture
def late(make_mount: MakeMount) -> MountedStore:
    """A mount with a run 1 whose paths the kernel has, and may keep: two more have to start before it expires."""
    store = make_mount(program=(sys.executable, "-c", LATE), run_object_expiry=2)
    (store.run / "1/d").mkdir(parents=True)
    (store.run / "1/d/k").write_text("v")
    assert (store.run / "1/d/k").read_text() == "v"
    return store


def start_two(store: MountedStore) -> None:
    """Start two runs at once: the second makes run 1 expire."""
    (store.run / "2").mkdir()
    (store.run / "3").mkdir()


@pytest.fixture
def other() -> Iterator[Other]:
    with Other() as other:
        yield other


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED.keys())
def test_nothing_finds_it(late: MountedStore, other: Other, asked: str) -> None:
    other(
        "runs = os.open(directory, os.O_RDONLY); os.stat(path + '/d/k')", directory=str(late.run), path=f"{late.run}/1"
    )
    start_two(late)
    with refused(errno.ENOENT):
        other(asked)
    assert listed(late.run) == ["2", "3"]


@pytest.fixture
def very_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later than anybody waits for, also twice."""
    monkeypatch.setenv("LATE_S", "4")


@pytest.mark.usefixtures("very_late")
@pytest.mark.parametrize("asked", [ASKED["stat"], ASKED["what is in it"]], ids=["stat", "what is in it"])
def test_nothing_finds_it_although_it_is_there_for_long(late: MountedStore, other: Other, asked: str) -> None:
    other("os.stat(path + '/d/k')", path=f"{late.run}/1")
    start_two(late)
    for _ in range(2):
        with refused(errno.ENOENT):
            other(asked)


@pytest.mark.usefixtures("very_late")
def test_who_is_in_it_for_long_goes_on(late: MountedStore, other: Other) -> None:
    other("os.chdir(path)", path=late.run / "1")
    start_two(late)
    for _ in range(2):
        assert other("os.stat('.')")


def test_who_has_it_open_goes_on(late: MountedStore, other: Other) -> None:
    """opendir(3) asks for the attributes of what it has just opened, and the kernel does not ask again for those."""
    other("runs = os.open(path, os.O_RDONLY | os.O_DIRECTORY)", path=late.run / "1")
    start_two(late)
    assert other("os.fstat(runs) and os.listdir(runs)") == []


@pytest.mark.usefixtures("very_late")
@pytest.mark.parametrize("asked", [ASKED["stat"], ASKED["what is in it"]], ids=["stat", "what is in it"])
@pytest.mark.parametrize("holds", ["run = os.open(path, os.O_RDONLY)", "os.chdir(path); run = '.'"], ids=["fd", "cwd"])
def test_nothing_finds_it_after_who_is_in_it(late: MountedStore, other: Other, holds: str, asked: str) -> None:
    """What these are answered is not kept for whoever comes by the path."""
    with Other() as second:
        second("os.stat(path + '/d/k')", path=f"{late.run}/1")
        other(holds, path=late.run / "1")
        start_two(late)
        assert other("os.stat(run)")
        with refused(errno.ENOENT):
            second(asked)


@pytest.mark.trio
async def test_who_was_sent_back_by_an_open_is_not_again(tmp_path: Path) -> None:
    """The kernel looks a path up again once; what comes then is told to the program, which knows no ESTALE."""
    with open_store(ObjectStoreSettings(path=str(tmp_path / "objects.db"))) as store:
        state, thread = mount_state(store), 12345
        run = store.tree.make_directory(RUNS_INO, b"1", 0o755, 0, 0)[0]
        state.kernel.looked_up(run.ino, cached=True)
        opening = Opening(state)
        attributes = NodeAttributes(state, opening, Files(state, opening, Publication(state)))
        state.kernel.drop_tree_soon(RUNS_INO, b"1", run.ino)
        with pytest.raises(StaleError), trio.fail_after(5):
            await attributes.ask(run.ino, thread + 1)
        state.writers.expect(thread)
        assert await attributes.ask(run.ino, thread) == (run, 0.0)
        changed, seconds = await attributes.set(run.ino, Attributes(mode=0o700), None, None, Caller(thread, 0, 0))
        assert (changed.mode, seconds) == (0o700, 0.0)


def test_who_is_in_it_goes_on(late: MountedStore, other: Other) -> None:
    """Open files keep their values, and a working directory is an empty one that was removed."""
    other("os.chdir(path); fd = os.open('d/k', os.O_RDONLY)", path=late.run / "1")
    start_two(late)
    assert other("os.read(fd, 10)") == b"v"
    assert other("os.stat('.')")
    assert other("os.listdir('.')") == []


def test_it_is_asked_for_in_the_middle_of_a_rename_of_it(late: MountedStore, other: Other) -> None:
    """The caller holds the lock that the kernel needs to forget the name, and both go on."""
    other("os.stat(path)", path=f"{late.run}/1")
    start_two(late)
    started = time.monotonic()
    with refused(errno.ENOENT, errno.EPERM, errno.ESTALE):
        other("os.rename(path, new)", new=f"{late.run}/2/moved")
    assert time.monotonic() - started < 5
    wait_until(lambda: not Path(late.run / "1").exists())
