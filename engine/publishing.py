"""Publishing Puts so that none is lost: prepare at FLUSH, publish at RELEASE, and what a dead process left behind.

A Put that was acknowledged and not published yet is an *intent* in the catalog, its value kept in the content engine.
Every method is one transaction, or one after the value was stored aside. Used from one thread.
"""

from dataclasses import dataclass
from itertools import count

from engine.catalog import eviction, nodes
from engine.catalog import puts as catalog_puts
from engine.catalog.puts import How, Put
from engine.catalog.transaction import Transaction
from engine.contents import Contents
from engine.drafts import SMALL_BYTES, Draft
from engine.errors import StoreError, UnavailableError
from engine.model import Effects, Kind, Node
from engine.sqlite.database import Database
from engine.sqlite.fullness import again_when_full, require_space

_JOIN_TRIES = 1000


@dataclass(frozen=True, slots=True)
class Published:
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
        self._prepared = count(1)

    @again_when_full
    def prepare(self, put: Put, draft: Draft, handle: int) -> None:
        """Make sure that `put` happens even if this process dies from now on. Raises StoreError."""
        session = self._contents.sessions.ensure()
        self._contents.settle(draft)
        require_space(self._database, SMALL_BYTES)
        with self._database.write():
            put.content, put.size = self._contents.keep(draft)
            catalog_puts.keep_intent(self._database, handle, session, next(self._prepared), put)
            if draft.superseded:
                self._drop_superseded(Transaction(self._database, session), draft)
        draft.note_kept()

    def retract(self, ino: int, draft: Draft, handle: int) -> None:
        """Take an intent back: its value is about to change, or is not to be published after all. Raises StoreError."""
        session = self._contents.sessions.ensure()
        with self._database.write():
            self._database.rows("DELETE FROM intent WHERE ino = ? AND handle = ?", (ino, handle))
            if draft.content and not draft.registered:
                self._database.rows("INSERT OR IGNORE INTO draft VALUES (?, ?)", (draft.content, session))
                draft.registered = True
            if draft.superseded:
                # The intent was the last that referred to them.
                self._drop_superseded(Transaction(self._database, session), draft)
        draft.superseded.clear()

    def publish(self, put: Put, draft: Draft, intent: tuple[int, int] | None = None) -> Published:
        """Let the value of `draft` have its name, and evict what must go. `intent`, by inode and handle, is fulfilled.

        Raises StoreError, and then the old value stands.
        """
        self._contents.settle(draft)
        if intent is None:
            require_space(self._database, SMALL_BYTES)
        if put.how is How.APPEND and not self._contents.shares_catalog:
            return self._publish_append(put, draft, intent)
        spare = self._contents.numbers.take() if put.how is How.APPEND else 0
        return self._publish(put, draft, intent, spare)

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
                    return self._publish(put, draft, intent, spare, old)
                except _Overtaken:
                    continue
            raise UnavailableError("the object changes faster than it can be appended to")
        finally:
            self._contents.release(spare)

    @again_when_full
    def _publish(
        self, put: Put, draft: Draft, intent: tuple[int, int] | None, spare: int, joined: Node | None = None
    ) -> Published:
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            put.content, put.size = self._contents.keep(draft)
            self._drop_superseded(tx, draft)
            if intent is not None:
                tx.rows("DELETE FROM intent WHERE ino = ? AND handle = ?", intent)
            node, replaced = catalog_puts.put(tx, put, self._joiner(tx, spare, joined))
            published = Published(node, replaced, tx.effects())
        draft.hand_over()
        return published

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
        if handle is None and not draft.registered and not draft.superseded:
            return
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            if handle is not None:
                tx.rows("DELETE FROM intent WHERE ino = ? AND handle = ?", (ino, handle))
            tx.rows("DELETE FROM draft WHERE content = ?", (draft.content,))
            tx.drop_content(draft.content)
            self._drop_superseded(tx, draft)
        draft.note_kept()

    def _drop_superseded(self, tx: Transaction, draft: Draft) -> None:
        for content in draft.superseded:
            tx.rows("DELETE FROM draft WHERE content = ?", (content,))
            tx.drop_content(content)

    def recover(self) -> Recovered:
        """Publish what sessions that died had acknowledged, and delete what they had not."""
        recovered = Recovered([], [])
        for session in self._contents.sessions.dead():
            with self._database.write():
                if self._database.row("SELECT 1 FROM session WHERE id = ?", (session,)) is None:
                    continue  # another process was quicker
                tx = Transaction(self._database, self._contents.sessions.own)
                puts = [self._recover(tx, put) for _, put in catalog_puts.intents_of(tx, session)]
                for (content,) in tx.rows("DELETE FROM draft WHERE session = ? RETURNING content", (session,)):
                    tx.drop_content(content)
                for table in ("intent", "pin"):
                    tx.rows(f"DELETE FROM {table} WHERE session = ?", (session,))
                tx.rows("DELETE FROM session WHERE id = ?", (session,))
            recovered.nodes.extend(node for node in puts if node is not None)
            recovered.effects.append(tx.effects())
        return recovered

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
