"""A power cut: what had reached the disk is there, and nothing is damaged."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.disks import mounted_disk
from tests.support.mounting import MountedStore

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(
        os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="needs root and a disk in a file (loop)"
    ),
]


@pytest.fixture
def disk() -> Iterator[Path]:
    """An ext4 filesystem in a file: what the file holds is what had reached the disk."""
    with mounted_disk("truncate -s 64M image; mkfs.ext4 -q -F image; mount -o loop image disk") as mounted:
        yield mounted


def after_a_power_cut(disk: Path, store: MountedStore) -> dict[str, bytes]:
    """What a store on the disk would hold if the power were cut now."""
    # Without a sync: what is only in memory is lost.
    with mounted_disk(f"cp {disk.parent / 'image'} image; mount -o loop image disk") as copy:
        there = f"--store={copy / store.store_path.name}"
        keys = store.cli("pipeline", "object", "list", "p", there, exit_code=0).stdout.decode().split()
        return {key: store.cli("pipeline", "object", "get", "p", key, there, exit_code=0).stdout for key in keys}


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


def test_large_values_are_whole_after_a_power_cut(disk: Path, make_mount: MakeMount) -> None:
    """Each key has a value that it once had, and none from before its last fsync, although space was used again."""
    store = make_mount(store=disk / "objects.db", pipeline_object_limit=0)
    directory = store.pipeline / "p"
    directory.mkdir()
    possible: dict[str, list[bytes]] = {"a": [], "b": []}
    for number in range(8):
        for name in possible:
            value = os.urandom(4_500_000)
            with (directory / name).open("wb") as file:
                file.write(value)
                if number % 3 == 0:
                    file.flush()
                    os.fsync(file)
            possible[name] = [value] if number % 3 == 0 else [*possible[name], value]
        found = after_a_power_cut(disk, store)
        assert {name: found.get(name) in values for name, values in possible.items()} == dict.fromkeys(possible, True)
        time.sleep(0.4)  # what was replaced is deleted, and its place used again


def test_with_full_durability_a_closed_file_survives(disk: Path, make_mount: MakeMount) -> None:
    """Every way to put, of every size: with the setting nothing needs an fsync."""
    store = make_mount(store=disk / "objects.db", pipeline_object_limit=0, durability="full")
    directory = store.pipeline / "p"
    directory.mkdir()
    values: dict[str, bytes] = {}
    for number, size in enumerate((0, 10, 70_000, 4_500_000)):
        values[f"k{number}"] = os.urandom(size)
        (directory / f"k{number}").write_bytes(values[f"k{number}"])
        assert after_a_power_cut(disk, store) == values
    for name, more in (("k1", b"appended"), ("new", b"first")):
        with (directory / name).open("ab") as file:
            file.write(more)
        values[name] = values.get(name, b"") + more
        assert after_a_power_cut(disk, store) == values
    values["k1"] = b"overwritten"
    (directory / "k1").write_bytes(values["k1"])
    assert after_a_power_cut(disk, store) == values
    store.cli("pipeline", "object", "put", "p", "by-the-command=1", exit_code=0)
    assert after_a_power_cut(disk, store) == values | {"by-the-command": b"1"}
