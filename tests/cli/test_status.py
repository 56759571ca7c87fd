"""`fusefs status`: asked of the mount, within bounded time, whatever state it is in."""

import ctypes
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fusefs.mountapi import detach
from tests.conftest import MakeMount
from tests.support.mounting import MountedStore

pytestmark = pytest.mark.mount


def as_json(store: MountedStore, *mountpoints: Path, exit_code: int) -> list[dict[str, object]]:
    done = store.cli("status", "--json", *map(str, mountpoints), exit_code=exit_code)
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_one_that_is_served(mounted: MountedStore) -> None:
    (found,) = as_json(mounted, mounted.path, exit_code=0)
    assert found == {
        "mountpoint": str(mounted.path),
        "state": "serving",
        "store": mounted.store,
        "process": mounted.pid,
    }
    assert mounted.cli("status", str(mounted.path)).stdout == f"serving\t{mounted.path}\n".encode()


def test_one_that_is_dead(mounted: MountedStore) -> None:
    mounted.kill()
    (found,) = as_json(mounted, mounted.path, exit_code=1)
    assert (found["state"], found["process"]) == ("dead", None)


@pytest.mark.slow
def test_one_that_does_not_answer(mounted: MountedStore) -> None:
    os.kill(mounted.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        (found,) = as_json(mounted, mounted.path, exit_code=1)
        assert time.monotonic() - began < 15
        assert (found["state"], found["process"]) == ("stuck", mounted.pid)
    finally:
        os.kill(mounted.pid, signal.SIGCONT)


@pytest.mark.parametrize("path", ["/", "/nonexistent", "/proc"])
def test_what_is_no_mount_of_ours(mounted: MountedStore, path: str) -> None:
    (found,) = as_json(mounted, Path(path), exit_code=1)
    assert found["state"] == "not mounted"


def test_all_of_them(make_mount: MakeMount) -> None:
    one, other = make_mount(), make_mount()
    lines = one.cli("status").stdout.decode().splitlines()
    assert {f"serving\t{one.path}", f"serving\t{other.path}"} <= set(lines)
    found = as_json(one, one.path, other.path, Path("/"), exit_code=1)
    assert [each["state"] for each in found] == ["serving", "serving", "not mounted"]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts without a helper")
def test_many_that_never_answer_cost_no_more_than_one(mounted: MountedStore) -> None:
    """Any user can make such mounts, of our type."""
    paths = [mounted.directory / f"silent{number}" for number in range(6)]
    with ExitStack() as mounts:
        for path in paths:
            path.mkdir()
            mounts.enter_context(silent_mount(path))
        began = time.monotonic()
        lines = mounted.cli("status", exit_code=1).stdout.decode().splitlines()
        assert time.monotonic() - began < 15
        assert {f"serving\t{mounted.path}", *(f"stuck\t{path}" for path in paths)} <= set(lines)


@contextmanager
def silent_mount(path: Path) -> Iterator[None]:
    """A filesystem of our type, whose server is there and never answers."""
    connection = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={connection},rootmode=40000,user_id=0,group_id=0"
        assert ctypes.CDLL(None).mount(b"silent", bytes(path), b"fuse.fusefs", 0, options.encode()) == 0
        yield
    finally:
        os.close(connection)
        detach(str(path))
