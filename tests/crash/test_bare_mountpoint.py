"""Below a mount whose daemon died lies no ordinary empty directory that jobs would fill with success."""

import errno
import os
import signal
import subprocess
import time

import pytest

from tests.conftest import MakeMount
from tests.crash.test_watchdog import watchdog_of
from tests.support.mounting import MountedStore
from tests.support.shared_mount import refused
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory immutable"),
]


def is_protected(store: MountedStore) -> bool:
    return (
        "i"
        in subprocess.run(["lsattr", "-d", str(store.path)], capture_output=True, text=True, check=True).stdout.split()[
            0
        ]
    )


def kill_and_detach(store: MountedStore) -> None:
    store.kill()
    store.detach()
    wait_until(lambda: is_protected(store))


def test_it_refuses_writes(mounted: MountedStore) -> None:
    kill_and_detach(mounted)
    for write in (lambda: (mounted.path / "k").write_text("x"), lambda: (mounted.path / "d").mkdir()):
        with refused(errno.EPERM):
            write()
    assert os.listdir(mounted.path) == []


def test_mounting_again_just_works(mounted: MountedStore) -> None:
    mounted.pipeline.joinpath("p").mkdir()
    kill_and_detach(mounted)
    mounted.mount()
    assert os.listdir(mounted.pipeline) == ["p"]
    mounted.unmount()
    assert not is_protected(mounted)
    (mounted.path / "mine").touch()
    (mounted.path / "mine").unlink()


def test_mounting_over_the_dead_mount(mounted: MountedStore) -> None:
    mounted.kill()
    mounted.mount()
    mounted.unmount()
    time.sleep(0.2)  # nobody protects it late
    assert not is_protected(mounted)


def test_unmounting_the_dead_mount_gives_it_back(mounted: MountedStore) -> None:
    watchdogs = subprocess.run(
        ["pgrep", "-P", str(mounted.pid)], capture_output=True, check=True, text=True
    ).stdout.split()
    mounted.kill()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in watchdogs))
    mounted.cli("umount", str(mounted.path), exit_code=0)
    assert not is_protected(mounted)


@pytest.mark.parametrize(("end", "options"), [("unmount", []), ("terminate", []), ("unmount", ["--leave-dead"])])
def test_an_orderly_end_leaves_an_ordinary_directory(make_mount: MakeMount, end: str, options: list[str]) -> None:
    mounted = make_mount(options=options)
    getattr(mounted, end)()
    assert not is_protected(mounted)
    mounted.path.rmdir()
    mounted.path.mkdir()


def test_the_watchdog_dies_with_the_daemon(make_mount: MakeMount) -> None:
    """As where a container ends with its first process: what leaves its mount dead need not do anything then."""
    store = make_mount(options=["--leave-dead"])
    os.kill(watchdog_of(store), signal.SIGKILL)
    store.kill()
    store.detach()
    assert is_protected(store)
    with refused(errno.EPERM):
        (store.path / "k").write_text("x")
    store.mount()
    store.unmount()
    assert not is_protected(store)


def test_what_somebody_else_made_immutable_stays_so(make_mount: MakeMount) -> None:
    store = make_mount()
    store.unmount()
    subprocess.run(["chattr", "+i", str(store.path)], check=True)
    try:
        done = store.cli("mount", str(store.path))
        assert done.returncode != 0
        assert is_protected(store)
    finally:
        subprocess.run(["chattr", "-i", str(store.path)], check=True)
