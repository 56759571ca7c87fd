"""Several mounts of one store, and the command beside them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.mounting import MountedStore

VISIBLE_SECONDS = 1.0
"""What one commits is visible on the others within this time."""


@contextmanager
def mounts_of_one_store(number: int, **settings: object) -> Iterator[list[MountedStore]]:
    """Mount a new store so many times. None of the daemons may ever speak of a lock that it did not get."""
    with ExitStack() as stack:
        mounts: list[MountedStore] = []
        for _ in range(number):
            first = mounts[0].store if mounts else None
            mount = MountedStore(store=first, **settings)  # type: ignore[arg-type]
            stack.callback(mount.close)
            mount.mount()
            mounts.append(mount)
        yield mounts
        logs = [mount.log() for mount in mounts]
    assert not [log for log in logs if "locked" in log]


def soon(visible: Callable[[], bool], seconds: float = VISIBLE_SECONDS) -> None:
    """What was done before this is visible on another mount within the promised time."""
    deadline = time.monotonic() + seconds
    while not visible():
        assert time.monotonic() < deadline, f"not visible within {seconds} s"
        time.sleep(0.01)


def in_pipeline(mounts: list[MountedStore], name: str) -> list[Path]:
    """A new pipeline, as each mount shows it."""
    paths = [mount.pipeline / name for mount in mounts]
    paths[0].mkdir()
    for path in paths:
        soon(path.exists)
    return paths
