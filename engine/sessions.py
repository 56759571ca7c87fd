"""Who has the store open: a number for each process, alive while the process holds a lock of the kernel's.

The lock is an open-file-description lock on one byte of a file beside the store, so it goes with the process however
that ends, and holds between two stores opened in one process as well (fcntl(2), F_OFD_SETLK).
"""

import fcntl
import os
from pathlib import Path

from engine import locks
from engine.errors import OpenError
from engine.sqlite.database import Database
from engine.sqlite.fullness import again_when_full

_UP_TO_NOW = "(SELECT clock_ns FROM store)"
_EVERYTHING = 2**63 - 1


class Sessions:
    """The sessions of one store, and this process's own (number 0 until `ensure`)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fd = -1
        self.own = 0
        self._listens = False

    def ensure(self, *, listens: bool = True) -> int:
        """Have a session, which others see as alive from now on. Not inside a transaction. Raises StoreError.

        `listens`: nothing that others take away is deleted before this one has acknowledged it. Who has nothing open
        and nothing cached need not, and keeps nothing alive.
        """
        if not self.own:
            try:
                with self._database.write():
                    # Of several threads that come here at once, one begins the session of all.
                    if not self.own:
                        self.own, self._listens = self._begin(listens), listens
            except BaseException:
                self.own = 0
                raise
        if listens and not self._listens:
            with self._database.write():
                self._database.rows(f"UPDATE session SET seen = {_UP_TO_NOW} WHERE id = ?", (self.own,))
            self._listens = True
        return self.own

    def _begin(self, listens: bool) -> int:
        seen = _UP_TO_NOW if listens else str(_EVERYTHING)
        number = self._database.value(
            f"INSERT INTO session (seen, pid) VALUES ({seen}, ?) RETURNING id", (os.getpid(),)
        )
        if self._database.path is not None:
            # Locked before it can be seen: nobody takes it for dead.
            locks.take(self._lock_file(), fcntl.F_WRLCK, number)
        return int(number)

    def listed(self) -> set[int]:
        """All that are in the list, those too whose processes are gone."""
        return {number for (number,) in self._database.rows("SELECT id FROM session")}

    def dead(self) -> list[int]:
        """The sessions whose processes are gone."""
        # Before every change of a name, too.
        others = self._database.recall("SELECT id FROM session WHERE id <> ? ORDER BY id", (self.own,))
        return [number for (number,) in others if not locks.is_taken(self._lock_file(), number)]

    @again_when_full
    def end(self) -> None:
        """Leave: what this session had to hear of, it need not hear of any more.

        With Puts left that were acknowledged and not published, it stays in the list, dead: whoever opens the store
        next publishes them.
        """
        if self.own:
            with self._database.write():
                self._database.rows("DELETE FROM pin WHERE session = ?", (self.own,))
                self._database.rows(
                    "DELETE FROM session WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM intent WHERE session = ?1)"
                    " AND NOT EXISTS (SELECT 1 FROM draft WHERE session = ?1)",
                    (self.own,),
                )
            self.own = 0
        self.close()

    def close(self) -> None:
        """Let go of the lock file, and with it of the session, as the death of the process does."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _lock_file(self) -> int:
        if self._fd < 0:
            path = Path(f"{self._database.path}-lock")
            try:
                self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                raise OpenError(f"cannot open the store's lock file {path}: {error.strerror}") from error
        return self._fd


def leave_waiting(database: Database, session: int, resolved: int) -> None:
    """Keep a dead session for what is in the table of it, in the caller's transaction: nobody waits for it to hear.

    `resolved`: what its journal had up to this number is seen to.
    """
    # What it took away is for anybody to delete now.
    database.rows("UPDATE change SET session = 0 WHERE session = ?", (session,))
    database.rows(
        "UPDATE session SET seen = ?, resolved = max(resolved, ?) WHERE id = ?", (_EVERYTHING, resolved, session)
    )
