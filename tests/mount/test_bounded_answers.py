"""Every request is answered within a stated time, whatever the disk does, and others are served meanwhile."""

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from engine import open_store
from engine.config import ObjectStoreSettings
from tests.support import gated
from tests.support.gated import Gated, gated_mount
from tests.support.invariants import check_store
from tests.support.processes import Other, start_python
from tests.support.shared_mount import listed, refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

SECONDS = 1.0
"""How long a request may take here."""
LATE = 3 * SECONDS
"""Until when it has to be answered on a busy machine; without a bound none of them ever is."""
PUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
MIB = 1024 * 1024
STUCK = 200


@pytest.fixture(scope="module")
def mount_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    with gated_mount(tmp_path_factory.mktemp("gate"), request_timeout=SECONDS) as mounted:
        yield mounted
        # Nothing is left in the store of all that was given up.
        mounted.store.unmount()
        with open_store(ObjectStoreSettings(path=mounted.store.store)) as store:
            check_store(store)


@pytest.fixture
def mount(mount_of_all: Gated) -> Iterator[Gated]:
    """A mount with nothing in it."""
    yield mount_of_all
    mount_of_all.open()
    for name in os.listdir(mount_of_all.directory):
        os.unlink(mount_of_all.directory / name)


@contextmanager
def in_time(number: int = errno.EIO) -> Iterator[None]:
    """What is inside has to fail, at the deadline and neither before nor long after it."""
    begun = time.monotonic()
    with refused(number):
        yield
    assert SECONDS * 0.9 < time.monotonic() - begun < LATE


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """A descriptor. What its close says belongs to who looks at that."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        with suppress(OSError):
            os.close(fd)


def write_large(fd: int, mebibytes: int = 6) -> None:
    for _ in range(mebibytes):
        os.write(fd, b"n" * MIB)


# One request


def test_reading(mount: Gated) -> None:
    path, value = mount.directory / "k", os.urandom(200_000)
    path.write_bytes(value)
    mount.shut(gated.READ)
    with in_time():
        path.read_bytes()
    begun = time.monotonic()
    with refused(errno.EIO):
        path.read_bytes()
    assert time.monotonic() - begun < SECONDS / 2, "nobody waits for what others waited for in vain"
    mount.open()
    wait_until(lambda: readable(path))
    assert path.read_bytes() == value


def readable(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


def write(mount: Gated, path: Path) -> None:
    """Until the disk is too far behind."""
    mount.shut(gated.STORE)
    with opened(path, PUT) as fd, in_time():
        write_large(fd, 60)


def close(mount: Gated, path: Path) -> None:
    fd = os.open(path, PUT)
    write_large(fd)
    mount.shut(gated.SETTLE)
    with in_time():
        os.close(fd)


def fsync(mount: Gated, path: Path) -> None:
    with opened(path, PUT) as fd:
        write_large(fd)
        mount.shut(gated.SETTLE)
        with in_time():
            os.fsync(fd)
        with refused(errno.EIO):
            os.write(fd, b"more")


def ftruncate(mount: Gated, path: Path) -> None:
    with opened(path, PUT) as fd:
        mount.shut(gated.STORE)
        write_large(fd)
        with in_time():
            os.ftruncate(fd, 1000)


def truncate(mount: Gated, path: Path) -> None:
    mount.shut(gated.SETTLE)
    with in_time():
        os.truncate(path, 100_000)


OLD = b"old" * 50_000


@pytest.mark.parametrize("put", [write, close, fsync, ftruncate, truncate], ids=lambda put: put.__name__)
@pytest.mark.parametrize("before", [None, OLD], ids=["new", "overwritten"])
def test_a_put(mount: Gated, put: Callable[[Gated, Path], None], before: bytes | None) -> None:
    """Who puts is told in time; what the thread does later is not published."""
    path = mount.directory / "k"
    if before is not None or put is truncate:
        path.write_bytes(OLD)
        before = OLD
    put(mount, path)
    mount.open()
    (mount.directory / "other").write_bytes(bytes(6 * MIB))  # behind the thread that goes on
    assert listed(mount.directory) == (["other"] if before is None else ["k", "other"])
    assert before is None or path.read_bytes() == before


def test_renaming_what_is_still_written(mount: Gated) -> None:
    """It stays where it was, and is not published under either name."""
    with opened(mount.directory / "new", PUT) as fd:
        write_large(fd)
        mount.shut(gated.SETTLE)
        with in_time():
            os.rename(mount.directory / "new", mount.directory / "renamed")
        mount.open()
    (mount.directory / "other").write_bytes(bytes(6 * MIB))
    assert listed(mount.directory) == ["other"]


def test_fsync_of_what_is_published(mount: Gated) -> None:
    """As after any fsync(2) that failed: what was put is there, and nobody knows whether a power cut would spare it."""
    with opened(mount.directory / "k", PUT) as fd:
        os.write(fd, b"v")
        mount.shut(gated.SYNC)
        with in_time():
            os.fsync(fd)
    assert (mount.directory / "k").read_bytes() == b"v"
    with opened(mount.directory, os.O_RDONLY) as fd:
        with refused(errno.EIO):
            os.fsync(fd)
        mount.open()
        wait_until(lambda: succeeds(lambda: os.fsync(fd)))


def succeeds(step: Callable[[], object]) -> bool:
    try:
        step()
    except OSError:
        return False
    return True


# Many requests

READERS = """
import sys, threading, time
def read(number):
    begun = time.monotonic()
    try:
        said[number] = len(open(f"{sys.argv[1]}/stuck{number}", "rb").read())
    except OSError as error:
        said[number] = f"{error.errno} {time.monotonic() - begun}"
