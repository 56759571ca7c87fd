"""`fusefs status`: asked of the mount, within bounded time, whatever state it is in."""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from fusefs.mountapi import detach
from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import Other

pytestmark = pytest.mark.mount

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts without a helper")


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
@needs_root
def test_many_that_never_answer_cost_no_more_than_one(mounted: MountedStore) -> None:
    """Any user can make such mounts, of our type."""
    with silent_mounts(mounted.directory, 6) as paths:
        began = time.monotonic()
        lines = mounted.cli("status", exit_code=1).stdout.decode().splitlines()
        assert time.monotonic() - began < 15
        assert {f"serving\t{mounted.path}", *(f"stuck\t{path}" for path in paths)} <= set(lines)


@needs_root
@pytest.mark.parametrize("state", ["alive", "dead"])
def test_one_that_lets_nobody_else_in(mounted: MountedStore, state: str) -> None:
    """Not even root: the kernel answers by itself, whoever serves it or does not."""
    path = mounted.directory / "private"
    path.mkdir()
    with silent_mount(path, user_id=1001) as connection:
        if state == "dead":
            os.close(connection)
        done = mounted.cli("status")
        lines = done.stdout.decode().splitlines()
        assert {f"serving\t{mounted.path}", f"unknown\t{path}"} <= set(lines)
        # Those of other tests are among them.
        assert done.returncode == any(not line.startswith(("serving\t", "unknown\t")) for line in lines)
        (found,) = as_json(mounted, path, exit_code=1)
        assert found["state"] == "unknown"


@needs_root
@pytest.mark.parametrize(("mode", "options"), [(0o700, ["--allow-other"]), (0o755, [])])
def test_one_of_somebody_else(make_mount: MakeMount, mode: int, options: list[str]) -> None:
    store = make_mount(options=options)
    store.directory.chmod(mode)
    with Other() as process:
        process("sys.path[:] = path; import hashlib; from fusefs.status import all_statuses", path=sys.path)
        process("os.setgroups([]); os.setgid(1001); os.setuid(1001)")
        found = process("{each.path: each.state.value for each in all_statuses()}")
    assert found[str(store.path)] == "unknown"


@pytest.mark.slow
@needs_root
def test_of_another_user_only_a_few_are_asked_at_once(mounted: MountedStore) -> None:
    """A process that asks one that never answers may never end."""
    with silent_mounts(mounted.directory, 12, user_id=1001, options=",allow_other") as paths:
        lines = mounted.cli("status", exit_code=1).stdout.decode().splitlines()
        assert f"serving\t{mounted.path}" in lines
        assert {f"stuck\t{path}" for path in paths[:8]} <= set(lines)
        assert {f"unknown\t{path}" for path in paths[8:]} <= set(lines)


@contextmanager
def silent_mount(path: Path, *, user_id: int = 0, options: str = "") -> Iterator[int]:
    """A filesystem of our type, whose server is there and never answers. Gives its descriptor, which may be closed."""
    connection = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={connection},rootmode=40000,user_id={user_id},group_id={user_id}{options}"
        assert ctypes.CDLL(None).mount(b"silent", bytes(path), b"fuse.fusefs", 0, options.encode()) == 0
        yield connection
    finally:
        with suppress(OSError):
            os.close(connection)
        detach(str(path))


@contextmanager
def silent_mounts(directory: Path, number: int, *, user_id: int = 0, options: str = "") -> Iterator[list[Path]]:
    paths = [directory / f"silent{each:02}" for each in range(number)]
    with ExitStack() as mounts:
        for path in paths:
            path.mkdir()
            mounts.enter_context(silent_mount(path, user_id=user_id, options=options))
        yield paths
