"""What goes wrong inside the daemon, on its disk, or with its store: an errno for the caller, and the mount goes on."""

import ctypes
import errno
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine import open_store
from engine.config import ObjectStoreSettings
from tests.conftest import MakeMount
from tests.support import disks, faulty
from tests.support.invariants import check_store
from tests.support.mounting import MountedStore
from tests.support.processes import Other, start_python
from tests.support.scratch import make_directory, remove_directory
from tests.support.shared_mount import listed, refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

PUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
RENAME_EXCHANGE = 2
AT_FDCWD = -100
SECONDS = 8.0
CHECKPOINT_LOCK = 121
"""The byte of SQLite's index of the log that is locked by who writes the log back (sqlite.org/walformat.html, 2.3)."""
WRITES_BACK = """
import fcntl, sys, time
index, byte = open(sys.argv[1], "r+b"), int(sys.argv[2])
while True:
    fcntl.lockf(index, fcntl.LOCK_EX, 1, byte)
    print("held", flush=True)
    time.sleep(0.5)  # a slow disk
    fcntl.lockf(index, fcntl.LOCK_UN, 1, byte)
    time.sleep(0.05)  # now others may
"""


# An exception in a handler


class Faulty:
    """A mount whose daemon fails where it is told to."""

    def __init__(self, store: MountedStore, trigger: Path) -> None:
        self.store = store
        self.trigger = trigger

    def arm(self, method: str) -> None:
        new = self.trigger.with_suffix(".new")
        new.write_text(method)
        new.rename(self.trigger)

    @property
    def happened(self) -> bool:
        return not self.trigger.exists()

    def tracebacks(self) -> int:
        return self.store.log().count("Traceback")


@pytest.fixture(scope="module")
def faulty_mount() -> Iterator[Faulty]:
    scratch = make_directory()
    trigger = scratch / "fault"
    program = (sys.executable, "-m", "tests.support.faulty")
    store = MountedStore(program=program, environment={"FAULT_FILE": str(trigger)})
    store.expect_log("Traceback|ERROR|injected")
    try:
        store.mount()
        yield Faulty(store, trigger)
    finally:
        try:
            store.close()
        finally:
            remove_directory(scratch)


