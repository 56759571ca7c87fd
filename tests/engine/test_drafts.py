"""Drafts against a plain bytearray: whatever is written, cut and read, small or large, in memory or not."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import ScopeName, Store
from engine.drafts import SMALL_BYTES, Draft
from engine.sqlite.extents import CHUNK_BYTES
from tests.support.invariants import check_nothing_left, check_store
from tests.support.stores import Stores, directory, new_draft, new_put, node, reclaim_all, value

APP = ScopeName.pipeline("app")
BOUNDED = settings(max_examples=25, deadline=None, derandomize=True)
EDGES = [0, 1, SMALL_BYTES - 1, SMALL_BYTES, SMALL_BYTES + 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1]
EDGES += [2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 7]


def pattern(length: int, seed: int) -> bytes:
    """Bytes that differ everywhere and with every seed, so that none can stand for another by chance."""
    block = bytes((seed * 31 + number * 7 + 1) % 251 + 1 for number in range(251))
    return (block * (length // 251 + 1))[:length]


@dataclass(frozen=True)
class Step:
    """Something to do to a draft."""

    what: str
    offset: int = 0
    length: int = 0


positions = st.one_of(
    st.sampled_from(EDGES),
    st.integers(0, 200),
    st.integers(0, 4 * CHUNK_BYTES),
    st.integers(SMALL_BYTES - 99, SMALL_BYTES + 99),
)
lengths = st.one_of(st.integers(0, 200), st.sampled_from(EDGES), st.integers(0, 2 * CHUNK_BYTES))
steps = st.lists(
    st.one_of(
        st.builds(Step, st.just("write"), positions, lengths),
        st.builds(Step, st.just("append"), st.just(0), lengths),
        st.builds(Step, st.just("truncate"), positions),
        st.builds(Step, st.just("read"), positions, lengths),
        st.builds(Step, st.sampled_from(["store", "settle", "prepare", "retract", "publish"])),
    ),
    max_size=14,
)
bases = st.one_of(st.none(), st.integers(0, 300), st.sampled_from(EDGES))


class Writer:
    """A draft and the bytearray that it should equal, driven as the mount drives it."""

    def __init__(self, store: Store, base: int | None) -> None:
        self.store = store
        self.top = directory(store, APP)
        self.expected = bytearray()
        content = 0
        if base is not None:
            self.expected += pattern(base, 9)
            store.put_object(APP, b"base", bytes(self.expected))
            content = node(store, APP, b"base").content
            store.contents.pin(content)
        self.base = bytes(self.expected)
        self.draft: Draft = new_draft(store, b"", content, len(self.expected))
        self.put = new_put(store, self.top, b"key")
        self.published: bytes | None = None
        self.has_intent = False
        self.changed = base is None

    def do(self, step: Step, seed: int) -> None:
        {
            "write": self.write,
            "append": self.append,
            "truncate": self.truncate,
            "read": self.read,
            "store": self.store_some,
            "settle": self.settle,
            "prepare": self.prepare,
            "retract": self.retract,
            "publish": self.publish,
        }[step.what](step, seed)
        assert self.draft.size == len(self.expected)

    def _before_change(self) -> None:
        self.changed = True
        if self.has_intent and self.draft.large is not None:
            self.retract()

    def write(self, step: Step, seed: int) -> None:
        self._write(step.offset, pattern(step.length, seed))

    def append(self, step: Step, seed: int) -> None:
        self._write(len(self.expected), pattern(step.length, seed))

    def _write(self, offset: int, data: bytes) -> None:
        if not data:
            return  # write(2) of nothing does not reach a file
        self._before_change()
        self.draft.write(offset, data)
        if len(self.expected) < offset:
            self.expected.extend(bytes(offset - len(self.expected)))
        self.expected[offset : offset + len(data)] = data

    def truncate(self, step: Step, seed: int) -> None:
        self._before_change()
        self.draft.truncate(step.offset)
        del self.expected[step.offset :]
        self.expected.extend(bytes(step.offset - len(self.expected)))

    def read(self, step: Step, seed: int) -> None:
        expected = bytes(self.expected[step.offset : step.offset + step.length])
        assert self.draft.read(step.offset, step.length) == expected

    def store_some(self, step: Step, seed: int) -> None:
        if self.draft.large is not None and self.draft.large.unstored_bytes:
            self.draft.large.store(self.draft.large.take())

    def settle(self, step: Step, seed: int) -> None:
        if self.changed:
            self.store.contents.settle(self.draft)

    def prepare(self, step: Step, seed: int) -> None:
        if self.changed:
            self.store.publisher.prepare(self.put, self.draft, 1)
            self.has_intent = True

    def retract(self, step: Step | None = None, seed: int = 0) -> None:
        if self.has_intent:
            self.store.publisher.retract(self.put.ino, self.draft, 1)
            self.has_intent = False

    def publish(self, step: Step | None = None, seed: int = 0) -> None:
        if self.changed:
            intent = (self.put.ino, 1) if self.has_intent else None
            self.store.publisher.publish(self.put, self.draft, intent)
            self.published = bytes(self.expected)
            self.changed = self.has_intent = False
            self.put = new_put(self.store, self.top, b"key")

    def check(self) -> None:
        assert self.draft.read(0, len(self.expected) + 1) == self.expected
        if self.published is not None:
            assert value(self.store, APP, b"key") == self.published
        found = self.store.tree.child(self.top, b"base")
        assert found is None or self.store.contents.read(found.content, 0, 10**9) == self.base


@contextmanager
def an_empty_store(engine: str) -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as name:
        stores = Stores(Path(name))
        try:
            store = stores.open(engine=engine)
            store.create_pipeline(APP.name)
            yield store
        finally:
            stores.finish()


@pytest.mark.parametrize("engine", ["sqlite", "memory"])
@given(base=bases, steps=steps)
@BOUNDED
def test_a_draft_is_what_was_written_to_it(engine: str, base: int | None, steps: list[Step]) -> None:
    with an_empty_store(engine) as store:
        writer = Writer(store, base)
        for seed, step in enumerate(steps):
            writer.do(step, seed)
        writer.check()
        reclaim_all(store)
        writer.check()
        check_store(store)
        writer.publish()
        writer.check()
        for content in store.contents.pinned():
            store.contents.unpin(content)
        store.publisher.abandon(writer.draft)
        check_nothing_left(store)


# What the random ones may not meet


@pytest.fixture
def store(request: pytest.FixtureRequest, stores: Stores) -> Store:
    store = stores.open(engine=getattr(request, "param", "sqlite"))
    store.create_pipeline(APP.name)
    return store


both = pytest.mark.parametrize("store", ["sqlite", "memory"], indirect=True)


def chunks(store: Store) -> int:
    """How many chunks there are, as rows and in the data file."""
    count: int = store.database.value("SELECT count(DISTINCT chunk) FROM extent")
    return count


@both
def test_a_large_base_is_not_copied_for_a_small_change(store: Store) -> None:
    store.put_object(APP, b"key", pattern(20 * CHUNK_BYTES, 1))
    before = chunks(store)
    found = node(store, APP, b"key")
    draft = new_draft(store, b"", found.content, found.size)
    draft.write(5 * CHUNK_BYTES + 7, b"changed")
    store.publisher.publish(new_put(store, directory(store, APP), b"copy"), draft)
    expected = bytearray(pattern(20 * CHUNK_BYTES, 1))
    assert value(store, APP, b"key") == expected
    expected[5 * CHUNK_BYTES + 7 : 5 * CHUNK_BYTES + 14] = b"changed"
    assert value(store, APP, b"copy") == expected
    if store.contents.shares_catalog:
        assert chunks(store) == before + 1
    store.delete_object(APP, b"key")
    reclaim_all(store)
    assert value(store, APP, b"copy") == expected
    check_nothing_left(store)


@both
def test_a_hole_reads_as_zeros_and_costs_nothing(store: Store) -> None:
    draft = new_draft(store, b"begin")
    draft.truncate(40 * CHUNK_BYTES)
    draft.write(50 * CHUNK_BYTES, b"end")
    store.publisher.publish(new_put(store, directory(store, APP), b"key"), draft)
    expected = b"begin".ljust(50 * CHUNK_BYTES, b"\0") + b"end"
    assert draft.read(0, len(expected)) == expected
    assert value(store, APP, b"key") == expected
    assert store.database.value("SELECT coalesce(sum(length(data)), 0) FROM chunk") < 2 * CHUNK_BYTES


@both
def test_what_was_cut_off_does_not_come_back(store: Store) -> None:
    draft = new_draft(store, b"x" * (3 * CHUNK_BYTES))
    for settled in (False, True):
        if settled:
            store.contents.settle(draft)
        draft.truncate(CHUNK_BYTES + 5)
        draft.truncate(3 * CHUNK_BYTES)
        expected = (b"x" * (CHUNK_BYTES + 5)).ljust(3 * CHUNK_BYTES, b"\0")
        assert draft.read(0, 10**9) == expected
    store.publisher.publish(new_put(store, directory(store, APP), b"key"), draft)
    assert value(store, APP, b"key") == expected


@both
def test_two_drafts_of_one_base_do_not_meet(store: Store) -> None:
    content = pattern(3 * CHUNK_BYTES, 1)
    store.put_object(APP, b"key", content)
    found = node(store, APP, b"key")
    drafts = [new_draft(store, b"", found.content, found.size) for _ in range(2)]
    for number, draft in enumerate(drafts):
        draft.write(CHUNK_BYTES, b"%d" % number)
        store.contents.settle(draft)
    for number, draft in enumerate(drafts):
        expected = content[:CHUNK_BYTES] + b"%d" % number + content[CHUNK_BYTES + 1 :]
        assert draft.read(0, len(content)) == expected
    for draft in drafts:
        store.publisher.abandon(draft)
    assert value(store, APP, b"key") == content
    check_nothing_left(store)


def test_what_is_being_stored_can_be_read_and_changed(store: Store) -> None:
    """`take` in one thread and `store` in another: meanwhile the owner goes on."""
    draft = new_draft(store, b"1" * (2 * CHUNK_BYTES))
    large = draft.large
    assert large is not None
    batch = large.take()
    assert draft.read(0, 4) == b"1111"
    draft.write(1, b"22")
    assert draft.read(0, 4) == b"1221"
    large.store(batch)
    assert draft.read(0, 4) == b"1221"
    store.contents.settle(draft)
    store.publisher.publish(new_put(store, directory(store, APP), b"key"), draft)
    assert value(store, APP, b"key") == b"122" + b"1" * (2 * CHUNK_BYTES - 3)


def test_a_cut_while_it_is_being_stored(store: Store) -> None:
    """Truncation while another thread stores what `take` gave it: what was cut off stays off."""
    draft = new_draft(store, b"1" * (3 * CHUNK_BYTES))
    large = draft.large
    assert large is not None
    batch = large.take()
    draft.truncate(CHUNK_BYTES)
    draft.truncate(3 * CHUNK_BYTES)
    large.store(batch)
    expected = (b"1" * CHUNK_BYTES).ljust(3 * CHUNK_BYTES, b"\0")
    assert draft.read(0, 3 * CHUNK_BYTES) == expected
    store.publisher.publish(new_put(store, directory(store, APP), b"key"), draft)
    assert value(store, APP, b"key") == expected
    check_nothing_left(store)


def test_memory_is_bounded_by_what_is_stored(store: Store) -> None:
    draft = new_draft(store, b"x" * (SMALL_BYTES + 1))
    assert draft.large is not None
    for _ in range(8):
        draft.write(draft.size, b"x" * CHUNK_BYTES)
    assert draft.large.unstored_bytes >= 8 * CHUNK_BYTES
    draft.large.store(draft.large.take())
    assert draft.large.unstored_bytes == 0
    store.publisher.abandon(draft)
    check_nothing_left(store)
