"""Clients that stop in the middle, read slowly or wait in vain: they hold up nobody, and no end of the mount."""

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trio

from fusefs.closers import Closers, Closing
from fusefs.mountapi import device_of
from fusefs.openers import Life, life_of
from fusefs.openfiles import holds
from fusefs.tasks import Processes
from tests.conftest import MakeMount
from tests.support import gated
from tests.support.gated import Gated, gated_mount
from tests.support.mounting import MountedStore
from tests.support.processes import Other
from tests.support.scratch import mount_at
from tests.support.shared_mount import refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

SECONDS = 1.0
SOON = 3.0
"""Until when something has to be done that waits for nobody, on a busy machine."""
LIMIT = 5


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Gated]:
    with gated_mount(tmp_path, request_timeout=SECONDS) as mounted:
        yield mounted


def read_in_vain(mount: Gated) -> Other:
    """A process whose read is not answered."""
    (mount.directory / "large").write_bytes(b"x" * 200_000)
    mount.store.remount()
    mount.shut(gated.READ)
    reader = Other()
    reader.begin("open(path, 'rb').read()", path=str(mount.directory / "large"))
    wchan = Path(f"/proc/{reader.pid}/wchan")
    wait_until(lambda: wchan.read_text() in ("request_wait_answer", "folio_wait_bit_common"))
    return reader


# The end of a mount


def test_detached_under_those_who_wait(mount: Gated) -> None:
    """umount -l: who waits is told in time, who writes goes on, and with the last of them the daemon ends."""
    with read_in_vain(mount) as reader, Other() as writer:
        writer("fd = os.open(path, os.O_WRONLY | os.O_CREAT); os.write(fd, b'one ')", path=str(mount.directory / "k"))
        subprocess.run(["umount", "-l", str(mount.store.path)], check=True, timeout=30)
        assert os.listdir(mount.store.path) == []
        with refused(errno.EIO):
            reader.answer(SOON)
        mount.open()
        writer("os.write(fd, b'two'); os.close(fd)")
    mount.store.wait()
    mount.store.mount()
    assert (mount.directory / "k").read_bytes() == b"one two"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_while_a_thread_waits_for_ever(mount: Gated, number: signal.Signals) -> None:
    """Who waits is told in time, then the daemon ends although its thread does not; what was closed is there."""
    mount.store.expect_log("the disk does not answer")
    with read_in_vain(mount) as reader, Other() as writer:
        writer("fd = os.open(path, os.O_WRONLY | os.O_CREAT); os.write(fd, b'v')", path=str(mount.directory / "k"))
        os.kill(mount.store.pid, number)
        with refused(errno.EIO):
            reader.answer(SOON)
        writer("os.close(fd)")
        begun = time.monotonic()
        mount.store.wait(exit_code=1)
        assert time.monotonic() - begun < 5 * SOON
    mount.open()
    mount.store.mount()
    assert (mount.directory / "k").read_bytes() == b"v"


# Others are not held up


POLL = """
import select, threading
file = open(large, "rb")
page = mmap.mmap(file.fileno(), 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
epoll = select.epoll()
epoll.register(os.eventfd(1), select.EPOLLIN)
arguments = epoll.fileno(), ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(page))), 1, -1
poller = threading.Thread(target=ctypes.CDLL(None).epoll_wait, args=arguments)
poller.start()
"""


def test_a_client_that_has_something_locked_while_it_waits(mount: Gated) -> None:
    """It looks up the new name of somebody else, and so is looked at itself, with an epoll that waits for a page."""
    (mount.directory / "large").write_bytes(b"x" * 200_000)
    mount.store.remount()
    with Other() as writer, Other() as client:
        writer("fd = os.open(path, os.O_WRONLY | os.O_CREAT)", path=str(mount.directory / "new"))
        mount.shut(gated.READ)
        client(POLL, large=str(mount.directory / "large"))
        wchan = Path(f"/proc/{client.pid}/task/{client('poller.native_id')}/wchan")
        wait_until(lambda: wchan.read_text() in ("request_wait_answer", "folio_wait_bit_common"))
        client.begin("os.path.exists(path)", path=str(mount.directory / "new"))
        assert client.answer(SOON) is False
        assert os.listdir(mount.directory) == ["large"]
        mount.open()
        client("poller.join()")


LIST = """
file = open(large, "rb")
page = mmap.mmap(file.fileno(), 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(page)))
fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
"""


def test_a_client_that_has_a_directory_locked(tmp_path: Path) -> None:
    """It lists one into a page that is not there yet; what others removed elsewhere is forgotten all the same."""
    with gated_mount(tmp_path) as mount, Other() as client:
        (mount.directory / "large").write_bytes(b"x" * 200_000)
        mount.store.remount()
        names = [mount.directory / directory / "k" for directory in ("locked", "free")]
        for name in names:
            name.parent.mkdir()
            name.write_bytes(b"v")
        client(LIST, large=str(mount.directory / "large"), directory=str(names[0].parent))
        mount.shut(gated.READ)
        client.begin("ctypes.CDLL(None).getdents64(fd, address, 4096)")
        wchan = Path(f"/proc/{client.pid}/wchan")
        wait_until(lambda: wchan.read_text() in ("request_wait_answer", "folio_wait_bit_common"))
        for name in names:
            assert name.exists()
            mount.store.cli("run", "object", "delete", "r", f"{name.parent.name}/k", exit_code=0)
        wait_until(lambda: not names[1].exists(), SOON)
        assert not client.answered(0)
        mount.open()
        client.answer(SOON)
        wait_until(lambda: not names[0].exists(), SOON)