def _exchange(directory: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    old, new = os.fsencode(directory / "k"), os.fsencode(directory / "l")
    if libc.renameat2(AT_FDCWD, old, AT_FDCWD, new, RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


def _fd(path: Path, flags: int, use: Callable[[int], object]) -> None:
    """Open before the fault is armed is no matter: only the handler that `use` leads to has one."""
    fd = os.open(path, flags)
    try:
        use(fd)
    finally:
        os.close(fd)


ACTIONS: dict[str, Callable[[Path], object]] = {
    "Namespace.lookup": lambda d: os.stat(d / "nothing"),
    "Namespace.open_directory": os.listdir,
    "Namespace.entries": os.listdir,
    "Namespace.make_directory": lambda d: os.mkdir(d / "new"),
    "Namespace.remove_directory": lambda d: os.rmdir(d / "directory"),
    "Namespace.make_symlink": lambda d: os.symlink("k", d / "new"),
    "Namespace.remove": lambda d: os.unlink(d / "k"),
    "Namespace.exchange": _exchange,
    "Namespace.rename": lambda d: os.rename(d / "k", d / "new"),
    "NodeAttributes.read_link": lambda d: os.readlink(d / "link"),
    "NodeAttributes.get": lambda d: _fd(d / "k", PUT, lambda fd: (os.write(fd, b"w"), os.fstat(fd))),
    "NodeAttributes.set": lambda d: os.chmod(d / "k", 0o600),
    "NodeAttributes.get_xattr": lambda d: os.getxattr(d / "k", "user.a"),
    "NodeAttributes.list_xattrs": lambda d: os.listxattr(d / "k"),
    "NodeAttributes.set_xattr": lambda d: os.setxattr(d / "k", "user.b", b"1"),
    "NodeAttributes.remove_xattr": lambda d: os.removexattr(d / "k", "user.a"),
    "Opening.create": lambda d: os.open(d / "new", PUT),
    "Files.open": lambda d: os.open(d / "k", os.O_RDONLY),
    # Past the page cache, for which the kernel asks a second time by itself.
    "Files.read": lambda d: _fd(d / "k", os.O_RDONLY | os.O_DIRECT, lambda fd: os.read(fd, 10)),
    "Files.write": lambda d: _fd(d / "k", os.O_WRONLY, lambda fd: os.write(fd, b"w")),
    "Files.flush": lambda d: os.close(os.open(d / "k", PUT)),
    "Files.fsync": lambda d: _fd(d / "k", os.O_RDONLY, os.fsync),
    "Publication.publish": lambda d: _fd(d / "k", PUT, os.fsync),
    "sync": lambda d: _fd(d, os.O_RDONLY, os.fsync),
    "Tree.space": os.statvfs,
}
"""A system call for every handler that answers with an errno."""

LIVES = "the mount lives"


def make_tree(faulty_mount: Faulty, name: str) -> Path:
    """A pipeline with something for every action, and nothing of it in the kernel's caches but what was just made."""
    directory = faulty_mount.store.pipeline / name
    directory.mkdir()
    (directory / "directory").mkdir()
    (directory / "link").symlink_to("k")
    for key in "kl":
        (directory / key).write_bytes(b"old")
    os.setxattr(directory / "k", "user.a", b"1")
    return directory


def lives(faulty_mount: Faulty, directory: Path) -> None:
    (directory / "after").write_text(LIVES)
    assert (directory / "after").read_text() == LIVES
    assert "after" in os.listdir(directory)
    assert faulty_mount.store.daemon is not None
    assert faulty_mount.store.daemon.poll() is None


@pytest.mark.parametrize("method", [each for each in faulty.METHODS if faulty.short(each) in ACTIONS], ids=faulty.short)
def test_an_exception_in_a_handler(faulty_mount: Faulty, method: str) -> None:
    """Whatever goes wrong in a handler: EIO, a traceback in the log, and the mount goes on."""
    directory = make_tree(faulty_mount, faulty.short(method))
    before = faulty_mount.tracebacks()
    faulty_mount.arm(method)
    with refused(errno.EIO):
        ACTIONS[faulty.short(method)](directory)
    assert faulty_mount.happened
    assert faulty_mount.tracebacks() == before + 1
    lives(faulty_mount, directory)
    assert (directory / "l").read_bytes() == b"old"
    if faulty.short(method) in PUTS:
        _put_again(directory)


def _put_again(directory: Path) -> None:
    (directory / "k").write_bytes(b"again")
    assert (directory / "k").read_bytes() == b"again"


PUTS = ["Files.open", "Files.write", "Files.flush", "NodeAttributes.get", "Publication.publish"]


@pytest.mark.parametrize("name", ["Files.write", "Files.flush", "Publication.publish"])
def test_a_put_that_failed_leaves_the_old_value(faulty_mount: Faulty, name: str) -> None:
    """A failed Put is told to the writer, and the old value stands."""
    method = next(each for each in faulty.METHODS if faulty.short(each) == name)
    directory = make_tree(faulty_mount, f"old.{name}")
    fd = os.open(directory / "k", PUT)
    try:
        os.write(fd, b"half")
        faulty_mount.arm(method)
        with refused(errno.EIO):
            if name == "Files.write":
                os.write(fd, b"half")
            elif name == "Files.flush":
                os.close(os.dup(fd))
            else:
                os.fsync(fd)
        assert faulty_mount.happened
        assert (directory / "k").read_bytes() == b"old"
    finally:
        os.close(fd)


def test_a_write_that_failed_leaves_nothing_to_be_published(faulty_mount: Faulty) -> None:
    """Also where it failed for a reason that nobody had thought of: a part of the value is missing."""
    directory = make_tree(faulty_mount, "missing")
    fd = os.open(directory / "k", PUT)
    os.write(fd, b"first")
    faulty_mount.arm("engine.drafts:Draft.write")
    with refused(errno.EIO):
        os.write(fd, b"second")
    assert faulty_mount.happened
    for request in (lambda: os.write(fd, b"third"), lambda: os.fsync(fd), lambda: os.close(fd)):
        with refused(errno.EIO):
            request()
    assert (directory / "k").read_bytes() == b"old"
    lives(faulty_mount, directory)


@pytest.mark.parametrize("flags", ["os.O_WRONLY | os.O_TRUNC", "os.O_RDWR"])
def test_an_exception_on_the_way_to_the_private_inode(faulty_mount: Faulty, flags: str) -> None:
    """Who failed to open a name for writing is not shown by it what another process is writing there."""
    key = make_tree(faulty_mount, f"on-the-way.{len(flags)}") / "k"
    before = key.stat()
    faulty_mount.arm("fusefs.opening:Opening.new_copy")
    with refused(errno.EIO):
        os.open(key, PUT)
    assert faulty_mount.happened
    with Other() as other:
        other(f"fd = os.open(path, {flags})", path=str(key))
        assert (key.stat().st_size, key.stat().st_mtime_ns) == (3, before.st_mtime_ns)
        other("os.write(fd, b'longer')")
        assert (key.stat().st_size, key.stat().st_mtime_ns) == (3, before.st_mtime_ns)
        assert key.read_bytes() == b"old"
        other("os.close(fd)")
        assert key.stat().st_size == 6
        assert key.read_bytes() == b"longer"


def test_an_exception_in_forget(faulty_mount: Faulty) -> None:
    """FORGET has no answer, and one that fails must not end the mount."""
    directory = make_tree(faulty_mount, "forget")
    faulty_mount.arm("fusefs.state:MountState.forget")
    for key in "kl":
        os.unlink(directory / key)
    wait_until(lambda: faulty_mount.happened)
    lives(faulty_mount, directory)


def test_an_exception_in_background_work(faulty_mount: Faulty) -> None:
    """Upkeep answers no request, and one that fails must not end the mount either."""
    directory = make_tree(faulty_mount, "background")
    faulty_mount.arm("engine.upkeep:Upkeep.sweep")
    wait_until(lambda: faulty_mount.happened)
    lives(faulty_mount, directory)


def test_an_exception_while_a_value_is_published(faulty_mount: Faulty) -> None:
    """What close() acknowledged is published a moment later, whatever went wrong."""
    directory = make_tree(faulty_mount, "publishing")
    before = faulty_mount.tracebacks()
    faulty_mount.arm("fusefs.publication:Publication.publish")
    (directory / "k").write_bytes(b"acknowledged")
    wait_until(lambda: faulty_mount.happened)
    wait_until(lambda: (directory / "k").read_bytes() == b"acknowledged")
    assert faulty_mount.tracebacks() == before + 1
    lives(faulty_mount, directory)


def test_an_exception_in_release(faulty_mount: Faulty) -> None:
    """RELEASE tells nobody of its failure: the mount goes on; what close() acknowledged is there at the next start."""
    directory = make_tree(faulty_mount, "release")
    faulty_mount.arm("fusefs.files:Files.release")
    (directory / "k").write_bytes(b"acknowledged")
    wait_until(lambda: faulty_mount.happened)
    lives(faulty_mount, directory)
    assert (directory / "k").read_bytes() in (b"old", b"acknowledged")
    faulty_mount.store.terminate()
    faulty_mount.store.mount()  # without faults: nothing is armed after this
    assert (faulty_mount.store.pipeline / "release/k").read_bytes() == b"acknowledged"


# A full disk


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A filesystem of 20 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a tmpfs")
    with disks.small_disk(20) as disk:
        yield disk


@pytest.fixture
def on_small_disk(small_disk: Path, make_mount: MakeMount) -> MountedStore:
    store = make_mount(store=small_disk / "objects.db", pipeline_object_limit=0)
    store.expect_log("disk is full")
    (store.pipeline / "p").mkdir()
    return store


def write_until_refused(path: Path, size: int, *, sync: bool = False) -> int:
    """Put a value in pieces, close it, and return the first errno."""
    fd = os.open(path, PUT)
    first = 0
    try:
        for _ in range(size // 100_000):
            os.write(fd, b"x" * 100_000)
        if sync:
            os.fsync(fd)
    except OSError as error:
        first = error.errno or -1
    try:
        os.close(fd)
    except OSError as error:
        first = first or error.errno or -1
    return first


@pytest.mark.parametrize("sync", [False, True])
def test_a_value_that_does_not_fit(on_small_disk: MountedStore, sync: bool) -> None:
    """close(), write() or fsync() returns ENOSPC, the old value stands, and the mount goes on."""
    directory = on_small_disk.pipeline / "p"
    (directory / "k").write_bytes(b"old")
    for name in ("k", "new"):
        assert write_until_refused(directory / name, 30_000_000, sync=sync) == errno.ENOSPC
    assert {name: (directory / name).read_bytes() for name in listed(directory)} == {"k": b"old"}
    # What the refused values had taken is room again.
    wait_until(lambda: write_until_refused(directory / "fits", 4_000_000) == 0)
    assert (directory / "fits").stat().st_size == 4_000_000
    on_small_disk.remount()
    assert (directory / "k").read_bytes() == b"old"


def put(path: Path, value: bytes) -> bool:
    """Put a value; returns whether there was room."""
    try:
        path.write_bytes(value)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def fill(directory: Path, size: int) -> list[str]:
    """Put values until one is refused; returns the names of those acknowledged."""
    names: list[str] = []
    while put(directory / f"f{len(names)}", b"%d" % len(names) + b"." * size):
        names.append(f"f{len(names)}")
    return names


@pytest.mark.parametrize("size", [4000, 60_000, 700_000])
def test_a_full_disk_and_room_made_by_deletion(on_small_disk: MountedStore, size: int) -> None:
    """All that was acknowledged stays; deleting makes room again, and the mount goes on."""
    directory = on_small_disk.pipeline / "p"
    names = fill(directory, size)
    assert len(names) * size > 3_000_000
    assert sorted(os.listdir(directory)) == sorted(names)
    for name in names:
        assert (directory / name).read_bytes() == b"%d" % int(name[1:]) + b"." * size
    for name in names[: len(names) // 2]:
        os.unlink(directory / name)
    value = b"new" * 400_000
    wait_until(lambda: put(directory / "new", value))
    assert (directory / "new").read_bytes() == value
    on_small_disk.remount()
    assert sorted(os.listdir(directory)) == sorted(["new", *names[len(names) // 2 :]])
    assert (directory / names[-1]).read_bytes() == b"%d" % (len(names) - 1) + b"." * size
    on_small_disk.unmount()
    with open_store(ObjectStoreSettings(path=on_small_disk.store)) as opened:
        check_store(opened)


def make_with_attribute(path: Path) -> None:
    path.mkdir()
    os.setxattr(path, "user.x", b"x" * 60_000)


GROW: dict[str, Callable[[Path], None]] = {
    "a directory": lambda path: path.mkdir(),
    "a pipeline": lambda path: (path.parents[1] / path.name[-100:]).mkdir(),
    "a symlink": lambda path: path.symlink_to("t" * 4000),
    "an attribute": make_with_attribute,
    "a longer name": lambda path: path.with_name(path.name[-4:]).rename(path),
}


@pytest.mark.parametrize("grow", GROW.values(), ids=GROW)
def test_what_is_no_value_leaves_room_to_delete(on_small_disk: MountedStore, grow: Callable[[Path], None]) -> None:
    """Whatever makes the store larger is refused while some MiB are free, and removing always works."""
    directory = on_small_disk.pipeline / "p"
    for number in range(1000):
        (directory / f"{number:04}").mkdir()
    os.setxattr(directory, "user.x", b"x" * 1000)
    os.setxattr(directory, "user.y", b"y" * 1000)
    names = fill(directory, 60_000)
    with refused(errno.ENOSPC):
        for number in range(1000):
            grow(directory / f"{'n' * 200}{number:04}")
    disk = os.statvfs(on_small_disk.store_path.parent)
    assert disk.f_bavail * disk.f_frsize > 4_000_000
    (directory / names[0]).rename(directory / "f")
    (directory / "f").unlink()
    (directory / "0999").rmdir()
    os.removexattr(directory, "user.x")
    assert os.listxattr(directory) == ["user.y"]


def test_room_is_made_while_somebody_else_writes_the_log_back(on_small_disk: MountedStore) -> None:
    """SQLite lets only one do that, and has the others fail at once: a Put waits for it before it is refused."""
    directory = on_small_disk.pipeline / "p"
    (directory / "k").write_bytes(b"value")
    with somebody_writing_back(on_small_disk.store_path):
        names = fill(directory, 4000)
    assert len(names) * 4000 > 12_000_000


@contextmanager
def somebody_writing_back(store: Path) -> Iterator[None]:
    """Hold the lock of those who write the log back, like another process with a slow disk: 0.5 s, and again."""
    process = start_python(WRITES_BACK, f"{store}-shm", CHECKPOINT_LOCK)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
    finally:
        process.kill()
        process.communicate()


def fill_up(filler: Path) -> None:
    """Take all the space of a disk."""
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 4096)


def test_mounting_a_store_on_a_full_disk(on_small_disk: MountedStore) -> None:
    """With little space left, what is there can be read and deleted; with none at all, mounting says why it fails."""
    directory = on_small_disk.pipeline / "p"
    names = [f"f{number}" for number in range(20)]
    for name in names:
        (directory / name).write_bytes(name.encode() * 30_000)
    on_small_disk.unmount()
    filler = on_small_disk.store_path.parent / "filler"
    fill_up(filler)
    done = on_small_disk.cli("mount", str(on_small_disk.path), exit_code=1)
    assert done.stderr.count(b"\n") == 1
    os.truncate(filler, filler.stat().st_size - 512 * 1024)
    on_small_disk.mount()
    assert sorted(os.listdir(directory)) == sorted(names)
    assert (directory / "f0").read_bytes() == b"f0" * 30_000
    for name in names[:10]:
        os.unlink(directory / name)
    # What was deleted is free once upkeep has come by.
    wait_until(lambda: put(directory / "k", b"v"))
    assert (directory / "k").read_text() == "v"
    assert (directory / "f19").read_bytes() == b"f19" * 30_000


def test_statfs_tells_of_the_disk(on_small_disk: MountedStore) -> None:
    """statfs is honest: what it says is free shrinks with what is put."""
    before = os.statvfs(on_small_disk.path)
    assert 10_000_000 < before.f_frsize * before.f_bavail <= 20 * 1024 * 1024
    (on_small_disk.pipeline / "p/k").write_bytes(bytes(5_000_000))
    after = os.statvfs(on_small_disk.path)
    assert (before.f_bavail - after.f_bavail) * after.f_frsize > 4_000_000


# A store that somebody else has locked


def test_a_locked_store(make_mount: MakeMount) -> None:
    """While another process writes for long, Puts wait, and succeed."""
    store = make_mount()
    directory = store.pipeline / "p"
    directory.mkdir()
    (directory / "k").write_text("old")
    other = sqlite3.connect(store.store_path, isolation_level=None, timeout=20, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(3, other.execute, ["COMMIT"])
    release.start()
    try:
        begun = time.monotonic()
        (directory / "k").write_text("new")
        (directory / "l").write_text("l")
        os.rename(directory / "l", directory / "m")
        (directory / "sub").mkdir()
        assert 1 < time.monotonic() - begun < 9
        assert listed(directory) == ["k", "m", "sub"]
        assert (directory / "k").read_text() == "new"
    finally:
        release.join()
        other.close()
