"""Requests that have to wait, and those that are served meanwhile."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.mounting import MountedStore
from tests.support.processes import sh

pytestmark = pytest.mark.mount

VALUE = os.urandom(200_000)
"""Read in a thread: too large for one row, too small for the data file."""
SECONDS = 1.0
AT_ONCE = 50


class Slow:
    """A mount whose large values take a second each, once it is told so."""

    def __init__(self, store: MountedStore, trigger: Path) -> None:
        self.store = store
        self._trigger = trigger

    def slow_down(self) -> None:
        self._trigger.write_text(str(SECONDS))


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    trigger = tmp_path / "slow"
    program = (sys.executable, "-m", "tests.support.slow")
    with closing(MountedStore(program=program, environment={"SLOW_FILE": str(trigger)})) as store:
        store.mount()
        yield Slow(store, trigger)
        trigger.unlink(missing_ok=True)


class Readers:
    """Threads that each read one object."""

    def __init__(self, paths: list[Path]) -> None:
        self.values: list[bytes] = []
        self._threads = [threading.Thread(target=self._read, args=(path,)) for path in paths]
        for thread in self._threads:
            thread.start()

    def _read(self, path: Path) -> None:
        self.values.append(path.read_bytes())

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()


def objects(slow: Slow, count: int) -> list[Path]:
    directory = slow.store.run / "r"
    directory.mkdir()
    paths = [directory / f"k{number}" for number in range(count)]
    for path in paths:
        path.write_bytes(VALUE)
    slow.store.remount()  # nothing of them is in the kernel's cache
    slow.slow_down()
    return paths


def timed(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


def test_others_are_served_while_many_wait(slow: Slow) -> None:
    paths = objects(slow, AT_ONCE - 10)
    readers = Readers(paths)
    time.sleep(SECONDS / 4)
    directory = slow.store.run / "r"
    longest = 0.0
    for number in range(20):
        small = directory / f"small{number}"
        longest = max(longest, timed(lambda small=small: small.write_bytes(b"value")))  # type: ignore[misc]
        longest = max(longest, timed(small.read_bytes), timed(small.stat))
    assert not readers.values, "all of them wait still"
    assert longest < SECONDS / 4
    readers.wait()
    assert readers.values == [VALUE] * len(paths)


def test_more_wait_than_are_served_at_once(slow: Slow) -> None:
    """They have their turn one after the other, and the mount goes on as before."""
    paths = objects(slow, 3 * AT_ONCE)
    readers = Readers(paths)
    readers.wait()
    assert readers.values == [VALUE] * len(paths)
    readers = Readers(paths[:5])
    readers.wait()
    assert sh("echo value > small; cat small", slow.store.run / "r") == "value\n"


def test_a_waiting_client_is_killed(slow: Slow) -> None:
    """Its request is answered to nobody, and everybody else is served."""
    paths = objects(slow, 2)
    child = os.fork()
    if child == 0:
        paths[0].read_bytes()
        os._exit(0)
    time.sleep(SECONDS / 4)
    os.kill(child, signal.SIGKILL)
    assert paths[1].read_bytes() == VALUE
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert (slow.store.run / "r" / "k0").read_bytes() == VALUE
