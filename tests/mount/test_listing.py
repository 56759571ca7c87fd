"""Listing without a mount: what of a directory is read when, what is given out, and what is remembered of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from engine import ScopeName, Store
from engine.model import RUNS_INO, NodeRow
from fusefs.kernel import LONG_S
from fusefs.listings import _KEPT as KEPT
from fusefs.listings import DirectoryHandle, Listings
from fusefs.namespace import Namespace
from fusefs.publication import Publication
from tests.support.states import mount_state
from tests.support.stores import Stores, directory, node

RUN = ScopeName.run("1")
LARGE = 1100
PAGE = 512
"""Names that are read at once."""
PIECE = 200
"""Names in one answer to the kernel."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with a run."""
    opened = Stores(tmp_path)
    store = opened.open()
    store.start_run(RUN.name)
    yield store
    opened.finish()


def put(store: Store, *keys: str) -> None:
    for key in keys:
        store.put_object(RUN, key.encode(), b"", force=True)


def many(count: int) -> list[str]:
    return [f"k{number:04}" for number in range(count)]


class Listing:
    """The run as the kernel lists it, piece by piece, and how often that reads."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        ino = directory(store, RUN)
        found = store.tree.node(ino)
        assert found is not None
        self.handle = DirectoryHandle(store.tree, found, Listings())
        self.position = 0
        self.reads = 0
        rows = store.tree.rows

        def counted(parent: int, after: bytes, limit: int) -> list[NodeRow]:
            self.reads += 1
            return rows(parent, after, limit)

        monkeypatch.setattr(store.tree, "rows", counted)

    def take(self, count: int = PIECE) -> list[str]:
        """The next names, in one answer; those that are gone with a minus."""
        names: list[str] = []
        for rows, position, exist in self.handle.entries(self.position):
            for row in rows[: count - len(names)]:
                names.append(("" if exist else "-") + row[2].decode())
                self.position = position or row[0]
            if len(names) == count:
                break
        return names

    def read_ahead(self) -> None:
        if self.handle.goes_on:
            trio.run(self.handle.read_ahead)

    def rest(self) -> list[str]:
        """What is left, read ahead between the pieces."""
        names = []
        while piece := self.take():
            names += piece
            self.read_ahead()
        return names


@pytest.fixture
def listing(store: Store, monkeypatch: pytest.MonkeyPatch) -> Listing:
    return Listing(store, monkeypatch)


def test_a_page_is_read_once(store: Store, listing: Listing) -> None:
    """However small the pieces are, and whether it was read ahead or not."""
    put(store, *many(LARGE))
    names = []
    while piece := listing.take(7):
        names += piece
    assert names == many(LARGE)
    assert listing.reads == 3
    listing.position = listing.reads = 0
    assert listing.rest() == many(LARGE)
    assert listing.reads == 3


def test_what_was_read_ahead_is_given_out_without_reading(store: Store, listing: Listing) -> None:
    put(store, *many(LARGE))
    listing.take()
    listing.read_ahead()
    assert listing.reads == 2
    assert listing.take(800) == many(1000)[200:]
    assert listing.reads == 2
    assert listing.rest() == many(LARGE)[1000:]
    assert listing.reads == 3
    assert not listing.handle.goes_on, "the last page was not full"


@pytest.mark.parametrize("taken", [PIECE, PAGE])
def test_what_has_changed_since_is_read_again(store: Store, listing: Listing, taken: int) -> None:
    """What is left of the page and what was read ahead, also where just that is wanted next."""
    put(store, *many(LARGE))
    listing.take(taken)
    listing.read_ahead()
    assert listing.reads == 2
    for key in (b"k0300", b"k0600"):
        store.delete_object(RUN, key)
    put(store, "k0600a")
    now = sorted({*many(LARGE), "k0600a"} - {"k0300", "k0600"})
    assert listing.rest() == [name for name in now if name >= many(LARGE)[taken]]


def test_what_another_process_changed_is_read_again(store: Store, listing: Listing, tmp_path: Path) -> None:
    """As soon as this one has heard of it."""
    put(store, *many(LARGE))
    listing.take()
    listing.read_ahead()
    other = Stores(tmp_path)
    other.open().delete_object(RUN, b"k0600")
    other.finish()
    store.tree.note_change()
    assert listing.rest() == [name for name in many(LARGE)[PIECE:] if name != "k0600"]


def test_nothing_is_read_ahead_where_it_would_be_wrong_soon(store: Store, listing: Listing) -> None:
    put(store, *many(LARGE))
    listing.take()
    assert listing.handle.goes_on
    put(store, "other")
    assert not listing.handle.goes_on


@pytest.mark.parametrize("taken", [PIECE, PAGE + PIECE])
def test_a_rewound_listing_forgets_what_was_read_ahead(store: Store, listing: Listing, taken: int) -> None:
    put(store, *many(LARGE))
    listing.take(taken)
    listing.read_ahead()
    listing.position = 0
    assert listing.rest() == many(LARGE)


def test_a_small_directory_is_read_once(store: Store, listing: Listing) -> None:
    put(store, *many(500))
    assert listing.rest() == many(500)
    assert listing.reads == 1


def test_a_small_directory_is_listed_as_it_was(store: Store, listing: Listing) -> None:
    """With what has gone since, and with what stands for a name now; without what has come."""
    put(store, *many(500))
    listing.take()
    old = node(store, RUN, b"k0400").ino
    store.delete_object(RUN, b"k0300")
    put(store, "k0400", "new")
    replaced = [(row, at) for rows, at, _ in listing.handle.entries(listing.position) for row in rows if at == old]
    assert replaced == [(node(store, RUN, b"k0400"), old)]
    assert listing.rest() == [name if name != "k0300" else "-k0300" for name in many(500)[PIECE:]]


def test_listed_nodes_are_remembered(store: Store) -> None:
    """For the open that follows, until they lose their names, and not more of them than of what was looked up."""
    put(store, "k", *many(LARGE))
    store.tree.make_directory(directory(store, RUN), b"d", 0o755, 0, 0)
    state = mount_state(store)
    rows = store.tree.rows(directory(store, RUN), b"", 10_000)
    state.remember_listed(rows, cached=True)
    first = node(store, RUN, b"k")
    store.delete_object(RUN, b"k")
    assert state.value(first.ino) == first
    assert state.kernel.may_cache(first.ino)
    assert [known.name for known in state.directories.values()] == [b"d"]
    state.remember_listed(rows, cached=True)
    state.forget(first.ino, 2)
    assert state.value(first.ino) is None
    for _ in range(10):
        state.remember_listed(rows, cached=True)
    recent = state.recent
    assert recent._listed_count == sum(map(len, recent._listed)) <= 4096


def test_what_is_listed_after_it_is_gone_is_not_remembered(store: Store, names: Namespace) -> None:
    """A slow lister is given it, for nobody to take it for one that is there."""
    put(store, *many(3))
    state, run = names._state, directory(store, RUN)
    number = names.open_directory(run, 0)
    first, *_ = [rows for rows, _, position in names.entries(number, 0) if not position]
    old = node(store, RUN, b"k0001")
    state.retire(store.tree.remove(run, old.name)[0])
    late = [(rows, seconds) for rows, seconds, _ in names.entries(number, first[0][0])]
    assert [(row[2], seconds) for rows, seconds in late for row in rows] == [(b"k0001", 0.0), (b"k0002", LONG_S)]
    for rows, seconds in late:
        state.remember_listed(rows, cached=seconds > 0)
    assert state.value(old.ino) is None
    assert state.value(node(store, RUN, b"k0002").ino) is not None


def test_listings_without_end_keep_no_more(store: Store, listing: Listing) -> None:
    """What is kept for all of them is bounded; the one that was read longest ago goes on where it was."""
    put(store, *many(LARGE))
    listing.take()
    listings = listing.handle._listings
    others = [DirectoryHandle(store.tree, listing.handle.node, listings) for _ in range(200)]
    for handle in others:
        assert sum(1 for _ in handle.entries(0)) == 3
    held = [handle for handle in (listing.handle, *others) if handle._pages]
    assert sum(len(page.rows) for handle in held for page in handle._pages) == listings._kept <= KEPT
    assert others[-1] in held
    assert listing.handle not in held
    assert listing.rest() == many(LARGE)[PIECE:]
    for handle in (listing.handle, *others):
        listings.drop(handle)
    assert listings._kept == 0


def test_a_small_directory_that_was_forgotten_and_grows(store: Store, listing: Listing) -> None:
    """What stays in it is given out, however many names come before that."""
    put(store, *many(300))
    given = listing.take()
    listing.handle.forget()
    put(store, *(f"k0250-{number:03}" for number in range(2 * PAGE)))
    rest = listing.rest()
    assert rest == sorted({*many(300), *(f"k0250-{number:03}" for number in range(2 * PAGE))})[PIECE:]
    assert {*many(300)} <= {*given, *rest}


def test_going_back_in_a_small_directory_that_was_forgotten(store: Store, listing: Listing) -> None:
    put(store, *many(300))
    listing.take(50)
    position = listing.position
    listing.take()
    listing.handle.forget()
    listing.take(10)
    listing.position = position
    assert listing.rest() == many(300)[50:]


def test_long_attributes_and_targets_are_not_listed(store: Store) -> None:
    """A listing holds at most 512 bytes of each, so that it takes no more memory than its names."""
    put(store, "long", "short")
    for name, packed in (("long", b"x" * 513), ("short", b"x" * 512)):
        store.tree.set_xattrs(node(store, RUN, name.encode()).ino, packed)
    store.tree.make_symlink(directory(store, RUN), b"target", b"t" * 513, 0, 0)
    rows = {row[2]: row[-2:] for row in store.tree.rows(directory(store, RUN), b"", 10)}
    assert rows == {b"long": (None, b""), b"short": (None, b"x" * 512), b"target": (b"", None)}


@pytest.fixture
def names(store: Store) -> Namespace:
    state = mount_state(store)
    return Namespace(state, Publication(state))


def test_a_directory_that_is_closed_keeps_nothing(store: Store, names: Namespace) -> None:
    put(store, *many(3))
    number = names.open_directory(directory(store, RUN), 0)
    assert len(list(names.entries(number, 0))) == 3
    assert names._listings._kept == 3
    names.close_directory(number)
    assert names._listings._kept == 0


def test_what_has_expired_is_not_listed(store: Store, names: Namespace) -> None:
    """It is there until it is deleted, piece by piece, and found by no name."""
    put(store, *many(3))
    number = names.open_directory(directory(store, RUN), 0)
    assert [seconds for _, seconds, _ in names.entries(number, 0)] == [0, 0, LONG_S]
    names._state._sweep(RUNS_INO, RUN.name, directory(store, RUN))
    assert [(rows[0].name, seconds) for rows, seconds, _ in names.entries(number, 0)] == [(b".", 0.0), (b"..", 0.0)]
