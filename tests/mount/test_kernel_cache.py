"""What a mount remembers of the kernel's cache: references to inodes, and which of them have a name there."""

import sys
import threading
from collections.abc import Iterator

import pytest
import trio

from engine.model import Removed
from fusefs.kernel import KernelCache
from fusefs.pulse import Pulse


def test_references_are_counted() -> None:
    kernel = KernelCache(Pulse(60, lambda: None))
    kernel.looked_up(20, cached=True)
    kernel.looked_up(20, cached=False)
    assert kernel.knows(20)
    assert kernel.may_cache(20)
    assert not kernel.forget(20, 1)
    assert kernel.may_cache(20)
    assert kernel.forget(20, 1)
    assert not kernel.knows(20)
    assert not kernel.may_cache(20)
    assert kernel.forget(20, 1), "what is not known is forgotten"


def test_a_dropped_name_is_still_known() -> None:
    kernel = KernelCache(Pulse(60, lambda: None))
    kernel.looked_up(20, cached=False)
    assert not kernel.may_cache(20)
    kernel.looked_up(20, cached=True)
    for _ in range(2):
        kernel.drop_soon(Removed(20, 2, b"k", b"pipeline/app/"))
    assert kernel.knows(20)
    assert not kernel.may_cache(20)
    assert sum(map(len, kernel._dropping.values())) == 1
    kernel.drop_soon(Removed(21, 2, b"k", b"pipeline/app/"))
    assert not kernel.knows(21)
    assert not kernel.forget(20, 1)
    assert kernel.forget(20, 1)


def test_what_left_is_known_no_longer_than_its_inode() -> None:
    kernel = KernelCache(Pulse(60, lambda: None))
    kernel.looked_up(20, cached=True)
    kernel.drop_tree_soon(2, b"run", 20)
    assert kernel.leaves(20)
    assert kernel.forget(20, 1)
    assert not kernel.leaves(20)


def test_a_million_inodes_fit_into_memory() -> None:
    kernel = KernelCache(Pulse(60, lambda: None))
    for ino in range(10_000):
        kernel.looked_up(1_000_000 + ino, cached=True)
        kernel.looked_up(1_000_000 + ino, cached=True)
    assert all(value <= 256 for value in kernel._known.values()), "small numbers that Python has once"
    assert sys.getsizeof(kernel._known) / 10_000 < 60


BUSY = 2
"""The directory that somebody has locked."""


class Locked:
    """The kernel, of which one directory is locked until `opened` is set."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.forgotten: list[tuple[int, bytes]] = []
        self.waiting = self.waiting_at_most = 0

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        if parent == BUSY:
            self.waiting += 1
            self.waiting_at_most = max(self.waiting_at_most, self.waiting)
            self.opened.wait()
            self.waiting -= 1
        self.forgotten.append((parent, name))


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Locked]:
    kernel = Locked()
    monkeypatch.setattr("fusefs.kernel.pyfuse3.invalidate_entry", kernel.invalidate_entry)
    yield kernel
    kernel.opened.set()


async def forgotten(locked: Locked, count: int) -> list[tuple[int, bytes]]:
    with trio.fail_after(10):
        while len(locked.forgotten) < count:
            await trio.sleep(0.01)
    return locked.forgotten


@pytest.mark.trio
async def test_a_directory_that_is_locked_holds_up_no_other(locked: Locked, nursery: trio.Nursery) -> None:
    """One thread waits for it, which is none of those that others need; in it, names go in their order."""
    kernel = KernelCache(Pulse(60, lambda: None))
    kernel.drop_name_soon(BUSY, b"first")
    nursery.start_soon(kernel.run)
    many = [b"%d" % number for number in range(200)]
    for name in many:
        kernel.drop_name_soon(BUSY, name)
    kernel.drop_name_soon(3, b"other")
    assert await forgotten(locked, 1) == [(3, b"other")]
    kernel.drop_name_soon(3, b"another")
    assert await forgotten(locked, 2) == [(3, b"other"), (3, b"another")]
    assert locked.waiting_at_most == 1
    assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    locked.opened.set()
    await forgotten(locked, 203)
    assert locked.forgotten[2:] == [(BUSY, name) for name in (b"first", *many)]
    nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_what_is_to_be_dropped_first_is_waited_for_once(
    locked: Locked, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many names that are, in however many directories, one of which is locked."""
    monkeypatch.setattr("fusefs.kernel._WAIT_AT_MOST_S", 0.5)
    kernel = KernelCache(Pulse(60, lambda: None))
    nursery.start_soon(kernel.run)
    begun = trio.current_time()
    await kernel.wait_for(
        kernel.ask_to_drop(*((BUSY, b"%d" % number, 100 + number) for number in range(20)), (3, b"other", 99))
    )
    assert 0.5 <= trio.current_time() - begun < 5
    assert locked.forgotten == [(3, b"other")]
    locked.opened.set()
    await kernel.wait_for(kernel.ask_to_drop((BUSY, b"last", 98)))
    assert len(locked.forgotten) == 22
    nursery.cancel_scope.cancel()
