"""What is changed by a descriptor of an object that was renamed, and then removed through another mount."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.support.mounting import MountedStore
from tests.support.renaming import EXCHANGE, renameat2
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def other(shared: MountedStore) -> Iterator[MountedStore]:
    """A second mount of the same store."""
    with closing(MountedStore(store=shared.store_path)) as store:
        store.mount()
        yield store


@pytest.fixture
def there(other: MountedStore, pipeline: Path) -> Path:
    """The pipeline `pipeline` as the other mount shows it."""
    path = other.pipeline / pipeline.name
    wait_until(path.exists)
    return path


def renamed(here: Path, there: Path) -> None:
    (here / "k").rename(here / "n")


def renamed_elsewhere(here: Path, there: Path) -> None:
    (there / "k").rename(there / "n")
    wait_until((here / "n").exists)


def exchanged(here: Path, there: Path) -> None:
    (here / "n").write_bytes(b"other")
    renameat2(here / "k", here / "n", EXCHANGE)
    (here / "k").unlink()


def renamed_twice(here: Path, there: Path) -> None:
    (there / "k").rename(there / "between")
    wait_until((here / "between").exists)
    (here / "between").rename(here / "n")


@pytest.mark.parametrize("reads", [False, True], ids=["", "open"])
@pytest.mark.parametrize("rename", [renamed, renamed_elsewhere, exchanged, renamed_twice])
def test_changes_do_not_reach_what_has_its_first_name(
    pipeline: Path, there: Path, rename: Callable[[Path, Path], None], reads: bool
) -> None:
    """By a descriptor that is open for nothing what has the last name is changed, and nothing has that."""
    key = pipeline / "k"
    key.write_bytes(b"old")
    key.read_bytes()
    fds = [os.open(key, os.O_PATH), *([os.open(key, os.O_RDONLY)] if reads else [])]
    try:
        rename(pipeline, there)
        key.write_bytes(b"new")
        key.chmod(0o644)
        wait_until((there / "n").exists)
        (there / "n").unlink()
        wait_until(lambda: not (pipeline / "n").exists())
        with suppress(OSError):
            os.chmod(f"/proc/self/fd/{fds[0]}", 0o600)
        assert stat.S_IMODE(key.stat().st_mode) == 0o644
        assert key.read_bytes() == b"new"
    finally:
        for fd in fds:
            os.close(fd)
