"""Fixtures for all levels, and what guards a run against mounts: its own and those that an aborted run left."""

import faulthandler
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from tests.support.mounting import MountedStore
from tests.support.scratch import sweep

_MOUNTING_FIXTURES = {"mounted", "make_mount"}


class MakeMount(Protocol):
    """Makes and mounts a store. Takes what `MountedStore` takes."""

    def __call__(self, **options: Any) -> MountedStore: ...


def pytest_sessionstart(session: pytest.Session) -> None:
    # For a run that hangs: `kill -USR1 PID` shows where.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    for path in sweep():
        print(f"unmounted what an aborted run had left: {path}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    left = sweep(os.getpid())
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print("\nleft mounted by the tests: " + ", ".join(map(str, left)))


@pytest.hookimpl(tryfirst=True)  # before -m decides what runs
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _MOUNTING_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.mount)


def pytest_collection_finish(session: pytest.Session) -> None:
    """A machine without FUSE cannot run these tests; skipping them would look like success."""
    if session.config.option.collectonly or os.access("/dev/fuse", os.R_OK | os.W_OK):
        return
    if any(item.get_closest_marker("mount") for item in session.items):
        raise pytest.UsageError('no access to /dev/fuse: load the module fuse, or leave these out: -m "not mount"')


@pytest.fixture
def make_mount() -> Iterator[MakeMount]:
    """Mounts as many stores as a test needs; each is unmounted at the end, and its log must be clean."""
    with ExitStack() as mounts:

        def make(**options: Any) -> MountedStore:
            store = MountedStore(**options)
            mounts.callback(store.close)
            store.mount()
            return store

        yield make


@pytest.fixture
def mounted(make_mount: MakeMount) -> MountedStore:
    """A new store, mounted with all the defaults."""
    return make_mount()
