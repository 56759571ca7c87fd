"""A disk that fails under a mounted daemon: the writer is told, the old value stands, and the daemon goes on."""

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from engine import open_store
from engine.config import ObjectStoreSettings
from tests.conftest import MakeMount
from tests.support.disks import sync
from tests.support.failing_disk import FOR_EVER, FailingDisk, Kind, environment
from tests.support.invariants import check_nothing_left
from tests.support.mounting import MountedStore
from tests.support.scratch import make_directory, remove_directory
from tests.support.shared_mount import by_age, refused
from tests.support.waiting import wait_until

LARGE = os.urandom(3_500_000)


class Failing(NamedTuple):
    """A mount on a disk that fails where it is told to."""

    disk: FailingDisk
    store: MountedStore
    directory: Path


@pytest.fixture
def failing(make_mount: MakeMount) -> Iterator[Failing]:
    scratch = make_directory()
    try:
        disk_directory = scratch / "disk"
        disk_directory.mkdir()
        variables = environment(scratch, disk_directory)
        disk = FailingDisk(variables["FAILING_DISK_CONTROL"])
        store = make_mount(store=disk_directory / "objects.db", environment=variables)
        store.expect_log("ERROR")
        directory = store.pipeline / "p"
        directory.mkdir()
        (directory / "k").write_bytes(b"old")
        (directory / "large").write_bytes(LARGE)
        sync(directory)
        yield Failing(disk, store, directory)
        store.unmount()
        with open_store(ObjectStoreSettings(path=store.store)) as opened:
            check_nothing_left(opened)
        disk.close()
    finally:
        remove_directory(scratch)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_the_writer_is_told_and_the_old_value_stands(failing: Failing, error: int) -> None:
    failing.disk.fail(error, last=FOR_EVER, kinds=Kind.WRITE)
    for name, value in (("k", b"new"), ("new", b"new"), ("large", LARGE[::-1])):
        with refused(error):
            (failing.directory / name).write_bytes(value)
    assert failing.disk.failed
    assert (failing.directory / "k").read_bytes() == b"old"
    assert (failing.directory / "large").read_bytes() == LARGE
    assert sorted(os.listdir(failing.directory)) == ["k", "large"]
    failing.disk.mend()
    for name, value in (("k", b"new"), ("new", b"new"), ("large", LARGE[::-1])):
        (failing.directory / name).write_bytes(value)
        assert (failing.directory / name).read_bytes() == value


def close_and_fail(failing: Failing, name: str, value: bytes, error: int) -> None:
    """Have close() acknowledge a value, and the disk fail before RELEASE publishes it."""
    fd = os.open(failing.directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, value)
    os.close(os.dup(fd))  # FLUSH keeps it
    failing.disk.fail(error, last=FOR_EVER, kinds=Kind.WRITE)
    os.close(fd)  # nothing has changed since: FLUSH has nothing to do


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [("k", b"new", errno.ENOSPC), ("new", b"new", errno.EIO), ("large", LARGE[::-1], errno.EIO)],
    ids=["small", "new", "large"],
)
def test_what_close_has_acknowledged_is_published_when_the_fault_goes(
    failing: Failing, name: str, value: bytes, error: int
) -> None:
    """Without another mount, and without another Put."""
    close_and_fail(failing, name, value, error)
    wait_until(lambda: "published later" in failing.store.log() or "published again" in failing.store.log())
    failing.disk.mend()
    wait_until(lambda: (failing.directory / name).exists() and (failing.directory / name).read_bytes() == value)


def test_a_later_put_is_not_overtaken(failing: Failing) -> None:
    """What waits to be published is older than what is closed now: the last to close wins."""
    for number in range(5):
        close_and_fail(failing, "k", b"earlier", errno.EIO)
        failing.disk.mend()
        (failing.directory / "k").write_bytes(b"later %d" % number)
        assert (failing.directory / "k").read_bytes() == b"later %d" % number
    failing.store.remount()
    assert (failing.directory / "k").read_bytes() == b"later 4"


