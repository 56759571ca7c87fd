"""A sync that failed is not made good by one that succeeds: the kernel has dropped what it could not write."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import ScopeName
from engine.drafts import Draft
from engine.errors import InternalError
from engine.sqlite.slots import Slots
from tests.support.stores import Stores, directory, new_draft, new_put, value

APP = ScopeName.pipeline("app")
LARGE = os.urandom(12 * 256 * 1024)


def failing_once(monkeypatch: pytest.MonkeyPatch, suffix: str) -> Callable[[], bool]:
    """Let the next fdatasync of the store's file with this suffix fail; returns whether it has."""
    real, failed = os.fdatasync, []

    def fdatasync(fd: int) -> None:
        if not failed and os.readlink(f"/proc/self/fd/{fd}").endswith(suffix):
            failed.append(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    return lambda: bool(failed)


def test_the_log_is_written_again(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, before a sync or a checkpoint counts again."""
    store = stores.open()
    store.create_pipeline(APP.name)
    store.put_object(APP, b"k", b"value")
    for again in (store.sync, store.database.log.checkpoint):
        with monkeypatch.context() as patch:
            failed = failing_once(patch, "-wal")
            with pytest.raises(InternalError):
                store.sync()
            assert failed()
        written, real = [0], os.pwrite
        with monkeypatch.context() as patch:

            def pwrite(*call: Any, written: list[int] = written, real: Any = real) -> int:
                written.append(real(*call))
                return written[-1]

            patch.setattr(os, "pwrite", pwrite)
            again()
            assert sum(written) == Path(f"{stores.path}-wal").stat().st_size
            written.clear()
            again()
            assert not written  # once is enough
    assert value(store, APP, b"k") == b"value"


def test_whatever_was_in_the_data_file_then_is_refused(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only what was being synced, and however often it is tried."""
    store = stores.open()
    store.create_pipeline(APP.name)
    home = directory(store, APP)
    first, second = new_draft(store, LARGE), new_draft(store, LARGE)
    assert second.large is not None
    second.large.store(second.large.take())
    failed = failing_once(monkeypatch, "-data")

    def prepare(name: bytes, draft: Draft) -> None:
        store.publisher.prepare(new_put(store, home, name), draft, 1)

    for name, draft in ((b"first", first), (b"first", first), (b"second", second)):
        with pytest.raises(InternalError):
            prepare(name, draft)
    assert failed()
    for draft in (first, second):
        store.publisher.abandon(draft)
    store.put_object(APP, b"third", LARGE)
    assert value(store, APP, b"third") == LARGE


def test_a_piece_that_could_not_be_stored_is_stored_the_next_time(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores.open()
    store.create_pipeline(APP.name)
    put, draft = new_put(store, directory(store, APP), b"k"), new_draft(store, LARGE)
    with monkeypatch.context() as patch:
        patch.setattr(Slots, "write", lambda *_: (_ for _ in ()).throw(InternalError("injected")))
        with pytest.raises(InternalError):
            store.publisher.prepare(put, draft, 1)
    store.publisher.prepare(put, draft, 1)
    store.publisher.publish(put, draft, (put.ino, 1))
    assert value(store, APP, b"k") == LARGE
