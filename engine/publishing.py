"""Publishing Puts so that none is lost: prepare at FLUSH, publish at RELEASE, and what a dead process left behind.

A Put that was acknowledged and not published yet is an *intent* in the catalog, its value kept in the content engine.
Every method is one transaction, or one after the value was stored aside. Used from one thread.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from engine import journal
from engine.catalog import eviction, nodes
from engine.catalog import puts as catalog_puts
from engine.catalog.puts import How, Put
from engine.catalog.transaction import Transaction
from engine.contents import Contents
from engine.drafts import SMALL_BYTES, Draft
from engine.errors import StoreError, UnavailableError
from engine.intents import Fulfilled, Intents, Key
from engine.journal import Entry
from engine.model import Effects, Kind, Node
from engine.sqlite.database import Database
from engine.sqlite.fullness import again_when_full, require_space

_JOIN_TRIES = 1000


class Published(NamedTuple):
    """What a Put came to."""

    node: Node
    """What its name stands for now."""
    replaced: Node | None
    """What it stood for before, where that is gone now."""
    effects: Effects


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was published for processes that died."""

    nodes: list[Node]
    """What the names stand for now."""
    effects: list[Effects]


class _Overtaken(Exception):
    """Another Put of the name came between reading its value and appending to it."""


class Publisher:
    """The Puts of this process."""

    def __init__(self, database: Database, contents: Contents) -> None:
        self._database = database
        self._contents = contents
        self._intents = Intents(database, contents)

    @again_when_full
    def prepare(self, put: Put, draft: Draft, handle: int) -> None:
        """Make sure that `put` happens even if this process dies from now on. Raises StoreError."""
        self._contents.settle(draft)
        require_space(self._database, SMALL_BYTES)
        self._intents.keep(put, draft, handle)

    def retract(self, ino: int, draft: Draft, handle: int) -> None:
        """Take an intent back: its value is about to change, or is not to be published after all. Raises StoreError."""
        self._intents.withdraw((ino, handle), draft)

    def publish(
        self, put: Put, draft: Draft, intent: tuple[int, int] | None = None, *, later: bool = False
    ) -> Published:
        """Let the value of `draft` have its name, and evict what must go. `intent`, by inode and handle, is fulfilled.

        `later`: nobody waits for it, so it may be committed together with what follows; the caller sees to that (see
        engine.sqlite.writing), and what the commit undoes, should it fail, `publish_again` does once more.

        Raises StoreError, and then the old value stands.
        """
        self._contents.settle(draft)
        if intent is None:
            require_space(self._database, SMALL_BYTES)
        if put.how is How.APPEND and not self._contents.shares_catalog:
            return self._publish_append(put, draft, intent)
        spare = self._contents.numbers.take() if put.how is How.APPEND else 0
        return self._publish(put, draft, intent, spare, later=later and draft.large is None)

    def _publish(self, put: Put, draft: Draft, intent: tuple[int, int] | None, spare: int, *, later: bool) -> Published:
        try:
            return self._publish_in_one(put, draft, intent, spare, later=later)
        except StoreError:
            # It may have taken along what was published before it, and not committed yet.
            with suppress(StoreError):
                self.publish_again()
            raise

    def _publish_append(self, put: Put, draft: Draft, intent: tuple[int, int] | None) -> Published:
        """With an engine that has no part in the transaction: join the two values before it, and check in it."""
        spare = self._contents.reserve()
        try:
            for _ in range(_JOIN_TRIES):
                old = nodes.by_name(self._database, put.parent, put.name)
                old = old or eviction.evicted_at(self._database, put.parent, put.name)
                if old is not None and old.kind == Kind.OBJECT:
                    self._contents.join(spare, old.content, old.size, draft.content, draft.size)
                try:
                    return self._publish_in_one(put, draft, intent, spare, old)
                except _Overtaken:
                    continue
            raise UnavailableError("the object changes faster than it can be appended to")
        finally:
            self._contents.release(spare)

    @again_when_full
    def _publish_in_one(
        self,
        put: Put,
        draft: Draft,
        intent: tuple[int, int] | None,
        spare: int,
        joined: Node | None = None,
        *,
        later: bool = False,
    ) -> Published:
        with self._database.write(alone=not later) as operation:
            tx = Transaction(self._database, self._contents.sessions.own)
            put.content, put.size = self._contents.keep(draft)
            self._intents.drop_superseded(draft)
            fulfilled = None if intent is None else self._intents.fulfil(intent)
            node, replaced = catalog_puts.put(tx, put, self._joiner(tx, spare, joined))
            published = Published(node, replaced, tx.effects())
            operation.later = later and self._can_wait(tx, node, fulfilled)
            if fulfilled is not None:
                self._intents.seen_to(fulfilled)
        if fulfilled is not None:
            self._intents.note(fulfilled)
        draft.hand_over()
        return published

    def _can_wait(self, tx: Transaction, node: Node, fulfilled: Fulfilled | None) -> bool:
        # Without an entry there is nothing to publish it again from. Large values, as an append can make one, are read
        # in other threads, which see what is committed. And other processes would wait for the lock.
        return fulfilled is not None and fulfilled.entry is not None and node.size <= SMALL_BYTES and not tx.others

    def _joiner(self, tx: Transaction, spare: int, joined: Node | None) -> catalog_puts.Join:
        def join(old: Node, put: Put) -> tuple[int, int]:
            if self._contents.shares_catalog:
                self._contents.join(spare, old.content, old.size, put.content, put.size)
            elif joined is None or joined.ino != old.ino:
                raise _Overtaken
            else:
                tx.rows("DELETE FROM draft WHERE content = ?", (spare,))
            tx.drop_content(put.content)
            return spare, old.size + put.size

        return join

    def abandon(self, draft: Draft, ino: int = 0, handle: int | None = None) -> None:
        """Give up a draft that is not to be published, and the intent of `ino` and `handle`. Raises StoreError."""
        draft.close()
        if handle is not None:
            self._intents.withdraw((ino, handle), draft)
        if not draft.registered and not draft.superseded:
            return
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            tx.rows("DELETE FROM draft WHERE content = ?", (draft.content,))
            tx.drop_content(draft.content)
            self._intents.drop_superseded(draft)
        draft.note_kept()

    def settle(self) -> None:
        """Commit what was published `later`. Raises StoreError."""
        self._database.writes.settle()

    def close(self) -> None:
        """Leave what is acknowledged and not published to whoever opens the store next. Raises StoreError."""
        self.settle()
        self._intents.close()

    def publish_again(self) -> Recovered:
        """Publish what was published and then undone, because it could not be committed. Raises StoreError."""
        recovered = Recovered([], [])
        for key, entry in list(self._intents.unpublished.items()):
            with self._database.write():
                tx = Transaction(self._database, self._contents.sessions.own)
                fulfilled = self._intents.fulfil(key)
                node = self._recover(tx, self._kept(entry))
                self._intents.seen_to(fulfilled)
            self._intents.note(fulfilled)
            del self._intents.unpublished[key]
            recovered.nodes.extend(filter(None, [node]))
            recovered.effects.append(tx.effects())
        return recovered

    def recover(self) -> Recovered:
        """Publish what sessions that died had acknowledged, and delete what they had not."""
        recovered = Recovered([], [])
        for session in self._contents.sessions.dead():
            with self._database.write():
                resolved = self._database.row("SELECT resolved FROM session WHERE id = ?", (session,))
                if resolved is None:
                    continue  # another process was quicker
                tx = Transaction(self._database, self._contents.sessions.own)
                for put in self._left_by(tx, session, resolved[0]):
                    recovered.nodes.extend(filter(None, [self._recover(tx, put)]))
                for (content,) in tx.rows("DELETE FROM draft WHERE session = ? RETURNING content", (session,)):
                    tx.drop_content(content)
                for table in ("intent", "pin"):
                    tx.rows(f"DELETE FROM {table} WHERE session = ?", (session,))
                tx.rows("DELETE FROM session WHERE id = ?", (session,))
            recovered.effects.append(tx.effects())
            if self._database.path is not None:
                journal.path_of(self._database.path, session).unlink(missing_ok=True)
        return recovered

    def tidy(self) -> None:
        """Delete what recoveries that were interrupted have left beside the store."""
        if self._database.path is not None:
            sessions = {number for (number,) in self._database.rows("SELECT id FROM session")}
            journal.remove_forgotten(self._database.path, sessions)

    def _left_by(self, tx: Transaction, session: int, resolved: int) -> list[Put]:
        """What a session had acknowledged, in the order of its closes, from its journal and the table."""
        left: dict[Key, tuple[int, Put | Entry]] = {}
        path = self._database.path
        for entry in [] if path is None else journal.read(journal.path_of(path, session)):
            if entry.number > resolved:
                left[entry.ino, entry.handle] = entry.number, entry
        for number, handle, put in catalog_puts.intents_of(tx, session):
            left[put.ino, handle] = number, put
        in_order = [item for _, item in sorted(left.values(), key=lambda item: item[0])]
        return [
            item if isinstance(item, Put) else self._kept(item)
            for item in in_order
            if isinstance(item, Put) or item.put is not None
        ]

    def _kept(self, entry: Entry) -> Put:
        """The Put of a journal's entry, its value kept as others are."""
        put = entry.as_put()
        self._contents.keep_small(put.content, entry.value)
        return put

    def _recover(self, tx: Transaction, put: Put) -> Node | None:
        def join(old: Node, put: Put) -> tuple[int, int]:
            content = tx.new_number()
            self._contents.join(content, old.content, old.size, put.content, put.size)
            tx.drop_content(put.content)
            return content, old.size + put.size

        if nodes.by_ino(self._database, put.ino) is not None:
            # Several writers of one name shared its inode; the object takes a number that nothing else has.
            put.ino = tx.new_number()
        try:
            node, _ = catalog_puts.put(tx, put, join)
        except StoreError:
            # Its directory went away, or the limits were tightened: there is nowhere to put it.
            tx.drop_content(put.content)
            return None
        return node
