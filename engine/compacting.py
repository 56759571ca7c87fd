"""Making a store's file as small as what is in it: a copy without gaps takes its place.

Not while anybody has the store open: nobody could read or write meanwhile.
"""

from pathlib import Path
from typing import NamedTuple

import apsw

from engine import disk
from engine.catalog import eviction
from engine.catalog.transaction import Transaction
from engine.config import ObjectStoreSettings
from engine.errors import InvalidError, OpenError, OutOfSpaceError, UnavailableError
from engine.model import Effects
from engine.opening import open_store
from engine.sqlite.connecting import translate
from engine.sqlite.database import Database
from engine.sqlite.extents import read_chunk
from engine.sqlite.hashing import hash_of, hashes_of
from engine.sqlite.rewriting import rewrite
from engine.store import Store

_AT_ONCE = 1000
_WITHOUT_HASH = (
    "SELECT number, data FROM content WHERE number > ? AND data IS NOT NULL AND hash IS NULL ORDER BY number LIMIT 64"
)
_WITHOUT_HASHES = (
    "SELECT content, position, chunk FROM extent WHERE (content, position) > (?, ?) AND hashes IS NULL"
    " ORDER BY content, position LIMIT 64"
)


class Compacted(NamedTuple):
    """What a compaction did."""

    before: int
    """How many bytes the store's files took of the disk."""
    after: int
    effects: list[Effects]
    """What opening the store did beside."""


def compact(settings: ObjectStoreSettings) -> Compacted:
    """Delete all that is no longer needed, what was evicted and could come back too, and give its space to the disk.

    A store from before version 4 gets its checksums, those of pages and those of values.

    Needs free space for another copy, and for an index where SQLite has its temporary files (SQLITE_TMPDIR). Raises
    OpenError, UnavailableError while somebody else has the store open, InvalidError for one that has no file, and
    OutOfSpaceError. All of them leave the store as it was.
    """
    path = Path(settings.path)
    wanted = path.stat().st_size if path.exists() else 0
    try:
        with open_store(settings, create=False) as store:
            if store.database.path is None:
                raise InvalidError("a store in memory has no file")
            before = _size(path)
            _refuse_in_use(store)
            _delete_leftovers(store)
            wanted = store.database.used_bytes
            _add_hashes(store.database)
        _rewrite(path)
    except OutOfSpaceError as error:
        raise _no_room(path, wanted) from error
    return Compacted(before, _size(path), store.opening_effects)


def _rewrite(path: Path) -> None:
    try:
        rewrite(path)
    except apsw.BusyError:
        raise UnavailableError("the store is in use by another process") from None
    except apsw.Error as error:
        raise translate(error) from error
    except OSError as error:
        said = f"cannot make a new file beside {path}: {error.strerror}"
        raise (OutOfSpaceError(said) if error.errno in disk.FULL else OpenError(said)) from error


def _no_room(path: Path, wanted: int) -> OutOfSpaceError:
    try:
        free = f", and {disk.free_bytes(path.parent)} are free"
    except OSError:
        free = ""
    return OutOfSpaceError(
        f"there is no room to compact {path}: the new file takes up to {wanted} bytes beside it{free};"
        " SQLite's temporary files (SQLITE_TMPDIR) may take some more. Make room, and try again: nothing is lost"
    )


def _size(path: Path) -> int:
    """What the files take of the disk: the data file has holes."""
    files = [path, *(path.with_name(path.name + ending) for ending in ("-wal", "-data"))]
    return sum(file.stat().st_blocks * 512 for file in files if file.exists())


def _refuse_in_use(store: Store) -> None:
    others = store.database.rows("SELECT id, pid FROM session WHERE id <> ?", (store.sessions.own,))
    dead = store.sessions.dead()
    pids = [str(pid) for session, pid in others if session not in dead]
    if others and not pids:
        raise UnavailableError("what a dead process has left cannot be published yet: `fusefs check --repair` first")
    if pids:
        raise UnavailableError(f"the store is in use by process {', '.join(pids)}: unmount it first")


def _delete_leftovers(store: Store) -> None:
    more = True
    while more:
        with store.database.write():
            tx = Transaction(store.database, store.sessions.own)
            more = eviction.forget_old(tx, _AT_ONCE) == _AT_ONCE
        while store.upkeep.sweep() or store.upkeep.reclaim():
            store.upkeep.checkpoint()
    while store.upkeep.ripen():
        pass


def _add_hashes(database: Database) -> None:
    """Give hashes to what was stored before there were any, as it is read now."""
    last = 0
    while rows := database.rows(_WITHOUT_HASH, (last,)):
        with database.write():
            for number, data in rows:
                database.rows("UPDATE content SET hash = ? WHERE number = ?", (hash_of(data), number))
        last = rows[-1][0]
    at = (0, -1)
    while rows := database.rows(_WITHOUT_HASHES, at):
        with database.write():
            for number, position, chunk in rows:
                hashes = hashes_of(read_chunk(database, number, (chunk, None)))
                database.rows(
                    "UPDATE extent SET hashes = ? WHERE content = ? AND position = ?", (hashes, number, position)
                )
        at = rows[-1][:2]
    with database.write():
        database.rows(
            "UPDATE content SET extents = (SELECT count(*) FROM extent WHERE content = number)"
            " WHERE data IS NULL AND extents IS NULL"
        )
