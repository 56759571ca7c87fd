"""A full disk whose blocks are smaller than a page of memory."""

import os
from pathlib import Path

import pytest

from engine import open_store
from engine.config import ObjectStoreSettings
from tests.support.disks import mounted_disk
from tests.support.stores import start_process

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="needs root and a disk in a file (loop)"
)
OPEN = """
from engine.errors import OutOfSpaceError
try:
    open_store(ObjectStoreSettings(path=sys.argv[1])).close()
except OutOfSpaceError:
    print("full")
"""


def test_nobody_dies_of_a_full_disk() -> None:
    """SQLite writes a byte in each page of the file that it maps, and there is a block for that and no other."""
    with mounted_disk("truncate -s 16M image; mkfs.ext4 -q -b 1024 -F image; mount -o loop image disk") as disk:
        path = disk / "objects.db"
        open_store(ObjectStoreSettings(path=str(path))).close()
        said = [open_with(path, left * 1024) for left in (0, 8, 20, 40, 400)]
    assert said[0] == "full\n"
    assert said[-1] == ""


def open_with(path: Path, left: int) -> str:
    """Open a store with so much free on its disk, in a process of its own."""
    with (path.parent / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(1024))
        except OSError:
            filler.truncate(filler.tell() - left)
        os.fsync(filler)
    with start_process(OPEN, str(path)) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (left, process.returncode, err)
    return out