def test_what_waits_survives_the_daemon(failing: Failing) -> None:
    close_and_fail(failing, "large", LARGE[::-1], errno.EIO)
    wait_until(lambda: "published later" in failing.store.log())
    failing.store.kill()
    failing.disk.mend()
    failing.store.remount()
    assert (failing.directory / "large").read_bytes() == LARGE[::-1]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_what_was_refused_after_a_close_does_not_come_true_later(failing: Failing, error: int) -> None:
    """One descriptor was closed, and the store has kept what it could: a half of what the writer wanted."""
    fd = os.open(failing.directory / "k", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, LARGE[:100_000])
    os.close(os.dup(fd))
    failing.disk.fail(error, last=FOR_EVER, kinds=Kind.WRITE)
    with refused(error):
        os.write(fd, LARGE[100_000:])
    with refused(error):
        os.close(fd)
    wait_until(lambda: "could not be deleted yet" in failing.store.log())
    failing.disk.mend()
    (failing.directory / "other").write_bytes(b"works again")
    assert (failing.directory / "k").read_bytes() == b"old"
    failing.store.remount()
    assert (failing.directory / "k").read_bytes() == b"old"


def test_fsync_says_so_when_the_disk_cannot_sync(failing: Failing) -> None:
    with (failing.directory / "k").open("wb", buffering=0) as file:
        file.write(b"new")
        failing.disk.fail(errno.EIO, last=FOR_EVER, kinds=Kind.SYNC)
        with refused(errno.EIO):
            os.fsync(file.fileno())
        failing.disk.mend()
        os.fsync(file.fileno())
    assert (failing.directory / "k").read_bytes() == b"new"


def test_the_clock_goes_back(failing: Failing) -> None:
    """The order of Puts is kept, and with it who is evicted first."""
    failing.store.cli("pipeline", "set-limit", "p", "4", exit_code=0)
    for number, hours in enumerate((0, -3, -1, -5)):
        failing.disk.move_clock(hours * 3600)
        (failing.directory / f"after {number}").write_bytes(b"%d" % number)
    assert by_age(failing.directory) == [f"after {number}" for number in range(4)]
    (failing.directory / "one more").write_bytes(b"")
    assert by_age(failing.directory) == ["after 1", "after 2", "after 3", "one more"]
    failing.disk.move_clock(0)


def descriptors(store: MountedStore) -> int:
    return len(os.listdir(f"/proc/{store.pid}/fd"))


def test_no_descriptors_are_left(failing: Failing) -> None:
    """Who opens files of the mount needs none of the daemon's; what needs one fails, and works again afterwards."""
    before = resource.prlimit(failing.store.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(failing.store.pid, resource.RLIMIT_NOFILE, (descriptors(failing.store), before[1]))
    opened = [os.open(failing.directory / "k", os.O_RDONLY) for _ in range(500)]
    assert {os.pread(fd, 10, 0) for fd in opened} == {b"old"}
    for number in range(20):
        (failing.directory / f"k{number}").write_bytes(b"value")
        assert (failing.directory / f"k{number}").read_bytes() == b"value"
    for fd in opened:
        os.close(fd)
    resource.prlimit(failing.store.pid, resource.RLIMIT_NOFILE, before)
    (failing.directory / "k").write_bytes(b"new")
    (failing.directory / "large").write_bytes(LARGE[::-1])
    assert (failing.directory / "large").read_bytes() == LARGE[::-1]


def test_no_memory_is_left(failing: Failing) -> None:
    """What the daemon has no memory for is refused; where it cannot even take the request, the mount is left dead."""
    failing.store.expect_log("Traceback")
    status = Path(f"/proc/{failing.store.pid}/statm").read_text()
    size = int(status.split()[0]) * resource.getpagesize()
    before = resource.prlimit(failing.store.pid, resource.RLIMIT_AS)
    resource.prlimit(failing.store.pid, resource.RLIMIT_AS, (size + 1_000_000, before[1]))
    with refused(errno.EIO, errno.ENOMEM, errno.ENOTCONN, errno.ECONNABORTED):
        (failing.directory / "large").write_bytes(LARGE[::-1] * 10)
    try:
        resource.prlimit(failing.store.pid, resource.RLIMIT_AS, before)
        assert (failing.directory / "large").read_bytes() == LARGE
    except (OSError, ProcessLookupError):
        with refused(errno.ENOTCONN):
            os.listdir(failing.store.path)
        failing.store.kill()
        failing.store.mount()
    assert (failing.directory / "large").read_bytes() == LARGE
    assert (failing.directory / "k").read_bytes() == b"old"
    (failing.directory / "large").write_bytes(LARGE[::-1])
    assert (failing.directory / "large").read_bytes() == LARGE[::-1]
