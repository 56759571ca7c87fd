"""What another process has just taken away, while some write it: who opens it now begins anew."""

import os

from engine import ScopeName, open_store
from engine.config import ObjectStoreSettings
from tests.conftest import MakeMount
from tests.support.processes import Other


def test_an_append_beside_a_put(make_mount: MakeMount) -> None:
    """Before the mount has heard of the deletion, too: an appending handle shows nothing of the deleted value."""
    store = make_mount()
    (store.pipeline / "p").mkdir()
    with open_store(ObjectStoreSettings(path=store.store)) as beside, Other() as other:
        for number in range(10):
            path = store.pipeline / "p" / f"k{number}"
            path.write_bytes(b"old")
            other("k = open(path, 'wb'); k.write(b'put'); k.flush()", path=path)
            beside.delete_object(ScopeName.pipeline("p"), os.fsencode(path.name))
            appending = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            os.write(appending, b"new")
            assert os.pread(appending, 100, 0) == b"new"
            os.close(appending)
            assert path.read_bytes() == b"new"
            other("k.close()")
            assert path.read_bytes() == b"put"
