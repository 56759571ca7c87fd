"""SQLite's log: syncing it, writing it back to the database, and what to do when either fails."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import apsw

from engine import disk
from engine.errors import InternalError, OutOfSpaceError, StoreError, UnavailableError
from engine.sqlite.connecting import BUSY_TIMEOUT_MS, open_file, translate, until_free
from engine.sqlite.files import PAGE_BYTES

if TYPE_CHECKING:
    from engine.sqlite.database import Database

_DUE_PAGES = 16384
"""Pages of log (64 MiB) after which upkeep writes them back to the database, off the event loop."""
_LOOK_PAGES = 256
"""By how much it grows until the disk is asked again for its room, which costs as much as a statement."""
_ROUNDS = 4
_PAGES_UNDER_LOCK = 64
"""With how many pages left to write back everybody is made to wait for the rest."""
_COPY_BYTES = 1024 * 1024


class Log:
    """The log of one database. May be used in any thread."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._path = database.path
        self._fd = -1
        self._opening = threading.Lock()
        self._syncing = threading.Lock()
        self._syncs_begun = 0
        self._synced = 0
        """The last of them that succeeded."""
        self._pages = 0
        self._looked_at = 0
        """How long it was when the disk was last found to have room for it."""
        self._suspect = False
        """Whether a write or sync of it failed: what the kernel dropped of it then, it never tells of again."""

    def note_commit(self, connection: apsw.Connection, name: str, pages: int) -> int:
        """After every commit, with the length of the log in pages."""
        self._pages = pages
        return apsw.SQLITE_OK

    def suspect(self) -> None:
        """Something went wrong with the disk."""
        self._suspect = True

    @property
    def bytes(self) -> int:
        """How much it holds that the database may have to take in."""
        return self._pages * PAGE_BYTES

    def sync(self) -> None:
        """Return once everything committed survives a power cut. Waits for the disk. Raises StoreError.

        One fdatasync of the log is enough: what a checkpoint took out of the log, it synced into the database. One at
        a time: the kernel tells one of those who wait of an error, and what it dropped then has to be written again.
        """
        if self._path is None:
            return
        begun = self._syncs_begun
        with self._syncing:
            if self._synced > begun:
                return  # by one that began after we came
            self._syncs_begun += 1
            with self._errors():
                self._mend()
                os.fdatasync(self._file())
            self._synced = self._syncs_begun

    def checkpoint_due(self) -> bool:
        """Whether it has grown enough to be written back, or so far that the disk may not hold it twice."""
        pages = self._pages
        if self._path is None or self._looked_at <= pages < self._looked_at + _LOOK_PAGES:
            return False
        if pages >= _DUE_PAGES or self.bytes * 2 > disk.free_bytes(self._database.directory):
            return True
        self._looked_at = pages
        return False

    def checkpoint(self, finish: int = apsw.SQLITE_CHECKPOINT_PASSIVE) -> None:
        """Write it back to the database as far as readers allow. Waits for the disk. Raises StoreError.

        First beside the writers, who may add to the log meanwhile; then what they added, while they wait, so that the
        log can start again from its beginning instead of growing for as long as somebody writes. `finish` is the mode
        of the second step.
        """
        if self._path is None or self._database.read_only:
            return
        # Somebody reads from the log, or the disk is full: what is left of it stays for the next time.
        with suppress(UnavailableError, OutOfSpaceError), self._errors():
            # What the database takes in may be half there after a power cut, and then only the log has it whole.
            with self._syncing:
                self._mend()
            with closing(open_file(self._path, apsw.SQLITE_OPEN_READWRITE)) as connection:
                try:
                    self._write_back(connection, finish)
                except apsw.Error as error:
                    raise self._database.failed(error, connection) from error

    def _write_back(self, connection: apsw.Connection, finish: int) -> None:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute("PRAGMA user_version").fetchall()  # a connection that never read knows of no log
        # SQLite does not wait for who writes it back at the same time. It is done then, unless the log must be shorter.
        patience_s = 0.0 if finish == apsw.SQLITE_CHECKPOINT_PASSIVE else self._database.writes.patience_s
        until = time.monotonic() + patience_s
        for _ in range(_ROUNDS):
            pages, done = until_free(lambda: connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE), until)
            if pages - done < _PAGES_UNDER_LOCK:
                break
        with self._database.writes.lock:
            until_free(lambda: connection.wal_checkpoint(mode=finish), until)
            self._pages = 0

    def _mend(self) -> None:
        """Write all of it again where a sync of it may have failed: another one would succeed, and mean nothing.

        For one at a time (see `sync`). Raises OSError and StoreError.
        """
        if not self._suspect or self._database.read_only:
            return
        fd, offset = self._file(), 0
        with self._database.write():  # nobody else writes to it meanwhile
            self._suspect = False  # from here on anybody may find out anew
            try:
                while block := os.pread(fd, _COPY_BYTES, offset):
                    offset += os.pwrite(fd, block, offset)
                os.fdatasync(fd)
            except BaseException:
                self._suspect = True
                raise

    def _file(self) -> int:
        """Raises OSError."""
        with self._opening:
            if self._fd < 0:
                assert self._path is not None
                disk.sync(self._path.parent)  # SQLite does not sync the name of its log at once
                flags = os.O_RDONLY if self._database.read_only else os.O_RDWR
                self._fd = os.open(f"{self._path}-wal", flags | os.O_CLOEXEC | os.O_NOFOLLOW)
            return self._fd

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._suspect = True
            kind = OutOfSpaceError if error.errno in disk.FULL else InternalError
            raise kind(f"the store's log cannot be synced: {error.strerror}") from error
        except apsw.Error as error:
            raise translate(error) from error

    def finish(self) -> None:
        """What can be done before the last connection is closed, and writes it back."""
        if self._path is not None:
            with suppress(OSError, StoreError), self._syncing:
                self._mend()

    def leave(self) -> None:
        """Have the calling thread's connection leave the log as it is, also where it is the last one and closes."""
        with self._database.connection() as connection:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
