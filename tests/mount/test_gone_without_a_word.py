"""What loses its name with many others, or to a Put of a daemon that died, is not taken for something that is there.

Who has just looked it up is told to look again, as its value may be deleted by then.
"""

import errno
import os
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.shared_mount import refused
from tests.support.waiting import wait_for_upkeep, wait_until

pytestmark = pytest.mark.mount


def reopen(fd: int) -> bytes:
    return Path(f"/proc/self/fd/{fd}").read_bytes()


def test_evicted_with_a_thousand_others(mounted: MountedStore) -> None:
    directory = mounted.pipeline / "p"
    directory.mkdir()
    os.setxattr(directory, "fusefs.limit", b"0")
    for number in range(1100):
        (directory / f"{number:04}").write_bytes(b"v" * 100)
    looked_up = os.open(directory / "0000", os.O_PATH)
    try:
        assert reopen(looked_up) == b"v" * 100
        os.setxattr(directory, "fusefs.limit", b"5")
        wait_for_upkeep(mounted.store_path)
        with refused(errno.ESTALE):
            reopen(looked_up)
    finally:
        os.close(looked_up)


def test_replaced_by_what_a_dead_daemon_had_acknowledged(make_mount: MakeMount) -> None:
    killed = make_mount()
    beside = make_mount(store=killed.store)
    (killed.run / "r").mkdir()
    (killed.run / "r/k").write_bytes(b"old")
    key = beside.run / "r/k"
    wait_until(key.exists)
    assert os.listdir(key.parent) == ["k"]
    fd = os.open(killed.run / "r/k", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"newer")
    os.close(os.dup(fd))
    looked_up = os.open(key, os.O_PATH)
    try:
        killed.kill()
        wait_until(lambda: key.read_bytes() == b"newer")
        wait_for_upkeep(beside.store_path)
        with refused(errno.ESTALE):
            reopen(looked_up)
    finally:
        os.close(looked_up)
        with refused(errno.ENOTCONN, errno.ECONNABORTED):
            os.close(fd)
