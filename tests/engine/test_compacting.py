"""Giving the disk back what a store's file does not need."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import ScopeName
from engine.compacting import compact
from engine.config import ObjectStoreSettings
from engine.errors import InvalidError, OpenError, OutOfSpaceError, UnavailableError
from tests.support import disks
from tests.support.stores import Stores, keys, value, values

APP = ScopeName.pipeline("app")


def settings(stores: Stores) -> ObjectStoreSettings:
    return ObjectStoreSettings(path=str(stores.path))


def test_the_file_becomes_as_small_as_what_is_in_it(stores: Stores) -> None:
    store = stores.open()
    store.create_pipeline(APP.name, 4)
    for number in range(20):
        store.put_object(APP, b"%d" % number, os.urandom(1_000_000))
    kept = {key: value(store, APP, key) for key in keys(store, APP)}
    stores.close(store)
    before, after, _ = compact(settings(stores))
    assert before > 2 * after
    assert after == stores.path.stat().st_blocks * 512
    assert after < 1.1 * 4 * 1_000_000
    store = stores.open()
    assert {key: value(store, APP, key) for key in keys(store, APP)} == kept
    assert store.database.value("PRAGMA journal_mode") == "wal"


def test_refused_while_it_is_mounted(stores: Stores) -> None:
    store = stores.open()
    store.sessions.ensure()
    with pytest.raises(UnavailableError, match=f"in use by process {os.getpid()}"):
        compact(settings(stores))


def test_refused_while_somebody_reads(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.sqlite.connecting.BUSY_TIMEOUT_MS", 10)
    store = stores.open()
    store.create_pipeline(APP.name)
    store.put_object(APP, b"key", b"value")
    with pytest.raises(UnavailableError, match="in use by another process"):
        compact(settings(stores))
    assert value(store, APP, b"key") == b"value"
    assert store.database.value("PRAGMA journal_mode") == "wal"


def test_there_has_to_be_a_file(stores: Stores) -> None:
    with pytest.raises(OpenError, match="there is no store"):
        compact(settings(stores))
    assert not stores.path.exists()
    with pytest.raises(InvalidError, match="no file"):
        compact(ObjectStoreSettings(path=str(stores.path), engine="memory"))


def test_the_data_file_gives_its_space_back_too(stores: Stores) -> None:
    store = stores.open()
    store.create_pipeline(APP.name, 1)
    for number in range(3):
        store.put_object(APP, b"%d" % number, iter([os.urandom(2**20)] * 12))
    kept = value(store, APP, b"2")
    stores.close(store)
    before, after, _ = compact(settings(stores))
    assert before > 2 * after
    assert after < 1.1 * 12 * 2**20
    assert value(stores.open(), APP, b"2") == kept


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A filesystem of 16 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a tmpfs")
    with disks.small_disk(16) as disk:
        yield disk


def fill_up(disk: Path, left: int) -> None:
    status = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(status.f_bavail * status.f_frsize - left))


# Refused where it opens the store, where it deletes what was evicted, and at several points of the new file.
@pytest.mark.parametrize("left", [0, 40_960, 100_000, 1_000_000, 2_000_000, 2_400_000])
def test_a_disk_without_room(small_disk: Path, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", str(small_disk))
    stores = Stores(small_disk)
    store = stores.open()
    store.create_pipeline(APP.name, 60)
    for number in range(61):
        store.put_object(APP, b"%d" % number, os.urandom(40_000))
    kept = values(store, APP)
    stores.close(store)
    fill_up(small_disk, left)
    with pytest.raises(OutOfSpaceError, match=r"takes up to 2\d{6} bytes beside it, and \d+ are free;"):
        compact(settings(stores))
    assert stores.path.read_bytes()[18:20] == b"\x02\x02", "not in WAL mode any more"
    assert not stores.path.with_name(f"{stores.path.name}.new").exists()
    (small_disk / "filler").unlink()
    assert values(stores.open(), APP) == kept
    stores.finish()
    before, after, _ = compact(settings(stores))
    assert after < before
