"""Giving the disk back what a store's file does not need."""

import os

import pytest

from engine import ScopeName
from engine.compacting import compact
from engine.config import ObjectStoreSettings
from engine.errors import InvalidError, OpenError, UnavailableError
from tests.support.stores import Stores, keys, value

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
