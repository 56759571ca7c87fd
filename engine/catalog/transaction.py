"""One change of the catalog: its database, its clock, and what it did beside what was asked."""

import time
from collections.abc import Sequence
from typing import Any

from engine.model import NO_EFFECTS, Effects, Removed
from engine.sqlite.database import Database, Row

_STRIDE_NS = 1000
"""How far a transaction moves the store's clock on: it can time so many things apart without going back to it."""

_BEGIN = (
    f"UPDATE store SET clock_ns = max(clock_ns + {_STRIDE_NS}, ?)"
    " RETURNING clock_ns, object_limit, run_expiry, max_object_size"
)


class Transaction:
    """What the functions of the catalog work on. Made inside `Database.write`, dropped with it."""

    def __init__(self, database: Database, session: int) -> None:
        self.database = database
        self.session = session
        """The number of this process's session; 0 when it has none."""
        self._last, self.object_limit, self.run_expiry, self.max_object_size = database.rows(_BEGIN, (time.time_ns(),))[
            0
        ]
        self.now_ns: int = self._last - _STRIDE_NS + 1
        """The time of this transaction: later than every one before it."""
        self._next = self.now_ns
        self._others: bool | None = None
        self.evicted: list[Removed] = []
        self.expired: list[Removed] = []
        self.restored: list[Removed] = []

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[Row]:
        return self.database.rows(sql, arguments)

    def row(self, sql: str, arguments: Sequence[Any] = ()) -> Row | None:
        found = self.database.rows(sql, arguments)
        return found[0] if found else None

    def tick(self) -> int:
        """A time that nothing else in this store has."""
        if self._next >= self._last:
            self._last = self.database.value(f"UPDATE store SET clock_ns = clock_ns + {_STRIDE_NS} RETURNING clock_ns")
            self._next = self._last - _STRIDE_NS
        self._next += 1
        return int(self._next)

    def new_number(self) -> int:
        """An inode or content number, for where one was not taken before the transaction."""
        return int(self.database.value("UPDATE store SET next_id = next_id + 1 RETURNING next_id - 1"))

    def drop_content(self, content: int, ino: int = 0, parent: int = 0, name: bytes = b"") -> None:
        """Leave a value to be deleted once nobody has it open; with a name, tell the other mounts that it is gone."""
        if content or (ino and self.others):
            self.rows(
                "INSERT INTO change VALUES (?, ?, ?, ?, ?, ?)", (self.tick(), self.session, ino, parent, name, content)
            )

    def tell(self, ino: int, parent: int, name: bytes) -> None:
        """Tell the other mounts that a name is not what they may have cached; parent 0: that attributes changed."""
        if self.others:
            self.rows("INSERT INTO change VALUES (?, ?, ?, ?, ?, 0)", (self.tick(), self.session, ino, parent, name))

    @property
    def others(self) -> bool:
        """Whether another process has the store open for writing or mounted."""
        if self._others is None:
            self._others = self.row("SELECT 1 FROM session WHERE id <> ? LIMIT 1", (self.session,)) is not None
        return self._others

    def effects(self) -> Effects:
        if not (self.evicted or self.expired or self.restored):
            return NO_EFFECTS
        return Effects(tuple(self.evicted), tuple(self.expired), tuple(self.restored))
