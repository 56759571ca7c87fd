"""A sync that failed is not made good by one that succeeds: the kernel has dropped what it could not write."""

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from engine import ScopeName
from engine.drafts import Draft
from engine.errors import InternalError
from engine.sqlite.slots import Slots
from tests.support.stores import Stores, directory, new_draft, new_put, value
from tests.support.waiting import wait_until

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


def test_two_sync_the_log_at_once(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells the error to one of them: the other has it written again, and does not take it for synced."""
    store = stores.open()
    store.create_pipeline(APP.name)
    real, calls, told = os.fdatasync, list[str](), dict[str, bool]()
    both = threading.Barrier(2, timeout=10)

    def fdatasync(fd: int) -> None:
        calls.append("sync")
        if len(calls) == 1:
            with suppress(threading.BrokenBarrierError):
                both.wait(0.5)  # the other is there, unless it is made to wait
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        real(fd)

    def pwrite(*call: Any, real: Any = os.pwrite) -> int:
        calls.append("write")
        return int(real(*call))

    def sync(name: str) -> None:
        try:
            store.sync()
            told[name] = True
        except InternalError:
            told[name] = False

    store.put_object(APP, b"k", b"value")
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    monkeypatch.setattr(os, "pwrite", pwrite)
    threads = [threading.Thread(target=sync, args=(name,)) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told.values()) == [False, True]
    assert calls[:2] == ["sync", "write"], "it was told of as synced without having been written again"


class Queue:
    """A lock that counts who comes for it."""

    def __init__(self, lock: threading.Lock) -> None:
        self.came = 0
        self._lock = lock
        self._counting = threading.Lock()

    def __enter__(self) -> None:
        with self._counting:
            self.came += 1
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_who_comes_while_others_wait_need_not_sync_for_itself(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stores.open()
    store.create_pipeline(APP.name)
    real, calls, begun, go_on = os.fdatasync, list[int](), threading.Event(), threading.Event()

    def fdatasync(fd: int) -> None:
        calls.append(fd)
        begun.set()
        go_on.wait(10)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    queue = Queue(store.database.log._syncing)
    monkeypatch.setattr(store.database.log, "_syncing", queue)
    threads = [threading.Thread(target=store.sync) for _ in range(8)]
    threads[0].start()
    begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: queue.came == 8)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 2, "the one under way, and one for all who came meanwhile"


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
