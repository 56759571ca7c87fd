"""What is done behind the scenes, in steps of bounded length: deleting values, sweeping, news from other processes.

`news` belongs to the thread of the store; `work` and what it consists of may run in any other.
"""

import math
import time
from functools import partial
from typing import NamedTuple

from engine.catalog import eviction, lifetimes
from engine.catalog.transaction import Transaction
from engine.contents import Contents
from engine.errors import DamagedError
from engine.sqlite.database import Database
from engine.sqlite.fullness import again_when_full, is_nearly_full

_AT_ONCE = 200
_STEP_S = 0.002
"""How long one step may keep the store's lock, about: somebody may be waiting for it."""
_TURN_S = 0.1
"""How long `work` goes on before it returns."""
_ENDLESS = 2**63 - 1


_ANYTHING_TO_SWEEP = (
    "SELECT EXISTS (SELECT 1 FROM doomed) OR EXISTS (SELECT 1 FROM evicted WHERE evicted_ns < ?1)"
    " OR EXISTS (SELECT 1 FROM moved WHERE moved_ns < ?1)"
)
_CHANGES = (
    "SELECT seq, session, content, EXISTS (SELECT 1 FROM pin WHERE pin.content = change.content) FROM change"
    " WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)


class News(NamedTuple):
    """A row of `change`."""

    seq: int
    ino: int
    """0: there is only a value to be deleted."""
    parent: int
    """0: attributes changed, and the name is where it was."""
    name: bytes
    content: int


class Upkeep:
    """The housekeeping of one process that has a store open."""

    def __init__(self, database: Database, contents: Contents) -> None:
        self._database = database
        self._contents = contents
        self._pinned: set[int] = set()
        """The values for which this process has a row in `pin`."""
        self._deleting = 0
        """The value whose deletion began last."""
        self._damaged: set[int] = set()
        """Values that cannot be deleted."""
        self._read_to = 0
        """The row of `change` up to which `reclaim` has read."""
        self._waiting: float = math.inf
        """The first of those rows that is for this process to delete, but not yet."""
        self._others: set[tuple[int, bool]] = set()
        """The other sessions at that time, and whether they listened."""
        self._looked: tuple[float, int] = (-math.inf, 0)
        """When the store's clock was looked at, some minutes ago at most, and what is older than that."""
        self._old = 0
        """What is older than the time when it was looked at before that."""

    def last_change(self) -> int:
        """The store's clock as the calling thread sees it, for `work` and `reclaim`. Raises StoreError."""
        return int(self._database.value("SELECT clock_ns FROM store"))

    def work(self, until: int = _ENDLESS) -> bool:
        """Do steps of everything there is to do, for a moment. Returns whether there is more. For a thread.

        `until` as in `reclaim`. Between the steps it rests for as long as they took, so that others get at the store
        and the processor.
        """
        steps = (self.sweep, partial(self.reclaim, until), self.ripen)
        end = time.monotonic() + _TURN_S
        more = True
        while more and time.monotonic() < end:
            more = False
            for step in steps:
                began = time.monotonic()
                more = step() or more
                time.sleep(time.monotonic() - began)
            self.checkpoint()
        return more

    @property
    def anything_to_do(self) -> bool:
        """Whether `work` may have something to do."""
        return (
            self._anything_to_sweep(self._displaced_before())
            or self.anything_to_reclaim()
            or self._database.slots.has_unripe()
            or self.checkpoint_due
        )

    def _anything_to_sweep(self, displaced_before: int) -> bool:
        return bool(self._database.value(_ANYTHING_TO_SWEEP, (displaced_before,)))

    def _displaced_before(self) -> int:
        """What is older by the store's clock has been kept aside for long enough.

        That clock may be ahead of the system's, and hardly moves then: what this process has seen for long enough is
        old as well.
        """
        if is_nearly_full(self._database):
            return _ENDLESS
        at, older = self._looked
        if time.monotonic() - at >= eviction.KEEP_DISPLACED_NS / 1e9:
            self._old = older
            self._looked = time.monotonic(), self._database.value("SELECT clock_ns + 1 FROM store")
        return max(self._old, time.time_ns() - eviction.KEEP_DISPLACED_NS)

    @again_when_full
    def sweep(self) -> bool:
        """Do a step of what removed pipelines and runs and old evictions left. Returns whether there is more."""
        before = self._displaced_before()
        if not self._anything_to_sweep(before):
            return False
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            until = time.monotonic() + _STEP_S
            if lifetimes.sweep(tx, _AT_ONCE, until) > 0:
                return True
            return eviction.forget_old(tx, _AT_ONCE, before) == _AT_ONCE

    def anything_to_reclaim(self) -> bool:
        """Whether a call of `reclaim` may have something to do."""
        return bool(self._database.value("SELECT EXISTS (SELECT 1 FROM change)"))

    @again_when_full
    def reclaim(self, until: int = _ENDLESS) -> bool:
        """Delete some of the values that nobody refers to and nobody has open. Returns whether there may be more.

        `until`: only what was taken away up to this `last_change`. A thread must not be ahead of one that takes names
        away and pins their values after that, who asks for `last_change` when all of them are pinned.

        What a live session took away is its own to delete: only it knows what it has open. Everything else goes when
        every other live session has acknowledged it. A call reads a part of the rows and begins where the last one
        ended, so that those which have to wait are not read again and again.
        """
        rows = self._next_changes(until)
        free = [(seq, content) for seq, content, is_free in rows if is_free]
        done: list[tuple[int]] = []
        if free and self._contents.shares_catalog:
            try:
                with self._database.joined():
                    self._delete(free, done)
                    self._forget(done)
            except DamagedError:
                if not self._deleting or self._deleting in self._damaged:
                    raise
                return self._leave_damaged()
        elif free:
            self._database.log.sync()  # else a power cut brings the names back of values that are gone
            self._delete(free, done)
            with self._database.joined():
                self._forget(done)
        if len(done) < len(free):
            self._read_to = free[len(done)][0] - 1
        elif len(rows) == _AT_ONCE:
            self._read_to = rows[-1][0]
        else:
            last = rows[-1][0] if rows else self._read_to
            self._read_to = int(min(last, self._waiting - 1))
            self._waiting = math.inf
            return False
        return True

    def ripen(self) -> bool:
        """Give back the space of deleted chunks in the data file. Waits for the disk. Returns whether there is more."""
        return self._database.slots.has_unripe() and self._database.slots.ripen()

    def _next_changes(self, until: int = _ENDLESS) -> list[tuple[int, int, bool]]:
        """The rows of `change` behind the last that was read: their numbers, their values, and whether they may go."""
        own = self._contents.sessions.own
        others: dict[int, int] = {number: seen for number, seen in self._database.rows("SELECT id, seen FROM session")}
        seen = others.pop(own, _ENDLESS)
        listening = {(number, heard < _ENDLESS) for number, heard in others.items()}
        if listening != self._others:
            # What one had taken away that is gone now, or waits dead and has let go of it, was passed over.
            self._others, self._read_to, self._waiting = listening, 0, math.inf
        rows = self._database.rows(_CHANGES, (self._read_to, min([until, *others.values()]), _AT_ONCE))
        found = []
        for seq, session, content, pinned in rows:
            is_free = session not in others and not pinned and not self._contents.is_pinned(content)
            is_free = is_free and (session == own or seq <= seen) and content not in self._damaged
            if not is_free and session not in others:
                self._waiting = min(self._waiting, seq)
            found.append((seq, content, is_free))
        return found

    def _leave_damaged(self) -> bool:
        """What was to be deleted cannot be read, and stays; those behind it can go. Returns that there may be some."""
        self._damaged.add(self._deleting)
        self._database.troubles.note(
            f"the value {self._deleting} is damaged and cannot be deleted: `fusefs check --repair` frees its space"
        )
        return True

    def _delete(self, rows: list[tuple[int, int]], done: list[tuple[int]]) -> None:
        until = time.monotonic() + _STEP_S
        for seq, content in rows:
            self._deleting = content
            if content and not self._contents.delete_some(content):
                # A large value goes in pieces, so that nobody waits long for the lock: the rest is for the next call.
                return
            done.append((seq,))
            if time.monotonic() > until:
                return

    def _forget(self, done: list[tuple[int]]) -> None:
        for row in done:
            self._database.rows("DELETE FROM change WHERE seq = ?", row)

    def news(self, at_most: int = -1) -> list[News]:
        """What other processes took away or changed and this one has not acknowledged yet, oldest first: all of it, or
        up to `at_most`.
        """
        own = self._contents.sessions.own
        rows = self._database.rows(
            "SELECT seq, ino, parent, name, content FROM change WHERE session <> ?1"
            " AND seq > (SELECT seen FROM session WHERE id = ?1) ORDER BY seq LIMIT ?2",
            (own, at_most),
        )
        return [News._make(row) for row in rows]

    def acknowledge(self, news: list[News]) -> None:
        """The kernel was told. From here on, values that are gone may be deleted, but for what this process pinned."""
        own = self._contents.sessions.own
        with self._database.write():
            for item in news:
                if item.content and self._contents.is_pinned(item.content):
                    self._database.rows("INSERT OR IGNORE INTO pin VALUES (?, ?)", (item.content, own))
                    self._pinned.add(item.content)
            self._database.rows("UPDATE session SET seen = ? WHERE id = ?", (news[-1].seq, own))

    def unpin(self, content: int) -> None:
        """The last reader of a value in this process is gone."""
        if content in self._pinned and not self._contents.is_pinned(content):
            self._pinned.discard(content)
            with self._database.write():
                self._database.rows(
                    "DELETE FROM pin WHERE content = ? AND session = ?", (content, self._contents.sessions.own)
                )

    def unpin_all(self) -> None:
        """Let go of what this process had kept for readers and writers that are gone by now."""
        for content in [content for content in self._pinned if not self._contents.is_pinned(content)]:
            self.unpin(content)

    @property
    def checkpoint_due(self) -> bool:
        """Whether `checkpoint` has something to do."""
        return self._database.log.checkpoint_due()

    def checkpoint(self) -> None:
        """Write the database's log back when it is long. Waits for the disk: for a thread."""
        if self._database.log.checkpoint_due():
            self._database.log.checkpoint()
