"""One mount for all tests of a module, with a pipeline and a run of its own for each of them.

A conftest.py gets the fixtures by importing them. The module says what the mount is like in a variable of its own:
`SETTINGS = {"pipeline_object_limit": 3}`, arguments of MountedStore. It marks its tests with `pytest.mark.mount`.
"""

import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Timer

import pytest

from tests.support.mounting import MountedStore
from tests.support.scratch import abort, fuse_mounts

_TEST_SECONDS = 120.0
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def never_for_ever() -> Iterator[None]:
    """Answer whatever still waits for a mount of ours after a while with an error: no test hangs."""

    def give_up() -> None:
        for mount in fuse_mounts():
            if f"fusefs-test-{os.getpid()}-" in str(mount.path):
                abort(mount)

    watchdog = Timer(_TEST_SECONDS, give_up)
    watchdog.daemon = True
    watchdog.start()
    yield
    watchdog.cancel()


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[MountedStore]:
    """The mount of this module."""
    with closing(MountedStore(**getattr(request.module, "SETTINGS", {}))) as store:
        store.mount()
        yield store


@pytest.fixture
def pipeline(shared: MountedStore) -> Path:
    """A new pipeline."""
    path = shared.pipeline / f"p{next(_numbers)}"
    path.mkdir()
    return path


@pytest.fixture
def other_pipeline(shared: MountedStore) -> Path:
    """Another new pipeline."""
    path = shared.pipeline / f"o{next(_numbers)}"
    path.mkdir()
    return path


@pytest.fixture
def run(shared: MountedStore) -> Path:
    """A new run."""
    path = shared.run / f"r{next(_numbers)}"
    path.mkdir()
    return path


@contextmanager
def refused(*allowed: int) -> Iterator[None]:
    """What is inside has to fail with one of these errnos."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        yield
    names = [errno.errorcode[number] for number in allowed]
    assert errno.errorcode.get(caught.value.errno or 0) in names, f"{caught.value} instead of {names}"


def listed(directory: Path) -> list[str]:
    """The names in a directory, in order."""
    return sorted(os.listdir(directory))


def by_age(directory: Path) -> list[str]:
    """The names in a directory in the order of `ls -tr`."""
    return sorted(os.listdir(directory), key=lambda name: (os.stat(directory / name).st_mtime_ns, name))
