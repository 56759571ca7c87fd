"""Three daemons and the command on one store at once, under load."""

import errno
import itertools
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import open_store
from engine.config import ObjectStoreSettings
from tests.contract.several_mounts import in_pipeline, mounts_of_one_store, soon
from tests.support.mounting import ROOT, MountedStore
from tests.support.processes import Other, end, start_python
from tests.support.shared_mount import listed, refused

pytestmark = [pytest.mark.mount, pytest.mark.slow]

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def mounts() -> Iterator[list[MountedStore]]:
    with mounts_of_one_store(3, pipeline_object_limit=0) as mounted:
        yield mounted


@pytest.fixture
def paths(mounts: list[MountedStore]) -> list[Path]:
    """A new pipeline, as each of the three mounts shows it."""
    return in_pipeline(mounts, f"p{next(_numbers)}")


COMMAND = """
import os, subprocess, sys
python, root, store, pipeline, writer, times = sys.argv[1:]
environment = {**os.environ, "FUSEFS_STORE": store, "PYTHONPATH": root}
def fusefs(*arguments, **options):
    command = [python, "-m", "fusefs", "pipeline", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, **options)
    assert done.returncode == 0 and not done.stderr, (arguments, done)
    return done.stdout
for number in range(int(times)):
    value = f"{writer} {number} " * 1000
    fusefs("object", "put", pipeline, writer, "-", "--force", input=value.encode())
    assert fusefs("object", "get", pipeline, writer) == value.encode()
    fusefs("object", "put", pipeline, f"{writer}={number}", "--force")
    fusefs("object", "delete", pipeline, writer)
"""


def start_command(mount: MountedStore, pipeline: str, writer: str, times: int) -> subprocess.Popen[str]:
    """Start a process that puts, gets and deletes an object of its own with the command, again and again."""
    return start_python(COMMAND, sys.executable, ROOT, mount.store, pipeline, writer, times)


APPEND = """
import os, sys
directory, writer, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for number in range(count):
    # A new key every twenty lines: all writers create it at about the same time.
    fd = os.open(f"{directory}/log{number // 20}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{writer}.{number}.".encode() + b"x" * size + b"\\n")
    os.close(fd)
"""


