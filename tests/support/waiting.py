"""Waiting for what happens by itself, for a bounded time."""

import time
from collections.abc import Callable


def wait_until(done: Callable[[], bool], seconds: float = 20) -> None:
    """Return once `done` is true; fail when it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
