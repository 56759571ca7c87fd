"""A descriptor was closed, then the key renamed or its attributes set: what the last close says survives a kill.

The process keeps a mapping of what it wrote, so that its last close is known and the end of the file is not.
"""

import stat
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


def close_and_kill(process: Other, store: MountedStore) -> None:
    process("m = mmap.mmap(k, 3, mmap.MAP_PRIVATE, mmap.PROT_READ); os.close(k)")
    store.kill()
    store.mount()


def test_it_comes_back_under_its_new_name(store: MountedStore, key: Path) -> None:
    with Other() as process:
        close_once(process, key, b"new")
        process("os.rename(path, to)", to=key.with_name("l"))
        close_and_kill(process, store)
        assert {name: (key.parent / name).read_text() for name in listed(key.parent)} == {"l": "new"}


@pytest.mark.parametrize("size", [3, 300_000])
def test_it_is_renamed_after_its_last_close(store: MountedStore, key: Path, size: int) -> None:
    with Other() as process:
        close_once(process, key, b"n" * size)
        process("m = mmap.mmap(k, 3, mmap.MAP_PRIVATE, mmap.PROT_READ); os.close(k)")
        process("os.rename(path, to)", to=key.with_name("l"))
        store.kill()
        store.mount()
        assert {name: (key.parent / name).stat().st_size for name in listed(key.parent)} == {"l": size}


def test_it_comes_back_with_its_new_mode(store: MountedStore, key: Path) -> None:
    """Also where another process has written last, a Put of its own."""
    with Other() as process, Other() as other:
        other(f"k = os.open(path, {PUT}, 0o644)", path=key)
        close_once(process, key, b"new")
        other("os.write(k, b'other')")
        process("os.fchmod(k, 0o600)")
        close_and_kill(process, store)
        assert (key.read_text(), stat.S_IMODE(key.stat().st_mode)) == ("new", 0o600)


def test_it_comes_back_after_a_truncate_by_path(store: MountedStore, key: Path) -> None:
    """Which is a Put of another process, that comes and goes."""
    with Other() as process, Other() as other:
        close_once(process, key, b"new")
        other("os.truncate(path, 1)", path=key)
        process("os.fchmod(k, 0o600)")
        close_and_kill(process, store)
        assert (key.read_text(), stat.S_IMODE(key.stat().st_mode)) == ("new", 0o600)


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
