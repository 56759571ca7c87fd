"""A store that another process keeps locked for a minute."""

import errno
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import MakeMount
from tests.support.disks import sync
from tests.support.mounting import MountedStore
from tests.support.shared_mount import listed
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.slow]

LOCKED_S = 60
PATIENCE_S = 10
"""How long the first request waits for the lock."""


@contextmanager
def locked(store: MountedStore) -> Iterator[None]:
    """Hold the lock without which nobody can write."""
    other = sqlite3.connect(store.store_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def opened(store: MountedStore) -> Counter[str]:
    """What the daemon has open, but for what it remembers of the last processes that used it (fusefs.openers)."""
    directory = f"/proc/{store.pid}/fd"
    paths = (os.readlink(f"{directory}/{fd}") for fd in os.listdir(directory))
    return Counter(path for path in paths if not path.startswith("/proc/"))


def threads(store: MountedStore) -> int:
    return len(os.listdir(f"/proc/{store.pid}/task"))


def test_locked_for_a_minute(make_mount: MakeMount) -> None:
    """Who needs the lock is told in bounded time, everybody else is served, and afterwards all goes on by itself."""
    store = make_mount(pipeline_object_limit=0)
    store.expect_log("ERROR|is late|published later|could not be committed")
    directory = store.pipeline / "p"
    directory.mkdir()
    (directory / "k").write_bytes(b"old")
    large = os.urandom(3_000_000)
    (directory / "large").write_bytes(large)
    sync(directory)  # published, too
    before = opened(store)
    acknowledged, longest = {"k": b"old", "large": large}, 0.0
    refused: list[int | None] = []
    with locked(store):
        until = time.monotonic() + LOCKED_S
        while time.monotonic() < until:
            number = len(acknowledged) + len(refused)
            begun = time.monotonic()
            try:
                if number % 3:
                    (directory / f"d{number}").mkdir()
                    raise AssertionError("a directory was made without the lock")
                (directory / f"k{number}").write_bytes(b"%d" % number)
                acknowledged[f"k{number}"] = b"%d" % number
            except OSError as error:
                refused.append(error.errno)
            longest = max(longest, time.monotonic() - begun)
            begun = time.monotonic()
            assert (directory / "large").read_bytes() == large
            assert (directory / "k").read_bytes() == b"old"
            assert {"k", "large"} <= set(listed(directory))
            assert time.monotonic() - begun < 2
            time.sleep(0.2)
    assert len(refused) > 10
    assert set(refused) == {errno.EIO}
    assert longest < 2 * PATIENCE_S

    def goes_on() -> bool:
        return all((directory / name).exists() for name in acknowledged)

    wait_until(goes_on)
    (directory / "k").write_bytes(b"new")
    acknowledged["k"] = b"new"
    (directory / "sub").mkdir()
    assert {name: (directory / name).read_bytes() for name in acknowledged} == acknowledged
    wait_until(lambda: opened(store) == before)
    assert threads(store) < 10
    store.remount()
    assert {name: (directory / name).read_bytes() for name in acknowledged} == acknowledged
