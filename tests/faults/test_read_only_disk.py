"""A disk that becomes read-only under the daemon, as ext4 makes it when it finds an error in itself."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.disks import mounted_disk
from tests.support.shared_mount import listed, refused

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(
        os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="needs root and a disk in a file (loop)"
    ),
]


@pytest.fixture
def disk() -> Iterator[Path]:
    """An ext4 filesystem that an error makes read-only."""
    make = "truncate -s 64M image; mkfs.ext4 -q -F image; mount -o loop,errors=remount-ro image disk"
    with mounted_disk(make) as mounted:
        yield mounted


def break_it(disk: Path) -> None:
    source = subprocess.check_output(["findmnt", "-n", "-o", "SOURCE", str(disk)], text=True).strip()
    Path(f"/sys/fs/ext4/{Path(source).name}/trigger_fs_error").write_text("1")


def test_reads_go_on_and_writers_are_told(disk: Path, make_mount: MakeMount) -> None:
    store = make_mount(store=disk / "objects.db")
    store.expect_log("ERROR|Traceback|is late")
    directory = store.pipeline / "p"
    directory.mkdir()
    values = {"small": b"value", "large": os.urandom(4_000_000)}
    for name, value in values.items():
        (directory / name).write_bytes(value)
    os.sync()
    break_it(disk)
    for name in (*values, "new"):
        with refused(errno.EIO, errno.EROFS):
            (directory / name).write_bytes(b"refused")
    with refused(errno.EIO, errno.EROFS):
        (directory / "directory").mkdir()
    assert sorted(listed(directory)) == sorted(values)
    for name, value in values.items():
        assert (directory / name).read_bytes() == value
    assert store.daemon is not None
    assert store.daemon.poll() is None
    # Nothing can be written any more, its own farewell neither: it ends, and says that it could not.
    subprocess.run(["fusermount3", "-u", str(store.path)], check=True)
    store.daemon.wait(30)
    store.daemon = None
    repair = ["e2fsck", "-fy", str(disk.parent / "image")]
    subprocess.run(["umount", str(disk)], check=True)
    assert subprocess.run(repair, capture_output=True, check=False).returncode <= 1
    subprocess.run(["mount", "-o", "loop", str(disk.parent / "image"), str(disk)], check=True)
    store.mount()
    for name, value in values.items():
        assert (directory / name).read_bytes() == value
    (directory / "new").write_bytes(b"goes on")
    assert (directory / "new").read_bytes() == b"goes on"
