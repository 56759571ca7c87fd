"""The daemon from its start to its end: signals, unmounting, many mounts, many clients, and doing nothing."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from fusefs.presence import server
from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import Other, end, sh, start_python
from tests.support.scratch import mount_at
from tests.support.shared_mount import refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

SIGNALS = [signal.SIGTERM, signal.SIGINT]
GONE = (2, 103, 107)  # ENOENT, ECONNABORTED, ENOTCONN


def make_object(store: MountedStore, value: bytes = b"v") -> Path:
    (store.pipeline / "p").mkdir()
    (store.pipeline / "p/k").write_bytes(value)
    return store.pipeline / "p/k"


# Signals


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_for_those_who_have_files_open(make_mount: MakeMount, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end the daemon cleanly, and a Put that is closed soon after is not lost."""
    store = make_mount()
    path = make_object(store, b"x" * 3_000_000)
    reader, writer = os.open(path, os.O_RDONLY), os.open(store.pipeline / "p/new", os.O_WRONLY | os.O_CREAT)
    os.write(writer, b"late")
    os.kill(store.pid, number)
    time.sleep(0.5)
    assert len(os.pread(reader, 1_000_000, 2_000_000)) == 1_000_000
    os.close(writer)
    os.close(reader)
    begun = time.monotonic()
    store.wait()
    assert time.monotonic() - begun < 5
    store.mount()
    assert (store.pipeline / "p/new").read_bytes() == b"late"


@pytest.mark.slow
def test_a_signal_does_not_wait_for_ever(make_mount: MakeMount) -> None:
    """Readers that never close do not keep the daemon: it ends cleanly all the same, and they are told."""
    stores = [make_mount() for _ in SIGNALS]
    readers = [os.open(make_object(store), os.O_RDONLY | os.O_DIRECT) for store in stores]
    for store, number in zip(stores, SIGNALS, strict=True):
        os.kill(store.pid, number)
    for store, reader in zip(stores, readers, strict=True):
        store.wait()
        with refused(*GONE):
            os.read(reader, 1)
        with suppress(OSError):
            os.close(reader)
        assert os.listdir(store.path) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_the_moment_in_which_the_mount_appears(number: signal.Signals) -> None:
    """A service that is stopped while it starts leaves no dead mount behind."""
    store = MountedStore()
    try:
        store.start()
        while mount_at(store.path) is None:
            assert store.daemon is not None
            assert store.daemon.poll() is None, store.log()
        os.kill(store.pid, number)
        store.wait()
    finally:
        store.close()


@contextmanager
def tmpfs_on(path: Path) -> Iterator[None]:
    sh(f"mount -t tmpfs -o size=1m fusefs-test {path}", path.parent)
    try:
        yield
    finally:
        sh(f"umount {path}", path.parent)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a tmpfs")
def test_a_signal_leaves_what_others_mounted_alone(make_mount: MakeMount) -> None:
    """Neither what is mounted over ours is unmounted, nor what is left there when ours is detached already."""
    covered, detached = make_mount(), make_mount()
    detached.unmount()
    with ExitStack() as stack:
        stack.enter_context(tmpfs_on(detached.path))
        detached.mount()
        reader = os.open(make_object(detached), os.O_RDONLY)
        sh("umount -l mount", detached.directory)
        stack.enter_context(tmpfs_on(covered.path))
        for store in (covered, detached):
            os.kill(store.pid, signal.SIGTERM)
        for store in (covered, detached):
            assert store.daemon is not None
            assert store.daemon.wait(30) == 0, store.log()
            store.daemon = None
            assert os.path.ismount(store.path)
            assert os.listdir(store.path) == []
        with refused(*GONE):
            os.close(reader)


# Unmounting


def test_umount_of_a_mount_that_is_in_use(make_mount: MakeMount) -> None:
    """It says so, and by whom, and the mount goes on."""
    store = make_mount()
    path = make_object(store)
    with Other() as inhabitant:
        inhabitant("os.chdir(path)", path=str(path.parent))
        done = store.cli("umount", str(store.path), exit_code=1)
        assert b"busy" in done.stderr
        assert str(inhabitant.pid).encode() in done.stderr
        assert path.read_bytes() == b"v"
        inhabitant("os.chdir('/')")
        store.cli("umount", str(store.path), exit_code=0)
    store.wait()


PUTS = """
import os, sys
for number in range(int(sys.argv[2])):
    with open(f"{sys.argv[1]}.{number}", "wb") as file:
        file.write(b"%d." % number * 50)
with open(f"{sys.argv[1]}.large", "wb") as file:
    file.write(bytes(3_000_000))
"""


