"""Syncing, and filesystems of their own for a while: small ones that get full, or with a file for a disk.

Only root can mount.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import sh
from tests.support.scratch import make_directory, remove_directory


def sync(directory: Path) -> None:
    """Return once everything that was done in a directory survives a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def small_disk(mebibytes: int) -> Iterator[Path]:
    """A tmpfs of that size."""
    with mounted_disk(f"mount -t tmpfs -o mode=700,size={mebibytes}m fusefs-test disk") as disk:
        yield disk


@contextmanager
def mounted_disk(commands: str) -> Iterator[Path]:
    """What these shell commands mount on `disk`, in a new directory where they may leave other files."""
    scratch = make_directory()
    disk = scratch / "disk"
    disk.mkdir()
    sh(commands, scratch)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True, timeout=30)
        remove_directory(scratch)
