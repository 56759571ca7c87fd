"""`fusefs mount --leave-dead`: jobs go on while the daemon is replaced, and are never shown an empty directory."""

import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import Other, end, start_python
from tests.support.scratch import MOUNTS_BENEATH, mount_at
from tests.support.shared_mount import refused

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory immutable"),
]


@pytest.fixture
def store(make_mount: MakeMount) -> MountedStore:
    store = make_mount(options=["--leave-dead"])
    (store.pipeline / "p").mkdir()
    return store


@pytest.fixture
def writer() -> Iterator[Other]:
    with Other() as process:
        yield process


def leave(store: MountedStore) -> float:
    """Stop the daemon as a service manager does. Returns how long that took."""
    began = time.monotonic()
    os.kill(store.pid, signal.SIGTERM)
    assert store.daemon is not None
    assert store.daemon.wait(20) == 0
    store.daemon = None
    return time.monotonic() - began


def test_it_is_dead_and_not_empty(store: MountedStore) -> None:
    (store.pipeline / "p" / "k").write_text("v")
    assert leave(store) < 3
    for use in (os.listdir, os.statvfs, lambda path: (path / "pipeline" / "p" / "k").write_text("x")):
        with refused(errno.ENOTCONN):
            use(store.path)
    store.mount()
    assert (store.pipeline / "p" / "k").read_text() == "v"


def test_what_is_closed_before_the_end_is_kept(store: MountedStore, writer: Other) -> None:
    """Writers get a few seconds."""
    path = store.pipeline / "p" / "k"
    writer("k = open(path, 'w'); k.write('v'); k.flush()", path=path)
    os.kill(store.pid, signal.SIGTERM)
    time.sleep(0.5)
    writer("k.close()")
    assert store.daemon is not None
    assert store.daemon.wait(5) == 0
    store.daemon = None
    store.mount()
    assert path.read_text() == "v"


@pytest.mark.slow
def test_a_writer_that_goes_on_is_not_waited_for_long(store: MountedStore, writer: Other) -> None:
    path = store.pipeline / "p" / "k"
    path.write_text("old")
    writer("k = open(path, 'w'); k.write('v'); k.flush()", path=path)
    assert leave(store) < 8
    with refused(errno.ENOTCONN):
        writer("os.close(k.fileno())")
    store.mount()
    assert path.read_text() == "old"


JOB = """
import errno, os, sys, time
top, seconds = sys.argv[1], float(sys.argv[2])
number, answers, until = 0, {}, time.monotonic() + seconds
while time.monotonic() < until:
    number += 1
    for what, use in (
        ("write", lambda: open(f"{top}/pipeline/p/k{number % 40}", "w").close()),
        ("make", lambda: open(f"{top}/here", "w").close()),
        ("list", lambda: sorted(os.listdir(top)) == ["pipeline", "run"] or print("empty")),
    ):
        try:
            use()
            answer = "success"
        except OSError as error:
            answer = errno.errorcode[error.errno]
        answers.setdefault(what, {}).setdefault(answer, 0)
        answers[what][answer] += 1
print(answers)
"""


@pytest.mark.slow
def test_a_job_that_goes_on_while_daemons_are_replaced(store: MountedStore) -> None:
    """No write of it ever lands in the directory below, by name or by path, also in the moment between two mounts."""
    job = start_python(JOB, store.path, 8)
    for number in range(4):
        time.sleep(0.5)
        if number % 2:
            store.kill()
        else:
            leave(store)
        time.sleep(0.3)
        store.mount()
    (output,) = end([job])
    *empty, answers = output.splitlines()
    found = eval(answers)
    print(len(empty), "times empty,", found)
    assert not empty or not MOUNTS_BENEATH
    assert set(found["write"]) <= {"success", "ENOTCONN", "ECONNABORTED", "ENOENT"}
    assert found["write"]["success"] > 100
    assert found["write"]["ENOTCONN"] > 100
    assert set(found["make"]) <= {"EPERM", "ENOTCONN", "ECONNABORTED"}
    store.unmount()
    assert os.listdir(store.path) == []
    assert mount_at(store.path) is None


def test_without_it_the_directory_is_unmounted(mounted: MountedStore) -> None:
    mounted.terminate()
    assert os.listdir(mounted.path) == []


def test_umount_gives_the_directory_back(store: MountedStore) -> None:
    leave(store)
    store.cli("umount", str(store.path), exit_code=0)
    (store.path / "mine").touch()
    (store.path / "mine").unlink()


def test_as_a_mount_option(make_mount: MakeMount, tmp_path: Path) -> None:
    store = make_mount(options=["-o", "leave_dead"])
    leave(store)
    with refused(errno.ENOTCONN):
        os.listdir(store.path)