said = {}
threads = [threading.Thread(target=read, args=[number]) for number in map(int, sys.argv[2:])]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*said.values(), sep="\\n")
"""


@contextmanager
def stuck_readers(mount: Gated, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that read in so many threads together, none of which gets an answer."""
    for number in range(count):
        (mount.directory / f"stuck{number}").write_bytes(b"x" * 70_000)
    mount.store.remount()  # nothing of them is in the kernel's cache
    mount.shut(gated.READ)
    halves = range(0, count, 2), range(1, count, 2)
    readers = [start_python(READERS, mount.directory, *half) for half in halves]
    try:
        wait_until(lambda: sum(threads_that_wait(reader.pid) for reader in readers) >= count)
        yield readers
    finally:
        mount.open()
        for reader in readers:
            reader.kill()
            reader.communicate(timeout=30)


def threads_that_wait(pid: int) -> int:
    """How many threads of a process wait for an answer of a FUSE filesystem."""
    found = 0
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                waits_in = Path(f"/proc/{pid}/task/{thread}/wchan").read_text()
                found += waits_in in ("request_wait_answer", "folio_wait_bit_common")
    return found


def longest_of_small_requests(directory: Path, names: range) -> float:
    """How long others wait at most: Puts, Gets, stats, listings and renames."""
    longest = 0.0
    for name in names:
        path, moved = directory / f"small{name}", directory / f"moved{name}"
        for step in (
            lambda path=path: path.write_bytes(b"value"),
            path.read_bytes,
            path.stat,
            lambda: os.listdir(directory),
            lambda path=path, moved=moved: path.rename(moved),
        ):
            begun = time.monotonic()
            step()
            longest = max(longest, time.monotonic() - begun)
    return longest


@pytest.mark.slow
def test_two_hundred_stuck_requests(tmp_path: Path) -> None:
    """All have EIO by their deadline, also who was killed meanwhile, and others are served as if nothing were."""
    seconds = 5.0
    with gated_mount(tmp_path, request_timeout=seconds) as mount, stuck_readers(mount, STUCK) as (dying, living):
        begun = time.monotonic()
        dying.kill()
        assert longest_of_small_requests(mount.directory, range(20)) < 1
        assert time.monotonic() - begun < seconds / 2, "they are stuck no more"
        said = living.communicate(timeout=20)[0].splitlines()
        assert len(said) == STUCK // 2
        assert {line.split()[0] for line in said} == {str(errno.EIO)}
        assert all(0.9 * seconds < float(line.split()[1]) < 2 * seconds for line in said)
        assert dying.wait(1) == -signal.SIGKILL, "nobody waits in vain to be killed"
        mount.open()
        wait_until(lambda: readable(mount.directory / "stuck0"))


def test_stuck_writers_and_syncs(mount: Gated) -> None:
    """Others are served while threads neither store what is large nor sync."""
    mount.shut(gated.STORE, gated.SETTLE, gated.SYNC)
    writers = [Other() for _ in range(6)]
    try:
        for number, writer in enumerate(writers):
            code = "with open(path, 'wb', buffering=0) as file:\n for _ in range(60): file.write(bytes(1 << 20))"
            # Not the directory of the others: the kernel keeps it locked meanwhile.
            code = "os.fsync(os.open(path, os.O_RDONLY))" if number % 2 else code
            writer.begin(code, path=str(mount.store.run if number % 2 else mount.directory / f"large{number}"))
        assert longest_of_small_requests(mount.directory, range(20)) < SECONDS
        for writer in writers:
            with refused(errno.EIO):
                writer.answer(LATE)
        assert not any("large" in name for name in listed(mount.directory))
    finally:
        mount.open()
        for writer in writers:
            writer.stop()
