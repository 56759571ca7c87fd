"""Far offsets and holes: fast, and without memory or space for what is not there."""

import mmap
import os
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.posix.twins import Twins, outcome
from tests.support.mounting import MountedStore

pytestmark = pytest.mark.mount

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
RESIDENT_MAX_BYTES = 200 * MIB
FAR = (4 * GIB - 3, 4 * GIB + 65_535, 100 * GIB + 1, TIB)


def _resident(store: MountedStore) -> int:
    lines = Path(f"/proc/{store.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _stored(store: MountedStore) -> int:
    return sum(path.stat().st_size for path in store.directory.glob("objects.db*"))


@pytest.fixture
def store(make_mount: MakeMount) -> MountedStore:
    """A mount of its own, to see what a test costs it."""
    found = make_mount()
    (found.run / "1").mkdir()
    return found


def test_vectors_at_far_offsets(store: MountedStore) -> None:
    """pwritev and preadv beyond 4 GiB, through the writer and then through a reader, with holes between."""
    path = store.run / "1/k"

    def check(fd: int) -> None:
        for offset in FAR:
            before, found, behind = bytearray(5), bytearray(6), bytearray(9)
            assert os.preadv(fd, [before, found, behind], offset - 5) == (20 if offset != TIB else 11)
            assert (bytes(before), bytes(found), bytes(behind)) == (bytes(5), b"onetwo", bytes(9))
        assert os.pread(fd, 100_000, 50 * GIB) == bytes(100_000)
        assert os.lseek(fd, 0, os.SEEK_END) == os.fstat(fd).st_size == TIB + 6

    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    for offset in reversed(FAR):
        assert os.pwritev(fd, [b"one", b"two"], offset) == 6
    check(fd)
    os.close(fd)
    fd = os.open(path, os.O_RDONLY)
    check(fd)
    os.close(fd)
    assert path.stat().st_size == TIB + 6
    assert _stored(store) < 20 * MIB
    assert _resident(store) < RESIDENT_MAX_BYTES


def test_an_edit_far_away(store: MountedStore) -> None:
    """A few bytes in a value of a terabyte are changed, cut off and added without touching the rest."""
    path = store.run / "1/k"
    path.write_bytes(b"start")
    os.truncate(path, TIB)
    with path.open("r+b", buffering=0) as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"close")
        assert os.pread(file.fileno(), 10, 0) == b"start" + bytes(5)
    with path.open("ab", buffering=0) as file:
        file.write(b"more")
    fd = os.open(path, os.O_RDONLY)
    assert os.pread(fd, 100, TIB - 7) == b"\0\0closemore"
    os.close(fd)
    os.truncate(path, 5 * GIB)
    os.truncate(path, 3)
    assert path.read_bytes() == b"sta"
    assert _stored(store) < 20 * MIB
    assert _resident(store) < RESIDENT_MAX_BYTES


def test_a_mapping_far_away(store: MountedStore) -> None:
    """A page behind 4 GiB can be mapped."""
    path = store.run / "1/k"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.pwrite(fd, b"far", 6 * GIB + 4096)
    os.close(fd)
    fd = os.open(path, os.O_RDONLY)
    with mmap.mmap(fd, 4099, mmap.MAP_SHARED, mmap.PROT_READ, offset=6 * GIB) as mapped:
        assert mapped[:] == bytes(4096) + b"far"
    os.close(fd)
    assert _resident(store) < RESIDENT_MAX_BYTES


def test_one_piece_of_data(run: Path) -> None:
    """SEEK_HOLE and SEEK_DATA: every object is one piece of data, its holes too, for readers and for writers."""
    path = run / "k"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"far", 5 * GIB)
    size = 5 * GIB + 3
    for flags in (None, os.O_RDONLY, os.O_RDWR):
        if flags is not None:
            fd = os.open(path, flags)
        for offset in (0, 1, GIB, 5 * GIB, size - 1):
            assert os.lseek(fd, offset, os.SEEK_DATA) == offset
            assert os.lseek(fd, offset, os.SEEK_HOLE) == size
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            assert [outcome(os.lseek, fd, offset, whence) for offset in (size, size + 1, -1)] == ["ENXIO"] * 3
        os.close(fd)


