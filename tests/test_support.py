"""What the tests stand on: helpers that notice nothing would make every test pass."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.support import dockerengine
from tests.support.mounting import MountedStore
from tests.support.scratch import detach, make_directory, mount_at, remove_directory, sweep
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[1]


@pytest.fixture
def directory() -> Iterator[Path]:
    path = make_directory()
    yield path
    for mountpoint in path.iterdir():
        while (mount := mount_at(mountpoint)) is not None:
            detach(mount)
    remove_directory(path)


def mount_null(mountpoint: Path) -> subprocess.Popen[bytes]:
    mountpoint.mkdir()
    daemon = subprocess.Popen([sys.executable, "-m", "benchmarks.null_filesystem", str(mountpoint)], cwd=ROOT)
    deadline = monotonic() + 20
    while mount_at(mountpoint) is None:
        assert daemon.poll() is None
        assert monotonic() < deadline
        sleep(0.01)
    return daemon


def ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.mount
def test_a_sweep_takes_what_an_ended_run_left_and_nothing_else(directory: Path) -> None:
    abandoned = directory / f"fusefs-test-{ended_process()}-x"
    other = directory / "other"
    daemons = [mount_null(abandoned), mount_null(other)]
    # The directory of this run stands first in both paths, so that both are ours, who still runs.
    assert sweep() == []
    assert mount_at(abandoned) is not None

    assert set(sweep(os.getpid())) == {abandoned, other}
    assert mount_at(abandoned) is None
    for daemon in daemons:
        daemon.wait(20)


@pytest.mark.mount
def test_a_dead_mount_is_swept(tmp_path: Path) -> None:
    abandoned = tmp_path / f"fusefs-test-{ended_process()}-x"
    daemon = mount_null(abandoned)
    daemon.kill()
    daemon.wait()
    with pytest.raises(OSError, match="not connected"):
        os.stat(abandoned)
    assert sweep() == [abandoned]
    assert os.listdir(abandoned) == []


def test_a_plugin_that_an_ended_run_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dockerengine, "PLUGINS", tmp_path)
    dead = tmp_path / f"fusefs-test-{ended_process()}.sock"
    others = {tmp_path / f"{dockerengine.plugin_name()}.sock", tmp_path / "fusefs.sock"}
    for path in {dead, *others}:
        path.touch()
    assert dead in dockerengine.sweep()
    assert {*tmp_path.iterdir()} == others


@pytest.mark.mount
def test_a_directory_is_not_removed_with_what_is_mounted_in_it(directory: Path) -> None:
    daemon = mount_null(directory / "mount")
    with pytest.raises(RuntimeError, match="still mounted"):
        remove_directory(directory)
    assert sweep(os.getpid()) == [directory / "mount"]
    daemon.wait(20)


@pytest.mark.mount
@pytest.mark.parametrize(
    ("line", "announced", "unexpected"),
    [
        ("2026-01-01 INFO fusefs: fine", [], 0),
        ("2026-01-01 ERROR fusefs: broken", [], 1),
        ("2026-01-01 ERROR fusefs: broken", ["broken"], 0),
        ("2026-01-01 ERROR fusefs: broken", ["something else"], 1),
        ("Traceback (most recent call last):", [], 1),
    ],
)
def test_an_error_in_the_log_fails_the_test_unless_it_is_announced(
    line: str, announced: list[str], unexpected: int
) -> None:
    store = MountedStore()
    store.log_path.write_text(line + "\n")
    for pattern in announced:
        store.expect_log(pattern)
    assert len(store.unexpected_log()) == unexpected
    if unexpected:
        with pytest.raises(AssertionError, match="unexpected in the daemon's log"):
            store.close()
    else:
        store.close()
    assert not store.directory.exists()


def test_a_daemon_that_does_not_mount_is_told_with_its_log() -> None:
    program = "import sys; print('no such thing', file=sys.stderr); sys.exit(7)"
    store = MountedStore(program=(sys.executable, "-c", program))
    with pytest.raises(AssertionError, match=r"(?s)ended with 7.*no such thing"):
        store.mount()
    store.close()


@pytest.mark.mount
def test_a_mounted_store_can_be_ended_in_every_way(mounted: MountedStore) -> None:
    mounted.remount()
    mounted.terminate()
    mounted.mount()
    mounted.kill()
    mounted.detach()
    mounted.mount()
    assert mounted.pipeline.is_dir()
    assert mounted.run.is_dir()


def test_waiting_ends_with_a_look_after_the_time_is_over() -> None:
    """What became true while a look took longer than the whole time is not missed."""
    looks = 0

    def slow() -> bool:
        nonlocal looks
        looks += 1
        sleep(0.1)
        return looks > 1

    wait_until(slow, 0.05)
    with pytest.raises(AssertionError, match="it never happened"):
        wait_until(lambda: False, 0.05)
