"""Reading values that are not small: one value from its first piece to its last, whatever happens to its key."""

from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING

from engine.model import ScopeName
from engine.sqlite.content import SqliteEngine
from engine.sqlite.database import Database

if TYPE_CHECKING:
    from engine.store import Store


def whole(value: bytes) -> Generator[bytes]:
    """A value that has been read, as one piece."""
    yield value


def of_one_moment(store: "Store", scope: ScopeName, key: bytes) -> Generator[bytes]:
    """The pieces of a key's value. Raises as Store.read_object, at once."""
    pieces = _pieces(store, scope, key)
    next(pieces)
    return pieces


def _pieces(store: "Store", scope: ScopeName, key: bytes) -> Generator[bytes]:
    if store.contents.shares_catalog and store.database.path is not None:
        # One moment of the database for all of the value, on a connection of its own: nobody can delete it before
        # the end, and this store can go on meanwhile.
        with (
            closing(Database(store.database.path, read_only=True)) as database,
            database.slots.reading(),
            database.snapshot(),
        ):
            yield from _pinned(type(store)(database, SqliteEngine({}, database)), scope, key)
    else:
        if not store.database.read_only:
            store.sessions.ensure()
        yield from _pinned(store, scope, key)


def _pinned(store: "Store", scope: ScopeName, key: bytes) -> Generator[bytes]:
    node = store.find_object(scope, key)
    store.contents.pin(node.content)
    try:
        yield b""  # found: what `of_one_moment` waits for
        yield from store.contents.pieces(node.content, node.size)
    finally:
        store.contents.unpin(node.content)
