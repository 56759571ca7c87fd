"""Large values through a mount: whole, at any offset, while they are overwritten, in bounded memory and space."""

import hashlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import end, start_python
from tests.support.shared_mount import listed
from tests.support.waiting import wait_for_upkeep

pytestmark = pytest.mark.mount

MIB = 1024 * 1024
RESIDENT_MAX_BYTES = 200 * MIB
"""What a daemon may have in memory at its worst, however large the values are."""

PUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def memory(store: MountedStore, what: str) -> int:
    """The daemon's VmHWM (the most it ever had resident) or VmRSS, in bytes."""
    lines = Path(f"/proc/{store.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


WRITE = """
import hashlib, os, random, sys
path, seed, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
block, done, digest = random.Random(seed).randbytes(1_048_569), 0, hashlib.sha256()
with open(path, "wb", buffering=0) as file:
    while done < size:
        piece = done.to_bytes(8, "big") + block[: size - done - 8]
        view = memoryview(piece)
        while view:
            view = view[file.write(view) :]
        digest.update(piece)
        done += len(piece)
print(digest.hexdigest(), done)
"""


def written(path: Path, seed: int, size: int) -> str:
    """Have another process write a value of about `size` bytes, and return its digest and size."""
    return end([start_python(WRITE, path, seed, size)], 110)[0].strip()


def digest_of(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256")
        return f"{digest.hexdigest()} {file.tell()}"


@pytest.mark.slow
def test_300_mib(make_mount: MakeMount) -> None:
    """Written and read back whole, with the daemon under 200 MiB."""
    store = make_mount()
    (store.run / "1").mkdir()
    before = written(store.run / "1/k", 1, 300 * MIB)
    assert memory(store, "VmHWM") < RESIDENT_MAX_BYTES
    os.rename(store.run / "1/k", store.run / "1/l")
    store.remount()
    assert digest_of(store.run / "1/l") == before
    assert memory(store, "VmHWM") < RESIDENT_MAX_BYTES


# Edits


class Twin:
    """One file on the mount and one beside it, which every step changes alike."""

    def __init__(self, directory: Path, scratch: Path) -> None:
        self.paths = directory / "k", scratch / "k"

    def open(self, flags: int = os.O_RDWR) -> None:
        self.fds = [os.open(path, flags | os.O_CREAT) for path in self.paths]

    def both(self, step: Callable[[int], object]) -> None:
        mine, model = (step(fd) for fd in self.fds)
        assert mine == model

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        assert self.paths[0].read_bytes() == self.paths[1].read_bytes()


@pytest.mark.parametrize("seed", range(4))
def test_edits_at_any_offset(pipeline: Path, tmp_path: Path, seed: int) -> None:
    """pwrite, pread and ftruncate do what they do to a local file; so does the value that is published."""
    chance = random.Random(seed)
    size = 6 * MIB
    twin = Twin(pipeline, tmp_path)
    twin.open()
    value = chance.randbytes(size)
    twin.both(lambda fd: os.pwrite(fd, value, 0))
    for _ in range(3):
        for _ in range(40):
            offset, length = _somewhere(chance, size)
            piece = chance.randbytes(length)
            twin.both(lambda fd, o=offset, p=piece: os.pwrite(fd, p, o))  # type: ignore[misc]
            offset, length = _somewhere(chance, size)
            twin.both(lambda fd, o=offset, n=length: os.pread(fd, n, o))  # type: ignore[misc]
            if chance.random() < 0.1:
                end_of_file = chance.randrange(size)
                twin.both(lambda fd, e=end_of_file: os.ftruncate(fd, e))  # type: ignore[misc]
                twin.both(lambda fd: os.fstat(fd).st_size)
        if chance.random() < 0.5:
            twin.both(os.fsync)
        else:
            twin.close()
            twin.open()
    twin.close()


def _somewhere(chance: random.Random, size: int) -> tuple[int, int]:
    """An offset and a length: near the edges of what a store may be cut into, or anywhere."""
    edge = chance.choice([64 * 1024, 128 * 1024, 256 * 1024, MIB])
    offset = chance.choice(
        [chance.randrange(size), max(0, chance.randrange(size) // edge * edge - chance.randrange(3))]
    )
    return offset, chance.choice([1, 2, 100, 4096, 70_000, 300_000])


def test_truncate_up_and_down(pipeline: Path, tmp_path: Path) -> None:
    """What is cut is gone: a value that is lengthened again has zeros there."""
    value = random.Random(1).randbytes(3 * MIB)
    for path in (pipeline / "k", tmp_path / "k"):
        path.write_bytes(value)
    for size in (2 * MIB + 1, 2 * MIB, 3 * MIB, 300_001, 65_537, 65_536, 5 * MIB, 65_535, 10, MIB, 0, 70_000):
        for path in (pipeline / "k", tmp_path / "k"):
            os.truncate(path, size)
        assert (pipeline / "k").read_bytes() == (tmp_path / "k").read_bytes(), size
    for path in (pipeline / "k", tmp_path / "k"):
        with path.open("r+b") as file:
            for size in (2 * MIB, 100, 4 * MIB):
                file.truncate(size)
                file.seek(-1, os.SEEK_END)
                file.write(b"!")
    assert (pipeline / "k").read_bytes() == (tmp_path / "k").read_bytes()


def test_a_sparse_value(make_mount: MakeMount) -> None:
    """A gap takes no space worth mentioning, and reads as zeros."""
    store = make_mount()
    (store.run / "1").mkdir()
    path = store.run / "1/k"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"far away", 4 * 1024 * MIB)
    os.pwrite(fd, b"middle", 1024 * MIB - 3)
    assert os.pread(fd, 10, 1024 * MIB - 5) == b"\0\0middle\0\0"
    os.close(fd)
    assert path.stat().st_size == 4 * 1024 * MIB + 8
    with path.open("rb", buffering=0) as file:
        assert file.read(100_000) == bytes(100_000)
        assert os.pread(file.fileno(), 10, 1024 * MIB - 5) == b"\0\0middle\0\0"
        assert os.pread(file.fileno(), 100, 4 * 1024 * MIB - 2) == b"\0\0far away"
    assert sum(each.stat().st_size for each in store.directory.glob("objects.db*")) < 20 * MIB
    assert memory(store, "VmHWM") < RESIDENT_MAX_BYTES


@pytest.mark.parametrize("size", [0, 500, 70 * MIB + 7, 97 * MIB])
def test_cut_by_who_appends(make_mount: MakeMount, size: int) -> None:
    """What is left of a large append stays, and what becomes of it needs no memory for the whole."""
    store = make_mount()
    (store.run / "1").mkdir()
    path = store.run / "1/k"
    path.write_bytes(b"before" * 200)
    block = random.Random(size).randbytes(MIB - 8)
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    for number in range(96):
        os.write(fd, number.to_bytes(8, "big") + block)
    before = memory(store, "VmHWM")
    os.ftruncate(fd, size)
    assert memory(store, "VmHWM") - before < 40 * MIB
    os.write(fd, b"after")
    os.close(fd)
    whole = b"before" * 200 + b"".join(number.to_bytes(8, "big") + block for number in range(96))
    assert path.read_bytes() == whole[:size] + bytes(max(0, size - len(whole))) + b"after"


# Readers and writers at once


def test_a_snapshot_while_its_value_is_overwritten(pipeline: Path) -> None:
    """An object opened for reading is one committed value, whole, until it is closed."""
    before = written(pipeline / "k", 1, 20 * MIB)
    with (pipeline / "k").open("rb", buffering=0) as file:
        digest = hashlib.sha256(start := file.read(MIB))
        for seed in (2, 3):
            after = written(pipeline / "k", seed, 20 * MIB)
        os.unlink(pipeline / "k")
        time.sleep(0.6)  # upkeep has come by
        length = len(start)
        while block := file.read(MIB):
            digest.update(block)
            length += len(block)
    assert f"{digest.hexdigest()} {length}" == before != after
    assert listed(pipeline) == []


@pytest.mark.slow
def test_large_writers_at_once(make_mount: MakeMount) -> None:
    """Neither mixes with the other, two of one key leave one whole value, and memory stays bounded."""
    store = make_mount()
    (store.run / "1").mkdir()
    targets = [("a", 1), ("b", 2), ("same", 3), ("same", 4)]
    writers = [start_python(WRITE, store.run / "1" / name, seed, 40 * MIB) for name, seed in targets]
    a, b, *same = (said.strip() for said in end(writers, 100))
    assert digest_of(store.run / "1/a") == a
    assert digest_of(store.run / "1/b") == b
    assert digest_of(store.run / "1/same") in same
    assert memory(store, "VmHWM") < RESIDENT_MAX_BYTES


@pytest.mark.slow
def test_many_large_readers(make_mount: MakeMount) -> None:
    """Twenty values of 16 MiB, read a piece at a time in turns: the daemon's memory does not grow with them."""
    store = make_mount()
    (store.run / "1").mkdir()
    digests = [written(store.run / f"1/k{seed}", seed, 16 * MIB) for seed in range(4)]
    store.remount()
    before = memory(store, "VmRSS")
    files = [(store.run / f"1/k{number % 4}").open("rb", buffering=0) for number in range(20)]
    found = [hashlib.sha256() for _ in files]
    lengths = [0] * len(files)
    for _ in range(17):
        for number, file in enumerate(files):
            block = file.read(MIB)
            found[number].update(block)
            lengths[number] += len(block)
    for number, file in enumerate(files):
        file.close()
        assert f"{found[number].hexdigest()} {lengths[number]}" == digests[number % 4]
    assert memory(store, "VmHWM") - before < 100 * MIB
    assert memory(store, "VmHWM") < RESIDENT_MAX_BYTES


# Space


def store_bytes(store: MountedStore) -> int:
    return sum(path.stat().st_size for path in store.directory.glob("objects.db*"))


@pytest.mark.slow
def test_space_is_reused(make_mount: MakeMount) -> None:
    """What was overwritten, evicted or deleted gives its space to what comes next."""
    store = make_mount(pipeline_object_limit=2)
    (store.pipeline / "p").mkdir()
    for seed in range(10):
        last = written(store.pipeline / "p/k", seed, 50 * MIB)
        wait_for_upkeep(store.store_path)
    assert store_bytes(store) < 200 * MIB
    store.unmount()
    assert store_bytes(store) < 200 * MIB
    store.mount()
    assert digest_of(store.pipeline / "p/k") == last
