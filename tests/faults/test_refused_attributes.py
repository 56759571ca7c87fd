"""What is refused while somebody writes is not done at the close either."""

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.disks import sync
from tests.support.processes import Other
from tests.support.shared_mount import refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

CHANGES = {
    "chmod": "os.fchmod(k, 0o666)",
    "chown": "os.fchown(k, 1001, 1002)",
    "utime": "os.utime(k, (5, 5))",
    "setxattr": "os.setxattr(k, 'user.b', b'new')",
    "removexattr": "os.removexattr(k, 'user.a')",
}


def about(path: Path) -> tuple[object, ...]:
    info = path.stat()
    times = info.st_atime == 5, info.st_mtime == 5
    return stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, *times, os.listxattr(path)


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDWR | os.O_TRUNC], ids=["edited", "overwritten"])
def test_attributes_of_what_is_written(make_mount: MakeMount, flags: int) -> None:
    store = make_mount()
    store.expect_log("was deleted or replaced|EIO|refused")
    directory = store.pipeline / "p"
    directory.mkdir()
    with Other() as writer:
        for name in CHANGES:
            (directory / name).write_text("old")
            (directory / name).chmod(0o600)
            os.setxattr(directory / name, "user.a", b"x")
            writer(f"{name} = os.open(path, flags); os.write({name}, b'new')", path=directory / name, flags=flags)
        sync(directory)
        (lock,) = store.store_path.parent.glob("objects.db-lock")
        lock.rename(lock.with_suffix(".away"))
        wait_until(lambda: "was deleted or replaced" in store.log())
        for name, change in CHANGES.items():
            with refused(errno.EIO):
                writer(change.replace("(k", f"({name}"))
        lock.with_suffix(".away").rename(lock)
        wait_until(lambda: "is back" in store.log())
        for name in CHANGES:
            before = about(directory / name)
            writer(f"os.close({name})")
            assert (directory / name).read_text() == "new"
            assert about(directory / name) == before == (0o600, 0, 0, False, False, ["user.a"])
