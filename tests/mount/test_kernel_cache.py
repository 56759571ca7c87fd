"""What a mount remembers of the kernel's cache: references to inodes, and which of them have a name there."""

import sys

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
    assert kernel._receive.statistics().current_buffer_used == 1
    kernel.drop_soon(Removed(21, 2, b"k", b"pipeline/app/"))
    assert not kernel.knows(21)
    assert not kernel.forget(20, 1)
    assert kernel.forget(20, 1)


def test_a_million_inodes_fit_into_memory() -> None:
    kernel = KernelCache(Pulse(60, lambda: None))
    for ino in range(10_000):
        kernel.looked_up(1_000_000 + ino, cached=True)
        kernel.looked_up(1_000_000 + ino, cached=True)
    assert all(value <= 256 for value in kernel._known.values()), "small numbers that Python has once"
    assert sys.getsizeof(kernel._known) / 10_000 < 60
