"""Publishing Puts so that none is lost: prepare at FLUSH, publish at RELEASE.

A Put that was acknowledged and not published yet is an *intent* in the catalog, its value kept in the content engine.
Every method is one transaction, or one after the value was stored aside. Used from one thread.
"""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from engine.catalog import eviction, nodes
from engine.catalog import puts as catalog_puts
from engine.catalog.puts import How, Put
from engine.catalog.transaction import Transaction
from engine.contents import Contents
from engine.drafts import SMALL_BYTES, Draft
from engine.errors import StoreError, UnavailableError
from engine.fulfilling import Fulfilled
from engine.intents import Intents
from engine.model import Effects, Kind, Node
from engine.outstanding import Outstanding
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


class _Overtaken(Exception):
    """Another Put of the name came between reading its value and appending to it."""


class Publisher(Outstanding):
    """The Puts of this process."""

    def __init__(self, database: Database, contents: Contents, *, journaled: bool = True) -> None:
        """`journaled`: as in Intents."""
        super().__init__(database, contents, Intents(database, contents, journaled=journaled))
        self.waiting = self._intents.waiting()

    @again_when_full
    def prepare(self, put: Put, draft: Draft, handle: int) -> None:
        """Make sure that `put` happens even if this process dies from now on. Raises StoreError."""
        self._contents.settle(draft)
        self._require_space(put, draft)
        if put.how is How.CREATE:
            self.first((put.parent, put.name))
        elif self._contents.sessions.dead():
            with suppress(StoreError):  # or it would come behind this one, if this process died as well
                self._publish_left()
        self._intents.keep(put, draft, handle)

    def _require_space(self, put: Put, draft: Draft) -> None:
        """Before a Put is acknowledged: what is needed to publish it as well, which must not be refused any more."""
        joined = draft.size if put.how is How.APPEND and self._contents.shares_catalog else 0
        require_space(self._database, SMALL_BYTES + joined)

    def retract(self, ino: int, draft: Draft, handle: int) -> None:
        """Take an intent back: its value is about to change, or is not to be published after all.

        Raises StoreError; then `publish_again` does it, or `close`, unless the Put is prepared anew or published.
        """
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
            self._require_space(put, draft)
        if put.how is How.APPEND and not self._contents.shares_catalog:
            return self._publish_append(put, draft, intent)
        spare = self._contents.numbers.take() if put.how is How.APPEND else 0
        return self._publish(put, draft, intent, spare, later=later and draft.large is None)

    def _publish(self, put: Put, draft: Draft, intent: tuple[int, int] | None, spare: int, *, later: bool) -> Published:
        try:
            return self._publish_in_one(put, draft, intent, spare, later=later)
        except StoreError:
            # It may have taken along what was published before it, and not committed yet.
            self._publish_waiting()  # which `published_again` tells of
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
        self.first((put.parent, put.name))
        with self._database.write(alone=not later) as operation:
            tx = Transaction(self._database, self._contents.sessions.own)
            put.content, put.size = self._contents.keep(draft)
            self._contents.drop_superseded(draft)
            fulfilled = None if intent is None else self._intents.fulfil(intent)
            node, replaced = catalog_puts.put(tx, put, self._joiner(tx, spare, joined))
            self._intents.require_room(tx, node.scope, put, fulfilled)
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
        """Give up a draft that is not to be published, and the intent of `ino` and `handle`.

        Raises StoreError; then `publish_again` does it, or `close`.
        """
        self._abandoning.abandon(draft, None if handle is None else (ino, handle))

    def close(self) -> None:
        """Leave what is acknowledged and not published to whoever opens the store next. Raises StoreError."""
        self.settle()
        self._abandoning.again()  # what fails is left to them as well: as what is not to be published
        self._intents.close()

    @property
    def journal_path(self) -> Path | None:
        """Where the journal of this process is, once there is one."""
        return self._intents.journal_path
