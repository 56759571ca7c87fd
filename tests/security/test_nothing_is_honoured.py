"""Set-user-ID, set-group-ID and devices in a mount: the bits are kept and shown, and nobody gains anything by them."""

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from tests.posix.twins import ALICE, User
from tests.support.mounting import MountedStore
from tests.support.shared_mount import refused

pytestmark = pytest.mark.mount
SETTINGS = {"options": ["--allow-other"]}


def ids(program: Path, users: dict[str, User]) -> object:
    """The effective user and group that a program of root's runs with when Alice starts it."""
    code = "[int(subprocess.check_output([path, what])) for what in ('-u', '-g')]"
    return users["alice"](code, path=str(program))


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755])
def test_a_program_that_is_set_user_id(run: Path, local: Path, users: dict[str, User], mode: int) -> None:
    for directory in (run, local):
        program = directory / "id"
        shutil.copy("/usr/bin/id", program)
        os.chown(program, 0, 0)
        program.chmod(mode)
        assert stat.S_IMODE(program.stat().st_mode) == mode
    # Where such bits count, they make the difference: the test can tell.
    assert ids(local / "id", users) == [0 if mode & stat.S_ISUID else ALICE[0], 0 if mode & stat.S_ISGID else ALICE[1]]
    run.chmod(0o755)
    assert ids(run / "id", users) == list(ALICE[:2])


def test_file_capabilities(run: Path) -> None:
    shutil.copy("/usr/bin/id", run / "id")
    vfs_cap_net_raw = bytes.fromhex("0100000200200000000000000000000000000000")
    with refused(errno.ENOTSUP):
        os.setxattr(run / "id", "security.capability", vfs_cap_net_raw)


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_no_device_can_be_made(run: Path, kind: int) -> None:
    """Not by root either: one of /dev/null's numbers, which local filesystems make."""
    with refused(errno.EPERM):
        os.mknod(run / "device", kind | 0o666, os.makedev(1, 3))
    assert os.listdir(run) == []


def flags(path: Path) -> int:
    return os.statvfs(path).f_flag & (os.ST_NOSUID | os.ST_NODEV)


BOTH = os.ST_NOSUID | os.ST_NODEV


def test_the_mount_is_made_so(shared: MountedStore, run: Path) -> None:
    assert flags(shared.path) == flags(run) == BOTH


def test_a_mount_that_took_the_place_of_a_dead_one_too(mounted: MountedStore) -> None:
    mounted.kill()
    mounted.remount()
    assert flags(mounted.path) == BOTH
