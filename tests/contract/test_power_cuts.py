"""A power cut: what had reached the disk is there, and nothing is damaged."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import sh
from tests.support.scratch import make_directory, remove_directory

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(
        os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="needs root and a disk in a file (loop)"
    ),
]


@pytest.fixture
def disk() -> Iterator[Path]:
    """An ext4 filesystem in a file: what the file holds is what had reached the disk."""
    scratch = make_directory()
    (scratch / "disk").mkdir()
    sh("truncate -s 64M image; mkfs.ext4 -q -F image; mount -o loop image disk", scratch)
    try:
        yield scratch / "disk"
    finally:
        subprocess.run(["umount", "-l", str(scratch / "disk")], check=True, timeout=30)
        remove_directory(scratch)


def after_a_power_cut(disk: Path, store: MountedStore) -> dict[str, bytes]:
    """What a store on the disk would hold if the power were cut now."""
    copies = make_directory()
    (copies / "disk").mkdir()
    # Without a sync: what is only in memory is lost.
    sh(f"cp {disk.parent / 'image'} image; mount -o loop image disk", copies)
    there = f"--store={copies / 'disk' / store.store_path.name}"
    try:
        keys = store.cli("pipeline", "object", "list", "p", there, exit_code=0).stdout.decode().split()
        return {key: store.cli("pipeline", "object", "get", "p", key, there, exit_code=0).stdout for key in keys}
    finally:
        subprocess.run(["umount", "-l", str(copies / "disk")], check=True, timeout=30)
        remove_directory(copies)


def test_what_survives_a_power_cut(disk: Path, make_mount: MakeMount) -> None:
    """After fsync of a file or its directory the value does; what was only closed may be lost, and nothing else is."""
    store = make_mount(store=disk / "objects.db", pipeline_object_limit=0)
    directory = store.pipeline / "p"
    directory.mkdir()
    values = {f"k{number}": os.urandom(size) for number, size in enumerate((10, 70_000, 1_500_000))}
    for name, value in values.items():
        with (directory / name).open("wb") as file:
            file.write(value)
            file.flush()
            os.fsync(file)
        assert after_a_power_cut(disk, store)[name] == value
    for name in values:
        (directory / name).write_bytes(b"closed only")
    found = after_a_power_cut(disk, store)
    assert {name: value in (values[name], b"closed only") for name, value in found.items()} == dict.fromkeys(
        values, True
    )
    fd = os.open(directory, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    assert after_a_power_cut(disk, store) == dict.fromkeys(values, b"closed only")
