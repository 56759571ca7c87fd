"""What is done behind the scenes, in steps of bounded size: deleting values, sweeping, news from other processes.

`news` and `sweep` belong to the thread of the store; `reclaim` may run in any other.
"""

import time
from typing import NamedTuple

from engine.catalog import eviction, lifetimes
from engine.catalog.transaction import Transaction
from engine.contents import Contents
from engine.sqlite.database import Database
from engine.sqlite.fullness import again_when_full, is_nearly_full

_AT_ONCE = 200
_ENDLESS = 2**63 - 1


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

    @again_when_full
    def sweep(self) -> bool:
        """Do a piece of what removed pipelines and runs and old evictions left. Returns whether there is more."""
        full = is_nearly_full(self._database)
        old = time.time_ns() - (0 if full else eviction.KEEP_DISPLACED_NS)
        if not self._database.value(
            "SELECT EXISTS (SELECT 1 FROM doomed) OR EXISTS (SELECT 1 FROM evicted WHERE evicted_ns < ?1)"
            " OR EXISTS (SELECT 1 FROM moved WHERE moved_ns < ?1)",
            (old,),
        ):
            return False
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            return lifetimes.sweep(tx, _AT_ONCE) > 0 or eviction.forget_old(tx, _AT_ONCE, everything=full) == _AT_ONCE

    def anything_to_reclaim(self) -> bool:
        """Whether a call of `reclaim` may have something to do."""
        return bool(self._database.value("SELECT EXISTS (SELECT 1 FROM change)"))

    @again_when_full
    def reclaim(self) -> bool:
        """Delete some of the values that nobody refers to and nobody has open. Returns whether there may be more.

        What a live session took away is its own to delete: only it knows what it has open. Everything else goes when
        every other live session has acknowledged it.
        """
        own = self._contents.sessions.own
        # As many as one call can do: after the expiry of a large run there are far more, to be read by every call.
        limit = _AT_ONCE + len(self._contents.pinned())
        rows = self._database.rows(
            "SELECT seq, content FROM change WHERE (session = ?1 OR ("
            "  NOT EXISTS (SELECT 1 FROM session WHERE id = change.session)"
            "  AND seq <= coalesce((SELECT seen FROM session WHERE id = ?1), ?2)))"
            " AND NOT EXISTS (SELECT 1 FROM session WHERE id <> ?1 AND seen < seq)"
            " AND NOT EXISTS (SELECT 1 FROM pin WHERE pin.content = change.content) ORDER BY seq LIMIT ?3",
            (own, _ENDLESS, limit),
        )
        free = [(seq, content) for seq, content in rows if not self._contents.is_pinned(content)]
        done: list[tuple[int]] = []
        if self._contents.shares_catalog:
            with self._database.joined():
                self._delete(free[:_AT_ONCE], done)
                self._forget(done)
        else:
            self._delete(free[:_AT_ONCE], done)
            with self._database.joined():
                self._forget(done)
        return len(free) > len(done) or (len(rows) == limit and bool(done))

    def _delete(self, rows: list[tuple[int, int]], done: list[tuple[int]]) -> None:
        for seq, content in rows:
            if content and not self._contents.delete_some(content):
                # A large value goes in pieces, so that nobody waits long for the lock: the rest is for the next call.
                return
            done.append((seq,))

    def _forget(self, done: list[tuple[int]]) -> None:
        for row in done:
            self._database.rows("DELETE FROM change WHERE seq = ?", row)

    def news(self) -> list[News]:
        """What other processes took away or changed and this one has not acknowledged yet, oldest first."""
        own = self._contents.sessions.own
        rows = self._database.rows(
            "SELECT seq, ino, parent, name, content FROM change WHERE session <> ?1"
            " AND seq > (SELECT seen FROM session WHERE id = ?1) ORDER BY seq",
            (own,),
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
        return self._database.checkpoint_due()

    def checkpoint(self) -> None:
        """Write the database's log back when it is long. Waits for the disk: for a thread."""
        if self._database.checkpoint_due():
            self._database.checkpoint()