@pytest.mark.parametrize(("count", "size"), [(120, 20), (40, 70_000)])
def test_no_append_is_lost(mounts: list[MountedStore], paths: list[Path], count: int, size: int) -> None:
    """Of writers on three mounts, no byte is lost and no line is torn, though each creates the keys."""
    writers = [start_python(APPEND, path, number, count, size) for number, path in enumerate(paths * 2)]
    end([*writers, start_command(mounts[0], paths[0].name, "beside", 4)])
    for path in paths:
        for number in range(count // 20):
            own = range(number * 20, number * 20 + 20)
            lines = Counter(f"{writer}.{each}." + "x" * size for writer in range(6) for each in own)
            length = sum(map(len, lines)) + len(lines)
            soon(lambda p=path / f"log{number}", n=length: p.stat().st_size == n)  # type: ignore[misc]
            assert Counter((path / f"log{number}").read_text().splitlines()) == lines


OVERWRITE = """
import sys, time
path, size, until = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
letters = 0
while time.monotonic() < until:
    letters += 1
    with open(path, "wb") as file:
        file.write(bytes([97 + letters % 26]) * size)
"""

READ = """
import os, sys, time
path, until, seen = sys.argv[1], time.monotonic() + float(sys.argv[3]), set()
reads = 0
while time.monotonic() < until:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        value = file.read()
    assert len(value) == size == int(sys.argv[2]) and len(set(value)) == 1, (size, len(value), set(value))
    seen.add(value[0])
    reads += 1
assert len(seen) > 1, (reads, seen)
"""


@pytest.mark.parametrize("size", [100, 1_500_000])
def test_no_value_is_torn(mounts: list[MountedStore], paths: list[Path], size: int) -> None:
    """However quickly the others overwrite a value, each mount shows whole ones only."""
    (paths[0] / "k").write_bytes(b"a" * size)
    for path in paths:
        soon((path / "k").exists)
    writers = [start_python(OVERWRITE, path / "k", size, 3) for path in paths[:2]]
    readers = [start_python(READ, path / "k", size, 3) for path in paths]
    end([*writers, *readers, start_command(mounts[0], paths[0].name, "beside", 3)])


def test_readers_keep_their_snapshots_while_space_is_reclaimed(mounts: list[MountedStore], paths: list[Path]) -> None:
    """Whatever another mount overwrites, evicts and reclaims: what is open stays, and its space is used again later."""
    here, there, third = paths
    size, rounds = 1_200_000, 12

    def generation(seed: int) -> list[int]:
        fds = []
        (there / "k").touch()
        soon((here / "k").exists)
        for number in range(rounds):
            value = random.Random(seed + number).randbytes(size)
            (there / "k").write_bytes(value)
            soon(lambda v=value: (here / "k").read_bytes()[:100] == v[:100])  # type: ignore[misc]
            # Past the page cache: every byte has to come from the store.
            fds.append(os.open(here / "k", os.O_RDONLY | os.O_DIRECT))
        return fds

    def check(fds: list[int], seed: int) -> None:
        (third / "last").write_bytes(bytes(size))
        mounts[2].cli("pipeline", "set-limit", here.name, "1", exit_code=0)  # evicts k
        soon(lambda: listed(here) == ["last"])
        for number, fd in enumerate(fds):
            found = b"".join(os.pread(fd, 400_000, offset) for offset in range(0, size, 400_000))
            assert found == random.Random(seed + number).randbytes(size)
            os.close(fd)
        mounts[2].cli("pipeline", "set-limit", here.name, "0", exit_code=0)

    check(generation(1), 1)
    soon(lambda: to_be_deleted(mounts[0]) == 0, 20)
    once = used(mounts[0])
    check(generation(100), 100)
    soon(lambda: to_be_deleted(mounts[0]) == 0, 20)
    assert used(mounts[0]) < once + 3 * size


def test_nothing_is_kept_for_writers_that_are_gone(mounts: list[MountedStore], paths: list[Path]) -> None:
    """What writers on several mounts replaced under each other is deleted once they have ended."""
    for name in ("put", "edited", "log"):
        (paths[0] / name).write_bytes(b"x" * 5000)
    for path in paths:
        soon((path / "log").exists)
    end([start_python(WRITE_IN_EVERY_WAY, path) for path in paths * 2])
    soon(lambda: to_be_deleted(mounts[0]) == 0, 20)


WRITE_IN_EVERY_WAY = """
import os, sys
for number in range(60):
    for name, flags in (("put", os.O_TRUNC), ("edited", 0), ("log", os.O_APPEND)):
        fd = os.open(f"{sys.argv[1]}/{name}", os.O_RDWR | os.O_CREAT | flags)
        os.write(fd, b"%d" % number * 2000)
        os.close(fd)
    os.truncate(f"{sys.argv[1]}/edited", 5000 + number)
"""


def to_be_deleted(mount: MountedStore) -> int:
    with open_store(ObjectStoreSettings(path=mount.store), read_only=True) as opened:
        return int(opened.database.value("SELECT count(*) FROM change WHERE content <> 0"))


def used(mount: MountedStore) -> int:
    return mount.store_path.stat().st_size


# A pipeline that is removed elsewhere


@pytest.mark.parametrize("by", ["the mount", "the command"])
@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_writer_whose_pipeline_is_removed_elsewhere(
    mounts: list[MountedStore], paths: list[Path], size: int, by: str
) -> None:
    """It is told with ENOENT, by fsync and by close, whichever it calls first, and nothing comes back."""
    here, there, _ = paths
    (here / "old").write_text("old")
    with Other() as writer:
        opening = "[os.open(f'{d}/{name}', os.O_WRONLY | os.O_CREAT) for name in ('new', 'old', 'synced')]"
        new, old, synced = writer(opening, d=str(here))
        for fd in (new, old, synced):
            writer("os.write(fd, bytes(size))", fd=fd, size=size)
        if by == "the mount":
            soon((there / "old").exists)
            os.unlink(there / "old")
            os.rmdir(there)
        else:
            mounts[1].cli("pipeline", "delete", here.name, "--force", exit_code=0)
        with refused(errno.ENOENT):
            writer("os.fsync(fd)", fd=synced)
        for fd in (new, old):
            with refused(errno.ENOENT):
                writer("os.close(fd)", fd=fd)
        soon(lambda: not here.exists())
        with refused(errno.ENOENT):
            writer("open(f'{d}/later', 'w')")
    for mount in mounts:
        assert here.name not in os.listdir(mount.pipeline)


# O_EXCL


def test_an_exclusive_creation_on_two_mounts(paths: list[Path]) -> None:
    """The first to close has created it; the other is told EEXIST when it closes, and the first one's value stands."""
    here, there, _ = paths
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    first, second = os.open(here / "k", flags), os.open(there / "k", flags)
    os.write(first, b"first")
    os.write(second, b"second")
    os.close(first)
    with refused(errno.EEXIST):
        os.close(second)
    soon((there / "k").exists)
    assert [(path / "k").read_bytes() for path in (here, there)] == [b"first", b"first"]
    with refused(errno.EEXIST):
        os.open(there / "k", flags)


EXCLUSIVE = """
import os, sys
directory, writer, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(count):
    try:
        fd = os.open(f"{directory}/{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(fd, writer.encode() * 100)
        os.close(fd)
        print(number)
    except FileExistsError:
        pass
"""


def test_racing_exclusive_creations_on_three_mounts(paths: list[Path]) -> None:
    """For each key exactly one is told that it created it, and its value is the one that is there."""
    count = 150
    outputs = end([start_python(EXCLUSIVE, path, number, count) for number, path in enumerate(paths)])
    won = [{int(line) for line in output.split()} for output in outputs]
    for path in paths:
        soon(lambda p=path: len(listed(p)) == count)  # type: ignore[misc]
    for key in range(count):
        winners = [writer for writer in range(3) if key in won[writer]]
        assert len(winners) == 1, f"{key} was created by {winners}"
        assert (paths[0] / str(key)).read_text() == str(winners[0]) * 100
