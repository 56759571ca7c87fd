"""Connections to the SQLite file, how long they wait for each other, and what SQLite's errors mean."""

import math
import mmap
import os
import random
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

import apsw
import apsw.sqlite_extra

from engine import disk
from engine.errors import (
    DamagedError,
    InternalError,
    OpenError,
    OutOfSpaceError,
    ReadOnlyError,
    StoreError,
    UnavailableError,
)
from engine.sqlite.names import name_for_sqlite

Found = TypeVar("Found")

BUSY_TIMEOUT_MS = 10_000
"""How long a statement waits for another process's transaction before UnavailableError."""

_ONCE_MORE_S = 0.01
_ANOTHER_WAIT_S = 1.0
"""Two looks that are so far apart do not belong to one wait."""
_LOOK_AGAIN_S = 0.002
_CACHE_KIB = 16 * 1024
_DISTRUST = (
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0),
)
"""A file may have been made by somebody else. Ours has no triggers and no views, so none of theirs has a say."""

_MEANINGS: list[tuple[type[apsw.Error], type[StoreError]]] = [
    (apsw.FullError, OutOfSpaceError),
    (apsw.BusyError, UnavailableError),
    (apsw.LockedError, UnavailableError),
    (apsw.ReadOnlyError, ReadOnlyError),
    (apsw.NotADBError, OpenError),
    (apsw.CantOpenError, OpenError),
    (apsw.CorruptError, DamagedError),
]
_INDEX_BYTES = 64 * 1024
"""More than SQLite's index of a log has at first."""
CHECKSUM_BYTES = 8
"""What is reserved at the end of each page for its checksum."""


def translate(error: apsw.Error, connection: apsw.Connection | None = None) -> StoreError:
    """The engine's error for SQLite's `error`; InternalError for what has no other meaning."""
    if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA:
        return DamagedError("a page of the store's database is damaged: `fusefs check` tells what that concerns")
    if isinstance(error, apsw.IOError) and connection is not None and connection.system_errno in disk.FULL:
        # SQLite takes only a write for full that fails with ENOSPC.
        return OutOfSpaceError(f"the store's database says: {os.strerror(connection.system_errno)}")
    for source, meaning in _MEANINGS:
        if isinstance(error, source):
            return meaning(f"the store's database says: {error}")
    return InternalError(f"the store's database failed: {type(error).__name__}: {error}")


@cache
def use_checksums() -> None:
    """Have every page that has room for a checksum written with one, and compared with it when it is read.

    For all connections of this process from now on: SQLite's extension cksumvfs becomes a layer below them.
    """
    try:
        with closing(apsw.Connection(":memory:")) as connection:
            apsw.sqlite_extra.load(connection, "cksumvfs")
    except (apsw.Error, apsw.sqlite_extra.NotAvailable) as error:
        raise InternalError(f"apsw's extension cksumvfs cannot be loaded ({error}): install apsw's wheel") from error


class _Patience:
    """Waits for another process's transaction. SQLite's own way sleeps up to 100 ms between two looks, and can miss the
    moments in which others have let go of the lock; a mount answers nobody meanwhile.

    Who waited in vain once is refused at once until the lock was had, or each request of a mount would wait anew.
    """

    def __init__(self, patience_s: Callable[[], float]) -> None:
        self._patience_s = patience_s
        self._until = 0.0
        self._looked = 0.0
        self._in_vain = -math.inf
        """When the last wait ended so."""

    def __call__(self, looks: int) -> bool:
        now = time.monotonic()
        # SQLite counts from 0 in every step of a statement, but not where it reads the schema for one.
        if looks == 0 or now - self._looked > _ANOTHER_WAIT_S:
            again = now - self._in_vain < _ANOTHER_WAIT_S
            self._until = now + (_ONCE_MORE_S if again else self._patience_s())
        time.sleep(random.uniform(0.5, 1) * min(0.002, 0.0002 * (looks + 1)))
        self._looked = time.monotonic()
        if now < self._until:
            return True
        self._in_vain = self._looked
        return False

    def had_it(self) -> None:
        """The lock was had."""
        self._in_vain = -math.inf


def until_free(step: Callable[[], Found], until: float) -> Found:
    """Do what SQLite refuses at once where somebody else has a lock, whatever the patience of the connection.

    Until that time of time.monotonic(): then the step's error is raised.
    """
    while True:
        try:
            return step()
        except (apsw.BusyError, UnavailableError):
            if time.monotonic() >= until:
                raise
            time.sleep(_LOOK_AGAIN_S)  # SQLite tells nobody when a lock is free


def open_file(path: Path | None, flags: int) -> apsw.Connection:
    """Open a file that is no symlink, or one in memory where `path` is None. Nothing in it runs.

    Raises OpenError and apsw.Error.
    """
    name = ":memory:" if path is None else name_for_sqlite(path)
    connection = apsw.Connection(name, flags=flags | apsw.SQLITE_OPEN_NOFOLLOW)
    for option, value in _DISTRUST:
        connection.config(option, value)
    return connection


def _require_room(path: Path) -> None:
    """Raise OutOfSpaceError where SQLite's index of the log has no room, and SQLite would not notice. Raises OSError.

    It is a mapped file, of which SQLite writes one byte in each page of memory to have its space. Where the blocks of
    the disk are smaller than that, most of it has none then, and touching it ends the process (SIGBUS).
    """
    if os.statvfs(path.parent).f_frsize >= mmap.PAGESIZE:
        return
    with suppress(FileNotFoundError):
        index = os.stat(f"{path}-shm")
        if index.st_size and index.st_blocks * 512 >= index.st_size:
            return
    fd = os.open(path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        # How much is free for whom, the disk tells by giving it.
        os.posix_fallocate(fd, 0, _INDEX_BYTES)
    except OSError as error:
        if error.errno in disk.FULL:
            raise OutOfSpaceError(f"the disk of {path} is full: to open a store takes {_INDEX_BYTES} bytes") from error
        raise
    finally:
        os.close(fd)


def connect(
    path: Path | None,
    *,
    read_only: bool,
    on_commit: Callable[[apsw.Connection, str, int], int],
    patience_s: Callable[[], float] = lambda: BUSY_TIMEOUT_MS / 1000,
) -> apsw.Connection:
    """Open a file, or one in memory where `path` is None.

    `on_commit` is called after every commit with the length of the log in pages. `patience_s` tells how long another
    process's transaction is waited for. Raises StoreError.
    """
    patience = _Patience(patience_s)

    def committed(connection: apsw.Connection, name: str, pages: int) -> int:
        patience.had_it()
        return on_commit(connection, name, pages)

    use_checksums()
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    # A connection has one user at a time already (see Database), and SQLite's own lock is felt in every row.
    flags |= apsw.SQLITE_OPEN_NOMUTEX
    connection = None
    try:
        if path is not None:
            with suppress(OSError):  # what is wrong with the disk, SQLite says
                _require_room(path)
        connection = open_file(path, flags)
        connection.set_busy_handler(patience)
        # NORMAL: a commit survives the death of the process; fsync() adds what a power cut needs (Database.sync).
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        # A checkpoint can take as long as the disk likes: upkeep does it, in a thread, not the commit of a Put.
        connection.wal_autocheckpoint(0)
        connection.set_wal_hook(committed)
        if path is not None and not read_only and connection.readonly("main"):
            # SQLite falls back to reading, whatever kept it from opening the file for writing, and for good.
            connection.close()
            raise OpenError(f"the store's database {path} cannot be opened for writing")
    except apsw.Error as error:
        raise translate(error, connection) from error
    return connection
