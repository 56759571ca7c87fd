"""`fusefs status`: asked of the mount, within bounded time, whatever state it is in."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

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
