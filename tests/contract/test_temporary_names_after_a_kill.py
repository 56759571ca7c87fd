"""A daemon that dies between the temporary name and the rename: what was displaced still comes back."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import end, sh, start_python
from tests.support.shared_mount import listed
from tests.support.waiting import wait_until

KEYS = "abc"


@pytest.fixture
def store(make_mount: MakeMount) -> MountedStore:
    return make_mount(pipeline_object_limit=3)


def full(store: MountedStore, name: str) -> Path:
    """A full pipeline."""
    directory = store.pipeline / name
    directory.mkdir()
    for key in KEYS:
        (directory / key).write_text(f"old {key}")
    return directory


def revive(store: MountedStore) -> None:
    store.kill()
    store.mount()


def values(directory: Path) -> dict[str, str]:
    return {name: (directory / name).read_text() for name in listed(directory)}


def edited(key: str) -> dict[str, str]:
    return {each: "new" if each == key else f"old {each}" for each in KEYS}


def order_of_eviction(directory: Path) -> str:
    gone, left = "", set(KEYS)
    for number in range(len(KEYS)):
        (directory / f"later{number}").write_text("later")
        went = left - set(listed(directory))
        gone, left = gone + "".join(went), left - went
    return gone


def test_killed_before_the_rename(store: MountedStore) -> None:
    """The rename comes after the kill: the same keys, the same order, for each key."""
    for key in KEYS:
        directory = full(store, key)
        (directory / "tmp").write_text("new")
    revive(store)
    for key in KEYS:
        directory = store.pipeline / key
        assert len(listed(directory)) == 3
        os.rename(directory / "tmp", directory / key)
        assert values(directory) == edited(key)
        assert order_of_eviction(directory) == KEYS.replace(key, "") + key


def test_killed_after_the_rename(store: MountedStore) -> None:
    """What came back is there after the kill, with its age."""
    for key in KEYS:
        sh(f"printf new > tmp; mv tmp {key}", full(store, key))
    revive(store)
    for key in KEYS:
        assert values(store.pipeline / key) == edited(key)
        assert order_of_eviction(store.pipeline / key) == KEYS.replace(key, "") + key


def test_killed_before_the_temporary_name_is_removed(store: MountedStore) -> None:
    """Whoever gives a temporary name up after the kill brings back what it displaced."""
    directory = full(store, "p")
    (directory / "tmp").write_text("new")
    revive(store)
    assert listed(directory) == ["b", "c", "tmp"]
    (directory / "tmp").unlink()
    assert values(directory) == edited("none")
    assert order_of_eviction(directory) == KEYS


@pytest.mark.parametrize("ending", ["mv tmp {}", "rm tmp"])
def test_killed_while_the_temporary_name_is_only_prepared(store: MountedStore, ending: str) -> None:
    """A temporary name that the next daemon publishes evicts as any Put, and gives back as any."""
    open_files = []
    for key in KEYS:
        directory = full(store, key)
        # One descriptor is closed, so that the Put is prepared; the other one keeps it from being published.
        fd = os.open(directory / "tmp", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"new")
        os.close(os.dup(fd))
        open_files.append(fd)
    store.kill()
    for fd in open_files:
        with suppress(OSError):
            os.close(fd)
    store.mount()
    for key in KEYS:
        directory = store.pipeline / key
        assert listed(directory) == ["b", "c", "tmp"]
        sh(ending.format(key), directory)
        assert values(directory) == (edited(key) if "mv" in ending else edited("none"))
        assert order_of_eviction(directory) == (KEYS.replace(key, "") + key if "mv" in ending else KEYS)


WRITER = """
import errno, os, sys
directory = sys.argv[1]
try:
    while True:
        for key in "abc":
            with open(f"{directory}/tmp", "w") as file:
                file.write("new " + key)
            os.rename(f"{directory}/tmp", f"{directory}/{key}")
except OSError as error:
    assert error.errno in (errno.ENOTCONN, errno.ECONNABORTED), error
"""


def rewritten(path: Path) -> Callable[[], bool]:
    """Whether a key has been written since this was called."""
    before = path.stat().st_ino

    def now() -> bool:
        with suppress(FileNotFoundError):  # for a moment, the temporary name is there in its stead
            return path.stat().st_ino != before
        return False

    return now


def test_killed_at_any_moment(store: MountedStore) -> None:
    """Whenever it is killed: three whole objects, and the three keys once the temporary name is out of the way."""
    directory = full(store, "p")
    for _ in range(5):
        writer = start_python(WRITER, directory)
        wait_until(rewritten(directory / "b"))
        store.kill()
        end([writer])
        store.mount()
        assert len(listed(directory)) == 3
        (directory / "tmp").unlink(missing_ok=True)
        assert listed(directory) == list(KEYS)
        assert all(text in (f"old {key}", f"new {key}") for key, text in values(directory).items())
