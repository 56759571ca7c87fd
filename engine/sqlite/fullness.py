"""A full disk: values are refused before it is quite full, so that what makes room always fits.

Deleting takes space before it gives some back, since SQLite writes to its log first, and the log can only be shortened
once the database has taken in what it holds. So a Put must leave room for the log, for the database to take it in, and
a little more.
"""

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import apsw

from engine import disk
from engine.errors import OutOfSpaceError
from engine.sqlite.database import Database

HEADROOM_BYTES = 6 * 1024 * 1024
"""What Puts that make the database grow leave free for deletions, upkeep and the log."""

_LEAST_BYTES = 256 * 1024
"""What every Put leaves free."""

Method = TypeVar("Method", bound=Callable[..., Any])


def require_space(database: Database, size: int) -> None:
    """Raise OutOfSpaceError unless a value of `size` bytes can be stored, and the log be written back after it."""
    if database.path is None or _fits(database, size):
        return
    make_room(database)
    if not _fits(database, size):
        raise OutOfSpaceError(f"the disk of the store has less than {HEADROOM_BYTES >> 20} MiB to spare")


def is_nearly_full(database: Database) -> bool:
    """Whether the disk has so little left that what is kept just in case should go."""
    if database.path is None:
        return False
    return disk.free_bytes(database.directory) < 2 * HEADROOM_BYTES


def _fits(database: Database, size: int) -> bool:
    available = disk.free_bytes(database.directory)
    growth = database.log.bytes + size
    if available >= HEADROOM_BYTES + size + growth:
        return True
    # On a disk that is full the database stays as large as it is, and what was deleted in it is used again.
    return available >= size + _LEAST_BYTES and database.unused_bytes >= growth


def make_room(database: Database) -> None:
    """Write the log back and shorten it. Waits for the disk, which is nearly full: an emergency."""
    if not database.read_only and not database.in_transaction:
        if database.is_owner:
            with suppress(OutOfSpaceError):  # what that undoes is published again, and is not what asks for room here
                database.writes.settle()
        database.log.checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)


def again_when_full(method: Method) -> Method:
    """Try a method of an object with a `_database` once more, after making room, when the disk is full.

    For what is a transaction of its own and leaves nothing when it fails. A part of one is not tried by itself: SQLite
    may have undone all that was before it. What changes names begins with `Publisher.first`, each time: what shared
    the transaction was undone with it.
    """

    @functools.wraps(method)
    def wrapper(self: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return method(self, *arguments, **options)
        except OutOfSpaceError:
            database: Database = self._database
            if database.in_transaction:
                raise
            make_room(database)
            return method(self, *arguments, **options)

    return cast(Method, wrapper)