def test_seek_data_and_hole_of_dense_values(twins: Twins) -> None:
    """Where a value has no holes they say what they say on a local filesystem, with an empty value too."""

    def steps(directory: Path) -> list[object]:
        found: list[object] = []
        for size in (0, 1, 200_000):
            (directory / "k").write_bytes(b"x" * size)
            with (directory / "k").open("rb") as file:
                for offset in (0, 1, size - 1, size, size + 1):
                    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                        found.append(outcome(os.lseek, file.fileno(), offset, whence))
                        found.append(os.lseek(file.fileno(), 0, os.SEEK_CUR))
                        os.lseek(file.fileno(), 0, os.SEEK_SET)
        return found

    found = twins.same(steps)
    assert found.count("ENXIO") == 20
    assert 200_000 in found


def test_truncated_up_and_down_while_open(twins: Twins) -> None:
    """ftruncate beside reads and writes: what was cut is zeros when it comes back."""

    def steps(directory: Path) -> list[object]:
        fd = os.open(directory / "k", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"0123456789" * 10_000)
        found: list[object] = []
        for size in (65_537, 200_000, 65_535, 5, 5 * GIB, 10, 70_000):
            os.ftruncate(fd, size)
            found.append(
                (os.fstat(fd).st_size, os.pread(fd, 20, max(0, min(size, 65_536) - 10)), os.pread(fd, 9, size - 4))
            )
            found.append(os.lseek(fd, 0, os.SEEK_CUR))
            os.pwrite(fd, b"!", size - 2)
        os.close(fd)
        return [*found, (directory / "k").read_bytes()]

    found = twins.same(steps)
    assert found[-1] == b"012!4\0\0\0!\0".ljust(69_998, b"\0") + b"!\0"


@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_posix_fallocate(twins: Twins, size: int) -> None:
    """It lengthens with zeros, never shortens, and leaves the bytes that are there; EBADF through a reader."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(b"x" * size)
        found: list[object] = []
        for flags in (os.O_RDONLY, os.O_RDWR):
            fd = os.open(directory / "k", flags)
            for offset, length in ((0, 5), (50, 100), (70_000, 10_000), (0, 0), (-1, 5)):
                found += [outcome(os.posix_fallocate, fd, offset, length), os.fstat(fd).st_size]
            os.close(fd)
        return [*found, (directory / "k").read_bytes()]

    found = twins.same(steps)
    assert found[:4] == ["EBADF", size, "EBADF", size]
    assert found[-1] == b"x" * size + bytes(max(0, 80_000 - size))


def test_too_far(twins: Twins) -> None:
    """Offsets that no file has: EINVAL before the start and beyond the last one that there is."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(b"value")
        with (directory / "k").open("r+b", buffering=0) as file:
            fd = file.fileno()
            found: list[object] = [
                outcome(os.pwrite, fd, b"x", -1),
                outcome(os.pread, fd, 1, -1),
                outcome(os.pread, fd, 1, (1 << 63) - 1),
                outcome(os.ftruncate, fd, -1),
                outcome(os.pwritev, fd, [b"xx"], (1 << 63) - 1),
            ]
        return [*found, (directory / "k").read_bytes()]

    assert twins.same(steps)[-1] == b"value"


def test_the_last_offset(store: MountedStore) -> None:
    """A value may be as large as the kernel can count: it is written, read and cut at once, and takes no space."""
    path = store.run / "1/k"
    last = (1 << 63) - 2
    with path.open("w+b", buffering=0) as file:
        found = outcome(os.pwrite, file.fileno(), b"!", last)
        assert found in (1, "EFBIG")
        if found == 1:
            assert os.pread(file.fileno(), 1, last) == b"!"
    assert path.stat().st_size == (last + 1 if found == 1 else 0)
    os.truncate(path, 3)
    assert path.read_bytes() == bytes(3)
    assert _resident(store) < RESIDENT_MAX_BYTES
