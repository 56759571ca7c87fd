"""A mount that whoever started it wants no more, or never heard of: what was there before is there again."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from fusefs.daemon import GIVEN_UP
from fusefs.presence import server
from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.scratch import detach, make_directory, mount_at, remove_directory
from tests.support.shared_mount import refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

OPTIONS = pytest.mark.parametrize("options", [[], ["--leave-dead"]], ids=["", "leave dead"])


def give_up(store: MountedStore) -> None:
    os.kill(store.pid, GIVEN_UP)
    assert store.daemon is not None
    assert store.daemon.wait(20) == 0
    store.daemon = None


@OPTIONS
def test_where_there_was_none_there_is_none(make_mount: MakeMount, options: list[str]) -> None:
    store = make_mount(options=options)
    give_up(store)
    assert mount_at(store.path) is None
    (store.path / "mine").touch()
    (store.path / "mine").unlink()


@OPTIONS
def test_one_in_the_place_of_a_dead_one_is_left_dead(make_mount: MakeMount, options: list[str]) -> None:
    """Jobs go on in there, and are not to fill the directory below."""
    store = make_mount(options=options)
    store.kill()
    store.mount()
    give_up(store)
    with refused(errno.ENOTCONN):
        os.listdir(store.path)


@OPTIONS
def test_a_command_that_is_interrupted_late(environment: dict[str, str], options: list[str]) -> None:
    """When the kernel has the mount already."""
    scratch = make_directory()
    path = scratch / "m"
    path.mkdir()
    # A shell without job control has those in the background ignore it.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "fusefs", "mount", *options, str(path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while mount_at(path) is None:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    try:
        if process.returncode == 0:  # it was not in time, and what it says is so
            assert (server(str(path)) is not None, said) == (True, "")
        else:
            assert (process.returncode, said.strip()) == (130, "fusefs: interrupted")
            wait_until(lambda: server(str(path)) is None)
            assert mount_at(path) is None
            (path / "mine").touch()
    finally:
        while (mount := mount_at(path)) is not None:
            detach(mount)
        wait_until(lambda: server(str(path)) is None)
        remove_directory(scratch)
