"""What a run held that has expired is there or not there, never damaged."""

import errno
import os

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount


def is_gone(fd: int, value: bytes) -> bool:
    """Open what somebody looked up a while ago. It is what it was, until it is gone."""
    try:
        with open(f"/proc/self/fd/{fd}", "rb") as file:
            assert file.read() == value
            return False
    except OSError as error:
        if error.errno not in (errno.ESTALE, errno.ENOENT):
            raise
        return True


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "by another mount"])
@pytest.mark.parametrize("size", [100, 200_000])
def test_opened_after_its_run_has_expired(make_mount: MakeMount, size: int, elsewhere: bool) -> None:
    store: MountedStore = make_mount(run_object_expiry=1)
    other = make_mount(store=store.store_path) if elsewhere else store
    value = os.urandom(size)
    (store.run / "1").mkdir()
    (store.run / "1/k").write_bytes(value)
    fd = os.open(store.run / "1/k", os.O_PATH)
    try:
        assert not is_gone(fd, value)
        (other.run / "2").mkdir()
        wait_until(lambda: is_gone(fd, value))
        assert os.listdir(store.run) == ["2"]
    finally:
        os.close(fd)