def test_a_client_inside_execve(make_mount: MakeMount) -> None:
    """Its files cannot be looked at while it closes what its new program is not to have, and that may wait for us."""
    store = make_mount()
    (store.pipeline / "p").mkdir()
    with Other() as client:
        client("fd = os.open(path, os.O_WRONLY | os.O_CREAT); os.write(fd, b'v')", path=str(store.pipeline / "p/k"))
        os.kill(store.pid, signal.SIGSTOP)
        try:
            client.begin("os.execv('/bin/true', ['true'])")
            statm = Path(f"/proc/{client.pid}/statm")
            wait_until(lambda: life_of(statm.read_bytes().split()) is Life.IN_EXEC)
            begun = time.monotonic()
            assert not any(holds(client.pid, {1}, for_writing=False) for _ in range(10))
            assert time.monotonic() - begun < SOON
            closers = Closers(60)
            for again in (False, True):
                assert trio.run(closers.closing, Processes().opener(os.getpid()), again, set[int]) is Closing.PLAIN
            assert closers._searches.borrowed_tokens == 0, "a thread waits for it"
        finally:
            os.kill(store.pid, signal.SIGCONT)


def test_the_filesystem_of_a_file_is_told_without_asking_it(make_mount: MakeMount) -> None:
    """The daemon wants to know that of files of its own, and cannot answer meanwhile."""
    store = make_mount()
    mount = mount_at(store.path)
    assert mount is not None
    directory = os.open(store.pipeline, os.O_PATH)
    with ThreadPoolExecutor() as pool:
        os.kill(store.pid, signal.SIGSTOP)
        try:
            assert pool.submit(device_of, directory).result(SOON) == (0, mount.connection)
        finally:
            os.kill(store.pid, signal.SIGCONT)
            os.close(directory)


def use(pipeline: Path) -> None:
    """Everything that takes locks or makes somebody give way, in a pipeline that is full."""
    begun = time.monotonic()
    for number in range(2 * LIMIT):
        path = pipeline / f"u{number}"
        path.write_bytes(b"%d" % number)
        assert path.read_bytes() == b"%d" % number
        path.rename(pipeline / f"renamed{number}")
    assert len(os.listdir(pipeline)) <= LIMIT
    (pipeline / "directory").mkdir()
    (pipeline / "directory").rmdir()
    (pipeline / f"renamed{2 * LIMIT - 1}").unlink()
    assert time.monotonic() - begun < SOON


@pytest.fixture
def store(make_mount: MakeMount) -> MountedStore:
    made = make_mount(pipeline_object_limit=LIMIT)
    (made.pipeline / "p").mkdir()
    return made


WRITE = """
fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
for _ in range(count):
    os.write(fd, b'w' * 100_000)
os.close(fd)
"""


@pytest.mark.parametrize("name", ["new", "k"])
def test_a_client_that_is_stopped_in_the_middle_of_a_put(store: MountedStore, name: str) -> None:
    """Others go on, with the very name too; it goes on as well, and the last to close wins."""
    pipeline = store.pipeline / "p"
    (pipeline / "k").write_bytes(b"old")
    count = 500
    with Other() as writer:
        writer.begin(WRITE, path=str(pipeline / name), count=count)
        written = Path(f"/proc/{writer.pid}/io")
        wait_until(lambda: int(written.read_text().split("wchar: ")[1].split()[0]) > 5_000_000)
        os.kill(writer.pid, signal.SIGSTOP)
        try:
            assert not writer.answered(0), "it was done before it was stopped"
            use(pipeline)
            (pipeline / name).write_bytes(b"by another")
            assert (pipeline / name).read_bytes() == b"by another"
        finally:
            os.kill(writer.pid, signal.SIGCONT)
        writer.answer()
    assert (pipeline / name).read_bytes() == b"w" * (count * 100_000)


def test_a_slow_reader(store: MountedStore) -> None:
    """It has what it opened to the end, and others put, evict and delete meanwhile."""
    pipeline = store.pipeline / "p"
    value = os.urandom(5_000_000)
    (pipeline / "k").write_bytes(value)
    fd = os.open(pipeline / "k", os.O_RDONLY)
    try:
        found = b""
        while len(found) < len(value):
            found += os.read(fd, 1_000_000)
            use(pipeline)
        assert found == value
        assert not (pipeline / "k").exists()
    finally:
        os.close(fd)


def test_a_mount_of_stopped_clients_can_be_ended(store: MountedStore) -> None:
    """SIGTERM waits for who has a file open; one that is stopped and killed is nobody to wait for any more."""
    with Other() as writer:
        writer("fd = os.open(path, os.O_WRONLY | os.O_CREAT); os.write(fd, b'half')", path=str(store.pipeline / "p/k"))
        os.kill(writer.pid, signal.SIGSTOP)
        os.kill(store.pid, signal.SIGTERM)
        wait_until(lambda: "unmounting" in store.log())
        assert mount_at(store.path) is not None
        os.kill(writer.pid, signal.SIGKILL)
        store.wait()
    store.mount()
    assert not (store.pipeline / "p/k").exists()


def test_a_name_that_was_removed_very_often(make_mount: MakeMount) -> None:
    """By a process that has all of these open still, and closed a duplicate of each: nobody looks for them any more."""
    store = make_mount(request_timeout=10)
    path = store.run / "r" / "k"
    path.parent.mkdir()
    with Other() as client:
        client("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (5000, 5000)); fds = []")
        client(
            """
for _ in range(2000):
    fds.append(os.open(path, os.O_CREAT | os.O_RDWR | os.O_EXCL))
    os.unlink(path)
for fd in fds:
    os.close(os.dup(fd))
os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_EXCL))
os.unlink(path)
""",
            path=path,
        )
        assert os.listdir(path.parent) == []
        client("for fd in fds: os.close(fd)")
    assert os.listdir(path.parent) == []
