"""FSYNC and FSYNCDIR."""

import os
from pathlib import Path

import pytest

from tests.support.mounting import MountedStore
from tests.support.processes import sh

pytestmark = pytest.mark.mount


def test_of_a_reader(pipeline: Path) -> None:
    """fsync through a descriptor for reading succeeds, and publishes nothing."""
    (pipeline / "k").write_text("x")
    before = (pipeline / "k").stat().st_ino
    fd = os.open(pipeline / "k", os.O_RDONLY)
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    assert (pipeline / "k").stat().st_ino == before


def test_of_a_directory(shared: MountedStore, pipeline: Path) -> None:
    """fsync of a directory succeeds, wherever it is."""
    (pipeline / "d").mkdir()
    for path in (pipeline / "d", pipeline, shared.pipeline, shared.path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.fdatasync(fd)
        os.close(fd)


def test_of_what_changed_nothing(pipeline: Path) -> None:
    """fsync of an edit that wrote nothing publishes nothing; of a new key it publishes the empty value."""
    (pipeline / "k").write_text("x")
    before = (pipeline / "k").stat().st_ino
    fd = os.open(pipeline / "k", os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    assert (pipeline / "k").stat().st_ino == before
    fd = os.open(pipeline / "new", os.O_WRONLY | os.O_CREAT)
    os.fsync(fd)
    assert sh("stat -c %s new", pipeline) == "0\n"
    os.close(fd)


def test_again_and_again(pipeline: Path) -> None:
    """A log that is synced after every line is there after every line."""
    fd = os.open(pipeline / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    expected = ""
    for number in range(20):
        line = f"line {number}\n"
        os.write(fd, line.encode())
        os.fsync(fd)
        expected += line
        assert (pipeline / "log").read_text() == expected
    os.close(fd)
    assert (pipeline / "log").read_text() == expected


@pytest.mark.parametrize("size", [100, 65_537, 2_000_000])
def test_of_a_large_value_in_parts(pipeline: Path, size: int) -> None:
    """What is synced is whole up to there, whatever its size."""
    part = os.urandom(size)
    with open(pipeline / "k", "wb", buffering=0) as file:
        for number in range(1, 4):
            file.write(part)
            os.fsync(file)
            assert (pipeline / "k").read_bytes() == part * number


def test_sync_of_the_whole_mount(pipeline: Path) -> None:
    """sync -f, O_SYNC and O_DSYNC work."""
    fd = os.open(pipeline / "k", os.O_WRONLY | os.O_CREAT | os.O_SYNC)
    os.write(fd, b"one")
    os.close(fd)
    sh("sync -f k; sync k; dd if=/dev/zero of=d bs=1k count=3 oflag=dsync conv=fsync status=none", pipeline)
    assert ((pipeline / "k").read_bytes(), (pipeline / "d").read_bytes()) == (b"one", bytes(3072))
