"""A daemon whose event loop does not turn: its mount is dead in time. One that was stopped only makes others wait."""

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support import gated
from tests.support.disks import mounted_disk
from tests.support.gated import Gated, gated_mount
from tests.support.mounting import MountedStore
from tests.support.processes import Other, sh
from tests.support.shared_mount import refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

SECONDS = 1.0
LATE = 5 * SECONDS
DIED = (errno.ENOTCONN, errno.ECONNABORTED)
PUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Gated]:
    with gated_mount(tmp_path, request_timeout=SECONDS) as mounted:
        yield mounted


def check_dead(store: MountedStore) -> None:
    with refused(errno.ENOTCONN):
        os.listdir(store.path)
    with refused(*DIED):
        os.statvfs(store.path)


def check_ended(store: MountedStore, code: int) -> None:
    assert store.daemon is not None
    assert store.daemon.wait(20) == code
    store.daemon = None


def hang(mount: Gated) -> None:
    mount.store.expect_log("the mount cannot go on|Traceback|ERROR")
    mount.shut(gated.SPACE)
    begun = time.monotonic()
    with refused(errno.ECONNABORTED):
        os.statvfs(mount.store.path)
    assert SECONDS * 0.8 < time.monotonic() - begun < LATE
    check_dead(mount.store)


def test_it_hangs_for_ever(mount: Gated) -> None:
    """It goes, although nothing would have ended it, and the log says where it hung."""
    (mount.directory / "k").write_bytes(b"v")
    hang(mount)
    check_ended(mount.store, -signal.SIGKILL)
    assert "in shut" in mount.store.log() or "in wrapper" in mount.store.log()
    mount.open()
    mount.store.mount()
    assert (mount.directory / "k").read_bytes() == b"v"


def test_it_comes_back_too_late(mount: Gated) -> None:
    """It ends with an error, and its mount stays dead."""
    hang(mount)
    mount.open()
    check_ended(mount.store, 1)
    assert "the event loop did not turn for 1 seconds" in mount.store.log()
    check_dead(mount.store)
    mount.store.mount()


@pytest.fixture
def disk() -> Iterator[Path]:
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("only root can freeze a disk, and it is one in a file (loop)")
    with mounted_disk("truncate -s 64M image; mkfs.ext4 -q -F image; mount -o loop image disk") as mounted:
        yield mounted


def test_a_disk_that_does_not_answer(disk: Path, make_mount: MakeMount) -> None:
    """Whoever needs it is told in time; the daemon goes when the disk is back, and all that was closed is there."""
    store = make_mount(store=disk / "objects.db", request_timeout=SECONDS)
    store.expect_log("the mount cannot go on|Traceback|ERROR")
    (store.pipeline / "p").mkdir()
    for number in range(20):
        (store.pipeline / f"p/k{number}").write_bytes(b"%d" % number)
    subprocess.run(["fsfreeze", "-f", str(disk)], check=True)
    try:
        begun = time.monotonic()
        with Other() as writer, Other() as reader:
            code = "fd = os.open(path, os.O_WRONLY | os.O_CREAT); os.write(fd, b'new'); os.close(fd)"
            writer.begin(code, path=str(store.pipeline / "p/new"))
            with refused(*DIED):
                writer.answer(LATE)
            reader.begin("os.listdir(path)", path=str(store.pipeline))
            with refused(*DIED):
                reader.answer(LATE)
        assert time.monotonic() - begun < LATE
        check_dead(store)
    finally:
        subprocess.run(["fsfreeze", "-u", str(disk)], check=True)
    check_ended(store, 1)
    store.mount()
    found = {path.name: path.read_bytes() for path in (store.pipeline / "p").iterdir()}
    # Its close failed with the mount, when what it had to write was on its way: it is there whole, or not at all.
    assert found.pop("new", b"new") == b"new"
    assert found == {f"k{number}": b"%d" % number for number in range(20)}


def test_it_is_stopped_in_the_middle_of_everything(mount: Gated) -> None:
    """SIGSTOP for longer than a request may take: its clients wait, and go on as if nothing had been."""
    value = os.urandom(200_000)
    (mount.directory / "large").write_bytes(value)
    mount.store.remount()
    fd = os.open(mount.directory / "k", PUT)
    os.write(fd, b"one ")
    with Other(pass_fds=[fd]) as writer, Other() as reader:
        mount.shut(gated.READ)
        reader.begin("open(path, 'rb').read()", path=str(mount.directory / "large"))
        wait_until(lambda: waits_for_an_answer(reader.pid))
        os.kill(mount.store.pid, signal.SIGSTOP)
        try:
            writer.begin("os.write(fd, b'two')", fd=fd)
            assert not reader.answered(2.5 * SECONDS)
            assert not writer.answered(0)
        finally:
            mount.open()
            os.kill(mount.store.pid, signal.SIGCONT)
        assert writer.answer() == 3
        assert reader.answer() == value
    os.close(fd)
    assert (mount.directory / "k").read_bytes() == b"one two"


def waits_for_an_answer(pid: int) -> bool:
    return Path(f"/proc/{pid}/wchan").read_text() in ("request_wait_answer", "folio_wait_bit_common")


def test_it_is_stopped_and_killed(mounted: MountedStore) -> None:
    """Who waits for it is told at once."""
    with Other() as reader:
        os.kill(mounted.pid, signal.SIGSTOP)
        reader.begin("os.statvfs(path)", path=str(mounted.path))
        wait_until(lambda: waits_for_an_answer(reader.pid))
        mounted.kill()
        with refused(*DIED):
            reader.answer(LATE)


def test_busy_is_not_hanging(make_mount: MakeMount) -> None:
    """Work for many times as long as a request may take, with everything that a daemon does at once."""
    store = make_mount(request_timeout=SECONDS, pipeline_object_limit=20)
    (store.pipeline / "p").mkdir()
    sh("for i in $(seq 300); do echo $i > k$((i % 40)); cat k$((i % 40)) > /dev/null; done", store.pipeline / "p")
    sh("for i in 1 2 3; do head -c 20000000 /dev/zero > large$i; cat large$i | wc -c; done", store.pipeline / "p")
    assert len(os.listdir(store.pipeline / "p")) == 20
