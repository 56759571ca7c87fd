"""STATFS: what df tells is true."""

import os
from pathlib import Path

import pytest

from tests.support.mounting import MountedStore
from tests.support.processes import sh

pytestmark = pytest.mark.mount


def test_free_space_is_that_of_the_disk(shared: MountedStore) -> None:
    """What is free is what the disk of the store has free."""
    disk, mount = os.statvfs(shared.directory), os.statvfs(shared.path)
    ours, theirs = mount.f_bavail * mount.f_frsize, disk.f_bavail * disk.f_frsize
    assert abs(ours - theirs) < 256 << 20
    assert mount.f_bavail <= mount.f_bfree <= mount.f_blocks


def test_what_is_used_grows(shared: MountedStore, run: Path) -> None:
    """What is put is counted as used."""
    before = _used(shared)
    (run / "k").write_bytes(os.urandom(64 << 20))
    grown = _used(shared) - before
    assert 60 << 20 <= grown <= 200 << 20


def _used(store: MountedStore) -> int:
    found = os.statvfs(store.path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def test_names(shared: MountedStore, run: Path) -> None:
    """The longest name is 255 bytes, and inodes are counted."""
    found = os.statvfs(run)
    assert found.f_namemax == 255
    assert found.f_files > 0
    assert 0 < found.f_ffree <= found.f_files
    (run / "k").touch()
    after = os.statvfs(run)
    assert after.f_files - after.f_ffree > 0


def test_df(shared: MountedStore) -> None:
    """df shows the mount."""
    assert str(shared.path) in sh("df -k . && df -i . && df --output=target .", shared.path)
