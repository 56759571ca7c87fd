"""One change of the catalog: its database, its clock, and what it did beside what was asked."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from engine.errors import FAULTS, QuotaError, StoreError
from engine.model import NO_EFFECTS, Effects, Removed
from engine.sqlite.database import Database, Row

_READ = "SELECT clock_ns, object_limit, run_expiry, max_object_size, max_pipeline_bytes, max_bytes, bytes FROM store"
_KEEP = "UPDATE store SET clock_ns = ?, bytes = ?"


class Sum(NamedTuple):
    """The bytes of a pipeline or run that a transaction has changed."""

    grown: int
    """By how many."""
    bytes: int
    """How many it has now."""
    limit: int
    """How many it may have; 0: no limit."""


class _Clock:
    """The store's clock and what holds for all of it, for as long as nobody else can write.

    It never shows the same time twice, and goes on where the system's clock stood still or went back.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        row = database.only_row(_READ)
        self._now, self.object_limit, self.run_expiry, self.max_object_size = row[:4]
        self.max_pipeline_bytes, self.max_bytes, stored = row[4:]
        self._bytes = stored % 2**64
        database.writes.before_commit(self._keep)

    def tick(self) -> int:
        self._now = max(self._now + 1, time.time_ns())
        return int(self._now)

    def ticks(self, number: int) -> int:
        before = self.tick()
        self._now = before + number
        return before

    @property
    def store_bytes(self) -> int:
        """Of all values, with those of this transaction."""
        return int(self._bytes + self._database.writes.grown)

    def _keep(self) -> None:
        # Many pipelines of holes can have more together than a number of SQLite's: then it goes on below 0.
        self._database.rows(_KEEP, (self._now, (self.store_bytes + 2**63) % 2**64 - 2**63))


def _is_refusal(error: StoreError) -> bool:
    return not isinstance(error, FAULTS)


class Transaction:
    """What the functions of the catalog work on. Made inside `Database.write`, dropped with it."""

    def __init__(self, database: Database, session: int) -> None:
        self.database = database
        self.session = session
        """The number of this process's session; 0 when it has none."""
        known = database.writes.known
        clock = known.get("clock")
        self._clock: _Clock = clock if clock is not None else known.setdefault("clock", _Clock(database))
        self.object_limit: int = self._clock.object_limit
        self.run_expiry: int = self._clock.run_expiry
        self.max_object_size: int = self._clock.max_object_size
        self.max_pipeline_bytes: int = self._clock.max_pipeline_bytes
        self.max_bytes: int = self._clock.max_bytes
        self.now_ns = self._clock.tick()
        """The time of this transaction: later than every one before it."""
        self.evicted: list[Removed] = []
        self.expired: list[Removed] = []
        self.restored: list[Removed] = []
        self.sums: dict[int, Sum] = {}
        """The pipelines and runs whose values have more or fewer bytes now than before, by inode."""

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[Row]:
        return self.database.rows(sql, arguments)

    def row(self, sql: str, arguments: Sequence[Any] = ()) -> Row | None:
        found = self.database.rows(sql, arguments)
        return found[0] if found else None

    @contextmanager
    def part(self, undoes: Callable[[StoreError], bool] = _is_refusal) -> Iterator[None]:
        """Where the block fails with an error that it `undoes`, undo what it did, and that alone.

        Others, by default faults, undo the whole transaction.
        """
        effects = self.evicted, self.expired, self.restored
        before = [len(removed) for removed in effects]
        grown, sums = self.database.writes.grown, self.sums.copy()
        self.rows("SAVEPOINT part")
        try:
            yield
        except StoreError as error:
            if not undoes(error):
                raise
            self.rows("ROLLBACK TO part")
            self.rows("RELEASE part")
            self.database.writes.grown, self.sums = grown, sums
            for removed, number in zip(effects, before, strict=True):
                del removed[number:]
            raise
        self.rows("RELEASE part")

    def tick(self) -> int:
        """A time that nothing else in this store has."""
        return self._clock.tick()

    def ticks(self, number: int) -> int:
        """As many such times, one behind the other. Returns the one before the first."""
        return self._clock.ticks(number)

    def new_number(self) -> int:
        """An inode or content number, for where one was not taken before the transaction."""
        return int(self.database.value("UPDATE store SET next_id = next_id + 1 RETURNING next_id - 1"))

    @property
    def store_bytes(self) -> int:
        """How many bytes all values of the store have now."""
        return self._clock.store_bytes

    def note_bytes(self, scope: int, grown: int, now: int, limit: int) -> None:
        """The values of a pipeline or run have `grown`, and are `now` as large; `limit` as in Sum.

        Raises QuotaError where they are larger together than a number of SQLite's, as holes can be.
        """
        if now < 0:
            raise QuotaError("a pipeline or run cannot have more than 8 EiB")
        before = self.sums.get(scope)
        self.sums[scope] = Sum(grown if before is None else before.grown + grown, now, limit)
        self.note_store_bytes(grown)

    def note_store_bytes(self, grown: int) -> None:
        """The values of the store have grown."""
        self.database.writes.grown += grown

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
        known = self.database.writes.known
        if "others" not in known:
            known["others"] = self.row("SELECT 1 FROM session WHERE id <> ? LIMIT 1", (self.session,)) is not None
        return bool(known["others"])

    def effects(self) -> Effects:
        if not (self.evicted or self.expired or self.restored):
            return NO_EFFECTS
        return Effects(tuple(self.evicted), tuple(self.expired), tuple(self.restored))
