"""Files of the store that are deleted or replaced under a daemon: nothing more is acknowledged into them."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.disks import sync
from tests.support.mounting import MountedStore
from tests.support.shared_mount import refused
from tests.support.waiting import wait_until

LARGE = os.urandom(3_500_000)


def noticed(store: MountedStore) -> Callable[[], bool]:
    return lambda: "was deleted or replaced" in store.log()


@pytest.fixture
def store(make_mount: MakeMount) -> MountedStore:
    store = make_mount()
    (store.pipeline / "p").mkdir()
    (store.pipeline / "p/small").write_text("small")
    (store.pipeline / "p/large").write_bytes(LARGE)
    sync(store.pipeline / "p")  # the daemon has looked at its files
    store.expect_log("was deleted or replaced|published later|could not be deleted yet")
    return store


def files(store: MountedStore, suffix: str) -> Path:
    (path,) = store.store_path.parent.glob(f"objects.db{suffix}")
    return path


def refuses_changes(store: MountedStore) -> None:
    directory = store.pipeline / "p"
    for change in (
        lambda: (directory / "small").write_text("new"),
        lambda: (directory / "new").write_bytes(b"new"),
        lambda: (directory / "large").write_bytes(LARGE),
        lambda: os.rename(directory / "small", directory / "other"),
        lambda: os.unlink(directory / "small"),
        lambda: (directory / "directory").mkdir(),
    ):
        with refused(errno.EIO):
            change()


@pytest.mark.parametrize(
    ("suffix", "replaced"),
    [("", False), ("-wal", False), ("-shm", True), ("-lock", False), ("-data", True), ("-puts-*", False), ("", True)],
)
def test_a_file_of_the_store_is_gone(store: MountedStore, suffix: str, replaced: bool) -> None:
    """Changes are EIO, the log says why, and what is there can still be read, to be saved."""
    path = files(store, suffix)
    if replaced:
        shutil.copy(path, path.with_suffix(".copy"))
        os.replace(path.with_suffix(".copy"), path)
    else:
        path.unlink()
    wait_until(noticed(store))
    refuses_changes(store)
    with refused(errno.EIO):
        sync(store.pipeline / "p")
    assert (store.pipeline / "p/small").read_text() == "small"
    assert (store.pipeline / "p/large").read_bytes() == LARGE
    assert sorted(os.listdir(store.pipeline / "p")) == ["large", "small"]
    assert str(path) in store.log()
    store.discard()


def test_an_fsync_is_not_acknowledged_into_a_deleted_file(store: MountedStore) -> None:
    """Whether or not the daemon has noticed by itself."""
    with (store.pipeline / "p/k").open("wb", buffering=0) as file:
        file.write(b"value")
        files(store, "").unlink()
        with refused(errno.EIO):
            os.fsync(file.fileno())
    store.discard()


def close_one_of_two(store: MountedStore) -> int:
    """Have a large value acknowledged, and go on writing."""
    fd = os.open(store.pipeline / "p/small", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, LARGE[:100_000])
    os.close(os.dup(fd))
    return fd


@contextmanager
def taken_away(store: MountedStore) -> Iterator[None]:
    """While a file of the store is somewhere else, and the daemon knows that."""
    path = files(store, "-lock")
    path.rename(path.with_name("away"))
    wait_until(noticed(store))
    yield
    path.with_name("away").rename(path)


@pytest.mark.parametrize("killed", [False, True])
def test_what_was_refused_after_a_close_does_not_come_true_later(store: MountedStore, killed: bool) -> None:
    """Neither when the daemon is killed at once, nor when it goes on."""
    fd = close_one_of_two(store)
    with taken_away(store):
        with refused(errno.EIO):
            os.write(fd, LARGE[100_000:])
        with refused(errno.EIO):
            os.close(fd)
        if killed:
            store.kill()
    if not killed:
        wait_until(lambda: "is back" in store.log())
    store.remount()
    assert (store.pipeline / "p/small").read_text() == "small"


def test_who_could_not_remove_a_name_and_closes_again(store: MountedStore) -> None:
    """It was told that its value is still to be put, and a kill after that does not lose it."""
    fd = close_one_of_two(store)
    with taken_away(store), refused(errno.EIO):
        os.unlink(store.pipeline / "p/small")
    wait_until(lambda: "is back" in store.log())
    os.close(os.dup(fd))
    store.kill()
    with refused(errno.ENOTCONN, errno.ECONNABORTED):
        os.close(fd)
    store.remount()
    assert (store.pipeline / "p/small").read_bytes() == LARGE[:100_000]


def test_a_file_that_comes_back(store: MountedStore) -> None:
    """Moved away and back again: changes are accepted again, and nothing is missing."""
    path = files(store, "")
    away = path.with_name("away")
    path.rename(away)
    wait_until(noticed(store))
    refuses_changes(store)
    away.rename(path)
    wait_until(lambda: "is back" in store.log())
    (store.pipeline / "p/small").write_text("new")
    store.remount()
    assert (store.pipeline / "p/small").read_text() == "new"
    assert (store.pipeline / "p/large").read_bytes() == LARGE
