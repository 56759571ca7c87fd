"""What is kept when the store is mounted again."""

import os
import signal
import stat
import time
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import Other, sh
from tests.support.renaming import EXCHANGE, renameat2
from tests.support.shared_mount import listed

pytestmark = pytest.mark.mount


def _furnish(store: MountedStore) -> None:
    sh(
        """
        mkdir -p pipeline/p/d/e run/r
        echo value > pipeline/p/k; : > pipeline/p/empty; head -c 3000000 /dev/urandom > pipeline/p/d/large
        ln -s d/large pipeline/p/l; chmod 4750 pipeline/p/k; chmod 700 pipeline/p/d
        touch -d '2001-02-03 04:05:06.123456789 UTC' pipeline/p/empty
        cp pipeline/p/d/large run/r/copy; echo more >> run/r/copy; truncate -s 1000 run/r/copy
        """,
        store.path,
    )
    (store.pipeline / "p/\udcff\udcfe").write_text("bytes")
    os.setxattr(store.pipeline / "p/k", "user.color", b"green\0")


def _everything(root: Path) -> dict[str, tuple[object, ...]]:
    result: dict[str, tuple[object, ...]] = {}
    for directory, directories, names in os.walk(root):
        for name in [*directories, *names]:
            path = Path(directory, name)
            found = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(found.st_mode) else None
            target = os.readlink(path) if path.is_symlink() else None
            times = found.st_mtime_ns, found.st_ctime_ns
            result[str(path)] = (found.st_mode, found.st_uid, found.st_gid, found.st_size, *times, content, target)
    return result


@pytest.mark.parametrize("how", ["unmount", "terminate", "kill"])
def test_everything_is_as_it_was(make_mount: MakeMount, how: str) -> None:
    """Once close() has returned, the Put is committed: contents, names, attributes and times after the next mount."""
    store = make_mount()
    _furnish(store)
    before = _everything(store.path)
    assert len(before) == 12
    getattr(store, how)()
    store.mount()
    assert _everything(store.path) == before
    assert os.getxattr(store.pipeline / "p/k", "user.color") == b"green\0"
    assert (store.pipeline / "p/empty").stat().st_mtime_ns == 981_173_106_123_456_789


def test_the_order_of_eviction_is_kept(make_mount: MakeMount) -> None:
    """The order of Puts counts, also those before a remount."""
    store = make_mount(pipeline_object_limit=3)
    sh("mkdir p; cd p; echo > c; echo > a; echo > b; echo > c; touch -d 2001-01-01 b", store.pipeline)
    store.remount()
    sh("echo > d", store.pipeline / "p")
    assert listed(store.pipeline / "p") == ["b", "c", "d"]
    sh("echo > e", store.pipeline / "p")
    assert listed(store.pipeline / "p") == ["c", "d", "e"]


def test_the_order_of_runs_is_kept(make_mount: MakeMount) -> None:
    """A run is gone once `run_object_expiry` newer runs exist, also those before a remount."""
    store = make_mount(run_object_expiry=2)
    sh("mkdir z; mkdir a", store.run)
    store.remount()
    sh("mkdir m", store.run)
    assert listed(store.run) == ["a", "m"]


def test_a_displaced_object_after_a_remount(make_mount: MakeMount) -> None:
    """A crash between the temporary file and its rename leaves at most the limit, whole."""
    store = make_mount(pipeline_object_limit=2)
    sh("mkdir p; cd p; echo a > a; echo b > b; echo x > tmp", store.pipeline)
    store.kill()
    store.detach()
    store.mount()
    assert listed(store.pipeline / "p") == ["b", "tmp"]
    sh("mv tmp b", store.pipeline / "p")
    assert set(listed(store.pipeline / "p")) in ({"a", "b"}, {"b"})
    assert (store.pipeline / "p/b").read_text() == "x\n"


def test_unmounting_waits_for_closed_puts(make_mount: MakeMount) -> None:
    """Unmounting waits until every closed Put is committed."""
    store = make_mount()
    (store.run / "r").mkdir()
    for number in range(20):
        (store.run / f"r/k{number}").write_bytes(bytes([number]) * 200_000)
    store.unmount()
    store.mount()
    assert [(store.run / f"r/k{number}").read_bytes()[:1] for number in range(20)] == [bytes([n]) for n in range(20)]


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.5])
def test_a_kill_at_any_moment(make_mount: MakeMount, seconds: float) -> None:
    """What close() had acknowledged survives the kill -9 of the daemon, and no value is torn."""
    store = make_mount(pipeline_object_limit=0)
    directory = store.pipeline / "p"
    directory.mkdir()
    code = """
done = 0
try:
    while True:
        with open(f"{directory}/k{done % 40}", "wb") as file:
            file.write((b"%08d" % done) * 700)
        done += 1
except OSError:
    pass
"""
    with Other() as writer:
        writer.begin(code, directory=directory)
        time.sleep(seconds)
        os.kill(store.pid, signal.SIGKILL)
        writer.answer()
        done = writer("done")
        store.daemon.wait() if store.daemon is not None else None
    store.daemon = None
    store.detach()
    store.mount()
    for number in range(max(0, done - 40), done):
        value = (directory / f"k{number % 40}").read_bytes()
        assert value in ((b"%08d" % number) * 700, (b"%08d" % (number + 40)) * 700)
    assert len(listed(directory)) in (min(done, 40), min(done + 1, 40))


def test_renames_and_exchanges_are_kept(make_mount: MakeMount) -> None:
    """rename is atomic, and kept."""
    store = make_mount()
    sh("mkdir pipeline/p run/r; echo a > pipeline/p/a; echo b > run/r/b; mkdir run/r/d; echo c > run/r/d/c", store.path)
    renameat2(store.pipeline / "p/a", store.run / "r/b", EXCHANGE)
    os.rename(store.run / "r/d", store.pipeline / "p/d")
    store.kill()
    store.detach()
    store.mount()
    assert sh("cat pipeline/p/a run/r/b pipeline/p/d/c; ls run/r", store.path) == "b\na\nc\nb\n"


def test_mounting_over_a_dead_mount(make_mount: MakeMount) -> None:
    """A daemon that dies leaves its mount dead (ENOTCONN); mounting again over a dead mount of ours just works."""
    store = make_mount()
    sh("mkdir p; echo x > p/k", store.pipeline)
    store.kill()
    with pytest.raises(OSError, match="not connected"):
        (store.pipeline / "p/k").read_text()
    store.mount()
    assert (store.pipeline / "p/k").read_text() == "x\n"
