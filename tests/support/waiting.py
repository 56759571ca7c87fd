"""Waiting for what happens by itself, for a bounded time."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from engine.sqlite.database import Database

_UPKEEP = (
    "SELECT EXISTS (SELECT 1 FROM doomed) OR EXISTS (SELECT 1 FROM change)"
    " OR EXISTS (SELECT 1 FROM free_slot WHERE ripe = 0)"
)


def wait_until(done: Callable[[], bool], seconds: float = 20) -> None:
    """Return once `done` is true; fail when it is not even after `seconds`.

    On a busy machine a single look, or the pause after it, may take that long: it is what was true before.
    """
    deadline = time.monotonic() + seconds
    is_last = False
    while not done():
        assert not is_last, "it never happened"
        time.sleep(0.02)
        is_last = time.monotonic() >= deadline


def wait_for_upkeep(store: Path) -> None:
    """Return once the daemon of a store has deleted all that is to be deleted, and given its space back."""
    with closing(Database(store, read_only=True)) as database:
        wait_until(lambda: not database.value(_UPKEEP))
