"""What lost its name is kept for those who have just looked it up, whenever upkeep comes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.waiting import wait_for_upkeep, wait_until

pytestmark = pytest.mark.mount

VALUE = os.urandom(150_000)


class Hasty:
    """A mount whose upkeep comes between a change of names and all that follows from it, when it is told so."""

    def __init__(self, store: MountedStore, trigger: Path) -> None:
        self.store = store
        self.run = store.run / "r"
        self._trigger = trigger

    def upkeep_at_next_change(self) -> None:
        """Returns once the thread has begun, and waits for the change."""
        self._trigger.touch()
        wait_until(lambda: not self._trigger.exists())


@pytest.fixture
def hasty(tmp_path: Path, make_mount: MakeMount) -> Hasty:
    trigger = tmp_path / "hasty"
    program = (sys.executable, "-m", "tests.support.hasty")
    store = make_mount(program=program, environment={"HASTY_FILE": str(trigger)})
    (store.run / "r").mkdir()
    return Hasty(store, trigger)


@pytest.mark.parametrize(
    "change",
    [os.unlink, lambda path: os.rename(path.with_name("other"), path)],
    ids=["removed", "renamed over"],
)
def test_upkeep_comes_before_it_is_kept(hasty: Hasty, change: Callable[[Path], None]) -> None:
    key, other = hasty.run / "k", hasty.run / "other"
    for path in (key, other, hasty.run / "open"):
        path.write_bytes(VALUE)
    looked_up = os.open(key, os.O_PATH)  # as open(2) does first
    try:
        with (hasty.run / "open").open("rb"):
            (hasty.run / "open").unlink()  # there is something to be deleted, so upkeep comes
            hasty.upkeep_at_next_change()
            change(key)
            assert Path(f"/proc/self/fd/{looked_up}").read_bytes() == VALUE
    finally:
        os.close(looked_up)
    wait_for_upkeep(hasty.store.store_path)  # nothing is kept for ever
