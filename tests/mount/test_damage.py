"""A disk that returns other bytes: EIO for what is damaged, and nothing else is the worse for it."""

import errno
import os

import pytest

from tests.conftest import MakeMount
from tests.support.shared_mount import listed, refused

pytestmark = pytest.mark.mount

VALUES = {"small": b"a small value, to be found", "row": b"R" * 60_000, "large": os.urandom(4_000_000)}


@pytest.mark.parametrize("key", ["row", "large"])
def test_a_damaged_value(make_mount: MakeMount, key: str) -> None:
    store = make_mount()
    directory = store.pipeline / "p"
    directory.mkdir()
    for name, value in VALUES.items():
        (directory / name).write_bytes(value)
    store.unmount()
    file = store.store_path.with_name("objects.db-data") if key == "large" else store.store_path
    content = file.read_bytes()
    places = [at for at in range(len(content)) if content.startswith(VALUES[key][:40], at)]
    at = places[len(places) // 2]
    file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    store.expect_log("damaged")
    store.mount()
    for _ in range(2):
        with refused(errno.EIO):
            (directory / key).read_bytes()
    assert "damaged" in store.log()
    for name in VALUES.keys() - {key}:
        assert (directory / name).read_bytes() == VALUES[name]
    assert sorted(listed(directory)) == sorted(VALUES)
    # An edit in place would take over what is damaged; a Put does not look at it.
    with refused(errno.EIO), (directory / key).open("r+b") as edited:
        edited.write(b"x")
        edited.flush()
    (directory / key).write_bytes(b"put again")
    assert (directory / key).read_bytes() == b"put again"
