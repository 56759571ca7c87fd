"""The SQLite file: its connections, statements and transactions.

Two connections. The main one belongs to the thread that opened the database (the mount's event loop, or a program);
every other thread shares the second, under a lock. Whoever writes holds a lock of ours (`Writes`), so that the threads
of one process queue for SQLite's write lock instead of polling for it. A database in memory has the main one only.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import get_ident
from typing import Any

import apsw

from engine.errors import DamagedError, InternalError, StoreError
from engine.sqlite import connecting
from engine.sqlite.connecting import BUSY_TIMEOUT_MS, CHECKSUM_BYTES, connect, translate, until_free
from engine.sqlite.files import PAGE_BYTES
from engine.sqlite.log import Log
from engine.sqlite.slots import Slots
from engine.sqlite.writing import Operation, Writes, undone
from engine.troubles import Troubles

_NOBODY = -1

Row = tuple[Any, ...]


class Database:
    """One SQLite file, or one in memory where `path` is None. `read_only` refuses every write."""

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        self.path = path
        self.directory = "/" if path is None else str(path.parent)
        """Where the file is."""
        self.read_only = read_only
        self.troubles = Troubles()
        self._owner = _NOBODY
        """The thread that has the main connection for itself; one in memory is shared."""
        self.adopt()
        self.writes = Writes(self)
        self.slots = Slots(self)
        self.log = Log(self)
        self._side_lock = threading.RLock()
        self._side: apsw.Connection | None = None
        self._main = self._connect()
        self._cursor = self._main.cursor()
        """Used again for every statement: to make one takes half as long as a statement that is found in the cache."""
        self._data_version = 0
        self._closed = False

    def _connect(self) -> apsw.Connection:
        return connect(self.path, read_only=self.read_only, on_commit=self.log.note_commit, patience_s=self._patience_s)

    def _patience_s(self) -> float:
        return min(self.writes.patience_s, connecting.BUSY_TIMEOUT_MS / 1000)

    @contextmanager
    def _mine(self) -> Iterator[apsw.Connection]:
        """The connection of the calling thread, which no other thread uses meanwhile."""
        self.hold()
        try:
            yield self._main if self._side is None or self.is_owner else self._side
        finally:
            self.let_go()

    def connection(self) -> AbstractContextManager[apsw.Connection]:
        """The calling thread's connection, for what no statement can do."""
        return self._mine()

    @property
    def is_owner(self) -> bool:
        """Whether the calling thread has the main connection for itself."""
        return get_ident() == self._owner

    def adopt(self) -> None:
        """Make the calling thread the owner of the main connection."""
        self._owner = _NOBODY if self.path is None else get_ident()

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[Row]:
        """Run one statement and return all its rows. Raises StoreError.

        After some errors SQLite undoes a whole transaction by itself; what is left of its operation is refused then, or
        each statement would be committed as it is.
        """
        try:
            thread, writes = get_ident(), self.writes
            if thread == self._owner:
                if writes.reads_next:
                    writes.begin_reading()
                if writes.writer == thread and not self._main.in_transaction:
                    raise undone()
                return self._cursor.execute(sql, arguments).fetchall()
            with self._mine() as connection:
                if writes.writer == thread and not connection.in_transaction:
                    raise undone()
                return connection.execute(sql, arguments).fetchall()
        except apsw.Error as error:
            failure = self.failed(error)
            self.writes.note_failure()
            raise failure from error

    def failed(self, error: apsw.Error, connection: apsw.Connection | None = None) -> StoreError:
        """The engine's error for SQLite's, and what follows from it."""
        if isinstance(error, apsw.IOError):
            self.log.suspect()
        if isinstance(error, apsw.ReadOnlyError) and not self.read_only:
            # SQLite could not open its log for writing and falls back to reading, for as long as the connection lasts.
            if not self.is_owner and self._side is not None:
                with self._side_lock:
                    self._side.close()
                    self._side = None
            return InternalError(f"the store's database cannot be written: {error}")
        return translate(error, connection or (self._main if self._side is None or self.is_owner else self._side))

    def recall(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[Row]:
        """As `rows`, for a statement that reads: asked once as long as one moment is read (see `Writes`).

        The rows are not to be changed.
        """
        if get_ident() != self._owner:
            return self.rows(sql, arguments)
        if self.writes.reads_next:
            self.writes.begin_reading()
        memory = self.writes.memory
        if memory is None:
            return self.rows(sql, arguments)
        found = memory.get((sql, arguments))
        if found is None:
            found = memory[sql, arguments] = self.rows(sql, arguments)
        return found

    def row(self, sql: str, arguments: Sequence[Any] = ()) -> Row | None:
        """Run one statement that has at most one row. Raises StoreError."""
        found = self.rows(sql, arguments)
        return found[0] if found else None

    def value(self, sql: str, arguments: Sequence[Any] = ()) -> Any:
        """Run one statement that has exactly one row of one column. Raises StoreError."""
        return self.only_row(sql, arguments)[0]

    def only_row(self, sql: str, arguments: Sequence[Any] = ()) -> Row:
        """Run one statement that has exactly one row. Raises StoreError; DamagedError where that is not there."""
        found = self.rows(sql, arguments)
        if not found:
            raise DamagedError("a page of the store's database is damaged: a row that is always there is missing")
        return found[0]

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have the statements of the block read one moment, but for what the block itself writes; see `Writes`."""
        if not self.is_owner or self.writes.in_turn:
            yield
            return
        self.writes.begin_turn()
        try:
            yield
        finally:
            self.writes.settle()

    def hold(self) -> None:
        """Keep the calling thread's connection for it, over several statements, until `let_go`."""
        if self.is_owner:
            return
        self._side_lock.acquire()
        try:
            if self.path is not None and self._side is None:
                self._side = self._connect()
        except BaseException:
            self._side_lock.release()
            raise

    def let_go(self) -> None:
        if not self.is_owner:
            self._side_lock.release()

    @property
    def in_sqlite_transaction(self) -> bool:
        """Whether the calling thread's connection has a transaction open."""
        if self.is_owner:  # as nearly always, and after every commit
            return self._main.in_transaction
        with self._mine() as connection:
            return connection.in_transaction

    def write(self, *, alone: bool = True) -> Operation:
        """A transaction that may write: all of the block, or nothing of it. Not to be nested. Raises StoreError.

        `alone` as in Operation.
        """
        return Operation(self.writes, alone=alone)

    @property
    def in_transaction(self) -> bool:
        """Whether the calling thread is in a transaction that may write."""
        return self.writes.in_operation

    def joined(self) -> AbstractContextManager[object]:
        """The caller's transaction where there is one, else a transaction of its own."""
        return nullcontext() if self.in_transaction else self.write()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A transaction that reads: all of the block sees the store at one moment."""
        with self._mine() as connection:
            if connection.in_transaction:
                yield
                return
            self.rows("BEGIN")
            try:
                yield
            finally:
                # A reader that nobody finished may outlive the store; an error of the disk ends a transaction. There is
                # nothing to commit, and to commit can fail after a damaged page was read.
                if not self._closed and self.in_sqlite_transaction:
                    self.rows("ROLLBACK")

    def use_log(self) -> None:
        """Have the file in WAL mode, which it keeps. Only for a file known to be ours, or still empty."""
        self.rows(f"PRAGMA page_size = {PAGE_BYTES}")
        with self._mine() as connection:
            connection.reserve_bytes("main", CHECKSUM_BYTES)  # of a new file; one that exists keeps what it has
        # With a lock of its own that the others wait for, SQLite does not wait for theirs.
        until_free(lambda: self.rows("PRAGMA journal_mode = WAL"), time.monotonic() + BUSY_TIMEOUT_MS / 1000)

    @property
    def checksum_bytes(self) -> int:
        """What each page has room for: CHECKSUM_BYTES, or 0 where the file was made before there were checksums."""
        with self._mine() as connection:
            return connection.reserve_bytes("main")

    def changed_elsewhere(self) -> bool:
        """Whether another connection has committed since the last call. Costs one small read and no disk access."""
        version = self.value("PRAGMA data_version")
        changed = version != self._data_version
        self._data_version = version
        return bool(changed)

    @property
    def used_bytes(self) -> int:
        """How much of the file has something in it."""
        return int(self.value("PRAGMA page_count") * self.value("PRAGMA page_size")) - self.unused_bytes

    @property
    def unused_bytes(self) -> int:
        """How much of the file can be used again."""
        return int(self.value("PRAGMA freelist_count") * self.value("PRAGMA page_size"))

    def close(self) -> None:
        """Close the file. The last process to close it writes the log back."""
        self.writes.settle()
        self.log.finish()
        with self._side_lock:
            self._closed = True
            if self._side is not None:
                self._side.close()
                self._side = None
            self._main.close()
            self.slots.close()
            self.log.close()