def test_unmounting_commits_every_closed_put(make_mount: MakeMount) -> None:
    """Unmounting waits until every closed Put is committed."""
    store = make_mount()
    (store.run / "1").mkdir()
    end([start_python(PUTS, store.run / f"1/w{number}", 100) for number in range(4)])
    store.cli("umount", str(store.path), exit_code=0)
    # The command has waited for the daemon: what the store has now is all.
    listed = store.cli("run", "object", "list", "1", exit_code=0).stdout.decode().split()
    assert sorted(listed) == sorted(f"w{w}.{n}" for w in range(4) for n in [*range(100), "large"])
    assert len(store.cli("run", "object", "get", "1", "w3.large", exit_code=0).stdout) == 3_000_000
    store.wait()


# In the background


@pytest.fixture
def background(make_mount: MakeMount) -> Iterator[MountedStore]:
    """A store whose daemon was sent to the background by the command."""
    store = make_mount()
    store.unmount()
    try:
        store.cli("mount", str(store.path), exit_code=0)
        yield store
    finally:
        if mount_at(store.path) is not None:
            store.cli("umount", str(store.path), exit_code=0)


def test_a_mount_in_the_background(background: MountedStore) -> None:
    """`mount` returns when the mount answers, and the daemon goes on when whoever started it is gone."""
    (background.pipeline / "p").mkdir()
    pid = server(str(background.path))
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGHUP)
    (background.pipeline / "p/k").write_text("v")
    assert (background.pipeline / "p/k").read_text() == "v"
    assert background.cli("pipeline", "object", "get", "p", "k", exit_code=0).stdout == b"v"
    background.cli("umount", str(background.path), exit_code=0)
    assert not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


def test_a_signal_to_a_mount_in_the_background(background: MountedStore) -> None:
    """SIGTERM unmounts."""
    pid = server(str(background.path))
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while mount_at(background.path) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert os.listdir(background.path) == []
    wait_until(lambda: server(str(background.path)) is None)  # it still closes its store


# Many


def test_many_mounts_at_once(make_mount: MakeMount) -> None:
    """Mounts of different stores have nothing to do with each other."""
    stores = [make_mount() for _ in range(5)]
    for number, store in enumerate(stores):
        (store.pipeline / "p").mkdir()
        (store.pipeline / "p/k").write_text(f"store {number}")
    stores[1].kill()
    stores[2].terminate()
    for number in (0, 3, 4):
        assert (stores[number].pipeline / "p/k").read_text() == f"store {number}"
    for number in (1, 2):
        stores[number].mount()
        assert (stores[number].pipeline / "p/k").read_text() == f"store {number}"


CLIENTS = """
for i in $(seq 100); do
    (
        mkdir p$i && echo $i > p$i/k && [ "$(cat p$i/k)" = $i ] && mkdir p$i/d && echo b > p$i/d/b &&
        mv p$i/d/b p$i/c &&
        [ "$(ls p$i)" = "c"$'\\n'"d"$'\\n'"k" ] && rm p$i/k && ! test -e p$i/k && rm -r p$i || echo "failed: $i"
    ) &
done
wait
"""


def test_a_hundred_clients_at_once(make_mount: MakeMount) -> None:
    """More clients than requests that are served at once: each gets what it asked for."""
    store = make_mount()
    assert sh(CLIENTS, store.pipeline) == ""
    assert os.listdir(store.pipeline) == []


def test_a_client_that_is_killed_in_its_request(make_mount: MakeMount) -> None:
    """Killed writers leave nothing behind that would keep the mount busy."""
    store = make_mount()
    (store.pipeline / "p").mkdir()
    code = (
        "import os, sys, itertools\n"
        "for n in itertools.count():\n"
        " fd = os.open(f'{sys.argv[1]}/{n % 7}', os.O_RDWR | os.O_CREAT)\n os.write(fd, b'x' * 200_000)\n os.close(fd)"
    )
    for seconds in (0.11, 0.15, 0.2):
        writers = [start_python(code, store.pipeline / "p") for _ in range(3)]
        time.sleep(seconds)
        for writer in writers:
            writer.kill()
            writer.communicate(timeout=20)
    for name in os.listdir(store.pipeline / "p"):
        assert len((store.pipeline / "p" / name).read_bytes()) == 200_000
    store.unmount()


# Nothing left


def test_it_ends_with_nothing_left_behind(make_mount: MakeMount) -> None:
    """No lock, log or temporary file of the database stays, and no process."""
    store = make_mount()
    make_object(store)
    pid = store.pid
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True).stdout.split()
    store.unmount()
    assert [child for child in children if Path(f"/proc/{child}").exists()] == []
    left = sorted(path.name for path in store.directory.glob("objects.db*"))
    assert [name for name in left if name.endswith(("-wal", "-shm", "-journal"))] == []
    assert "objects.db" in left
