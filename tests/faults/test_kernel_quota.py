"""A quota of the kernel's on the store's files: no call tells how much of it is left."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.disks import mounted_disk
from tests.support.processes import sh
from tests.support.shared_mount import listed, refused
from tests.support.waiting import wait_until


def has_btrfs() -> bool:
    with suppress(FileNotFoundError):  # where it is a part of the kernel it is no module
        subprocess.run(["modprobe", "-q", "btrfs"], check=False)
    return "\tbtrfs\n" in Path("/proc/filesystems").read_text()


pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(
        os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="needs root and a disk in a file (loop)"
    ),
    pytest.mark.skipif(os.geteuid() == 0 and not has_btrfs(), reason="needs a kernel with btrfs"),
]

DIED = (errno.ENOTCONN, errno.ECONNABORTED)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A btrfs filesystem of 256 MiB, of which the store may have 24."""
    make = "truncate -s 256M image; mkfs.btrfs -q image; mount -o loop image disk; btrfs quota enable disk"
    with mounted_disk(f"{make}; btrfs qgroup limit 24M disk") as mounted:
        yield mounted


def put(path: Path, value: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(value)
        os.fsync(file.fileno())


@pytest.mark.parametrize("size", [1_000, 60_000, 3_000_000])
def test_a_quota_is_used_up(disk: Path, make_mount: MakeMount, size: int) -> None:
    """The writer is told, what was there stands, and everything goes on once there is more of it.

    btrfs asks for more also where a page of shared memory that is written again has its place on the disk, and kills
    (SIGBUS) who has mapped it: SQLite has. Then it is another daemon that goes on.
    """
    store = make_mount(store=disk / "objects.db", pipeline_object_limit=0)
    store.expect_log("ERROR|is late|Traceback|the mount cannot go on")
    directory = store.pipeline / "p"
    directory.mkdir()
    values = {"old": os.urandom(size)}
    put(directory / "old", values["old"])
    with refused(errno.ENOSPC, errno.EDQUOT, *DIED):
        for number in range(30_000_000 // size + 10):
            value = os.urandom(size)
            put(directory / f"k{number}", value)
            values[f"k{number}"] = value
    assert len(values) > 3
    with refused(errno.ENOSPC, errno.EDQUOT, *DIED):
        put(directory / "old", os.urandom(25_000_000))
    assert store.daemon is not None
    if lives := store.daemon.poll() is None:
        check(directory, values)
    else:
        assert store.daemon.returncode == -signal.SIGBUS
        store.daemon = None
        with refused(*DIED):
            os.listdir(store.path)
    sh("sync -f .; btrfs qgroup limit 64M .", disk)  # what is under way has its place first, or even this is refused
    if not lives:
        store.mount()
    wait_until(lambda: try_to_put(directory / "new", b"new"))
    values["new"] = b"new"
    check(directory, values)
    store.remount()
    check(directory, values)


def check(directory: Path, values: dict[str, bytes]) -> None:
    assert set(listed(directory)) >= values.keys()
    for name, value in values.items():
        assert (directory / name).read_bytes() == value


def try_to_put(path: Path, value: bytes) -> bool:
    try:
        put(path, value)
    except OSError:
        return False
    return True
