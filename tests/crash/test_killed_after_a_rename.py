"""A descriptor was closed, then the key renamed or its attributes set: what the last close says survives a kill.

The process keeps a mapping of what it wrote, so that its last close is known and the end of the file is not.
"""

from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import Other
from tests.support.shared_mount import listed

pytestmark = pytest.mark.mount

PUT = "os.O_RDWR | os.O_CREAT | os.O_TRUNC"
MIB = 1024 * 1024


@pytest.fixture
def store(make_mount: MakeMount) -> MountedStore:
    store = make_mount()
    (store.pipeline / "p").mkdir()
    return store


@pytest.fixture
def key(store: MountedStore) -> Path:
    key = store.pipeline / "p/k"
    key.write_text("old")
    key.chmod(0o644)
    return key


def close_once(process: Other, key: Path, value: bytes) -> None:
    """Replace a key and close one of two descriptors, as a child does that inherited it."""
    process(f"k = os.open(path, {PUT}, 0o644); os.write(k, value); os.close(os.dup(k))", path=key, value=value)


@pytest.mark.parametrize("change", ["os.fchmod(k, 0o600)", "os.rename(path, to)"], ids=["fchmod", "rename"])
def test_what_is_written_after_that_does_not_come_back(store: MountedStore, key: Path, change: str) -> None:
    """A large value is stored where it is written: what one close has acknowledged is not to come back half changed."""
    with Other() as process:
        close_once(process, key, b"a" * 8 * MIB)
        process(change, to=key.with_name("l"))
        process(f"for n in range(8): os.pwrite(k, b'b' * {MIB}, n * {MIB})")
        store.kill()
        store.mount()
    assert [(key.parent / name).read_text()[:9] for name in listed(key.parent)] == ["old"]
