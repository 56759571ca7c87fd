"""SIGTERM unmounts also where the daemon can neither open anything nor start umount."""

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import sh
from tests.support.shared_mount import refused

pytestmark = [pytest.mark.mount, pytest.mark.skipif(os.geteuid() != 0, reason="others cannot unmount by themselves")]

GROUPS = [Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")]
"""Where processes are counted: of their own, or beside all else."""


@contextmanager
def no_descriptors(pid: int) -> Iterator[None]:
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3))
    yield


@contextmanager
def no_threads(pid: int) -> Iterator[None]:
    """Nor processes."""
    group = next(filter(Path.is_dir, GROUPS)) / f"fusefs-test-{pid}"
    try:
        group.mkdir()
        (group / "pids.max").write_text("1")
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        pytest.skip(f"nobody counts processes here: {error}")
    try:
        yield
    finally:
        group.rmdir()  # its only process has ended


@pytest.mark.parametrize("nothing", [no_descriptors, no_threads])
def test_a_signal_unmounts(make_mount: MakeMount, nothing: Callable[[int], AbstractContextManager[None]]) -> None:
    store = make_mount()
    (store.pipeline / "p").mkdir()
    (store.pipeline / "p/k").write_text("v")
    with nothing(store.pid):
        store.terminate()
    assert os.listdir(store.path) == []
    assert store.log().count("which cannot be run") == 1
    store.mount()
    assert (store.pipeline / "p/k").read_text() == "v"


@pytest.mark.slow
def test_a_signal_detaches_what_is_in_use(mounted: MountedStore) -> None:
    """It tries again before, and says once why it does so by itself."""
    (mounted.pipeline / "p").mkdir()
    (mounted.pipeline / "p/k").write_text("v")
    reader = os.open(mounted.pipeline / "p/k", os.O_RDONLY | os.O_DIRECT)
    with no_descriptors(mounted.pid):
        os.kill(mounted.pid, signal.SIGTERM)
        mounted.wait()
    with refused(errno.ENOTCONN, errno.ECONNABORTED):
        os.read(reader, 1)
    with suppress(OSError):
        os.close(reader)
    assert os.listdir(mounted.path) == []
    assert mounted.log().count("which cannot be run") == 1


@pytest.mark.slow
def test_a_signal_leaves_what_others_mounted_alone(mounted: MountedStore) -> None:
    sh("mount -t tmpfs -o size=1m fusefs-test mount && touch mount/k", mounted.directory)
    try:
        with no_descriptors(mounted.pid):
            os.kill(mounted.pid, signal.SIGTERM)
            assert mounted.daemon is not None
            assert mounted.daemon.wait(30) == 0, mounted.log()
            mounted.daemon = None
        assert os.listdir(mounted.path) == ["k"]
    finally:
        sh("umount mount", mounted.directory)
    with refused(errno.ENOTCONN):
        os.listdir(mounted.path)
