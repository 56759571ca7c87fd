"""Fixtures for all levels, and what guards a run against mounts: its own and those that an aborted run left."""

import faulthandler
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from tests.support import dockerengine
from tests.support.docker_fixtures import containers, docker_engine, docker_image
from tests.support.mounting import MountedStore
from tests.support.scratch import sweep

__all__ = ["containers", "docker_engine", "docker_image"]

_MOUNTING_FIXTURES = {"mounted", "make_mount"}
_LEFT_OUT = pytest.StashKey[int]()


class MakeMount(Protocol):
    """Makes and mounts a store. Takes what `MountedStore` takes."""

    def __call__(self, **options: Any) -> MountedStore: ...


def pytest_sessionstart(session: pytest.Session) -> None:
    # For a run that hangs: `kill -USR1 PID` shows where.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    for path in sweep():
        print(f"unmounted what an aborted run had left: {path}")
    for path in dockerengine.sweep():
        print(f"took away the engine that an aborted run had left: {path}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    left = sweep(os.getpid())
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print("\nleft mounted by the tests: " + ", ".join(map(str, left)))


@pytest.hookimpl(tryfirst=True)  # before -m decides what runs
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if _MOUNTING_FIXTURES.intersection(fixtures):
            item.add_marker(pytest.mark.mount)
        if "docker_engine" in fixtures or item.get_closest_marker("docker"):
            for mark in (pytest.mark.docker, pytest.mark.mount, pytest.mark.slow):
                item.add_marker(mark)
    if os.environ.get(dockerengine.SWITCH) == "1":
        left_out = [item for item in items if item.get_closest_marker("docker")]
        items[:] = [item for item in items if item not in left_out]
        config.stash[_LEFT_OUT] = len(left_out)
        config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish(session: pytest.Session) -> None:
    """A machine without FUSE or an engine cannot run these tests; skipping them would look like success."""
    if session.config.option.collectonly:
        return
    marks = {mark.name for item in session.items for mark in item.iter_markers()}
    if "mount" in marks and not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise pytest.UsageError('no access to /dev/fuse: load the module fuse, or leave these out: -m "not mount"')
    if "docker" in marks and (missing := dockerengine.what_is_missing()):
        raise pytest.UsageError(f"no tests in containers here: {missing}. {dockerengine.SWITCH}=1 leaves them out")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left_out := config.stash.get(_LEFT_OUT, 0):
        terminalreporter.write_line(f"left out because of {dockerengine.SWITCH}=1: {left_out} tests in containers")


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
