"""Puts that this process has acknowledged and not published yet: nothing of them is lost when it dies.

A small value is written to the session's journal, which costs one system call. Everything else is a row of the table
`intent`: large values, which are in the content engine by then, and names that nobody else may have. The journal is for
moments: what stays unpublished while later Puts are published moves to the table.
"""

from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

from engine import journal
from engine.acknowledged import Acknowledged, Key
from engine.catalog import puts, room
from engine.catalog.puts import How, Put
from engine.catalog.room import Waiting
from engine.catalog.transaction import Transaction
from engine.contents import Contents
from engine.drafts import Draft
from engine.errors import StoreError
from engine.fulfilling import Fulfilled
from engine.journal import Entry, Journal
from engine.sqlite.database import Database
from engine.withdrawals import Withdrawals

_LONGEST_JOURNAL = 4 * 1024 * 1024
_DELETE = "DELETE FROM intent WHERE ino = ? AND handle = ? RETURNING parent, size"

Name = tuple[int, bytes]
"""A directory and a name in it."""


class Intents:
    """The intents of this process's session."""

    def __init__(self, database: Database, contents: Contents, *, journaled: bool) -> None:
        """`journaled`: with a journal, which no sync makes survive a power cut; else all of them are in the table."""
        self._database = database
        self._journaled = journaled
        self._contents = contents
        self._numbers = count(1)
        self._journal: Journal | None = None
        self._written: dict[Key, Entry] = {}
        """What is in the journal alone, in the order of its numbers."""
        self._in_table: set[Key] = set()
        self._acknowledged = Acknowledged(database, contents.sessions)
        self.withdrawals = Withdrawals(self._numbers, None if database.path is None else self._open_journal)
        self._unsure: list[Fulfilled] = []
        """What a transaction has seen to that is not committed yet."""
        self.unpublished: dict[Key, Name] = {}
        """What was acknowledged and could not be published, or was undone because it could not be committed."""

    def keep(self, put: Put, draft: Draft, handle: int) -> None:
        """Make sure that `put` is not lost from now on, and has its room. The draft is settled. Raises StoreError."""
        key = put.ino, handle
        put.size = draft.size
        self._bound_journal()  # first: it may move an older intent of the key to the table
        if self._belongs_in_table(key, put, draft):
            self._keep_in_table(key, put, draft)
            return
        self._database.writes.require_allowed()
        scope = room.require_for(self._database, put, self.waiting(key))
        put.content = draft.content if draft.size else 0
        entry = Entry.of(next(self._numbers), handle, put, draft.whole())
        self._open_journal().append(entry)
        self._written.pop(key, None)
        self._written[key] = entry
        self.withdrawals.drop(key)
        self._acknowledged.note(key, put, scope)

    def _belongs_in_table(self, key: Key, put: Put, draft: Draft) -> bool:
        return (
            draft.large is not None
            or draft.registered  # which ends in the same transaction
            or put.how is How.CREATE
            or key in self._in_table
            or not self._journaled
            or not self._contents.shares_catalog
            or self._database.path is None
        )

    def _keep_in_table(self, key: Key, put: Put, draft: Draft) -> None:
        session = self._contents.sessions.ensure()
        with self._database.write():
            scope = room.require_for(self._database, put, self.waiting(key))
            put.content, put.size = self._contents.keep(draft)
            fulfilled = self.fulfil(key)
            puts.keep_intent(self._database, key[1], session, next(self._numbers), put)
            self._contents.drop_superseded(draft)
            self.seen_to(fulfilled)
        self.note(fulfilled)
        self._in_table.add(key)
        self._acknowledged.note(key, put, scope)
        draft.note_kept()

    def withdraw(self, key: Key, draft: Draft) -> None:
        """Take an intent back: its value is about to change, or is not to be published after all.

        Raises StoreError; then it is among the `withdrawals`.
        """
        self.unpublished.pop(key, None)
        if key not in self._in_table and key not in self._written:
            return
        try:
            self._withdraw(key, draft)
        except StoreError:
            # Then the journal says it, to all who do not find an older state of it.
            self.withdrawals.add(key, draft)
            self._acknowledged.drop(key)
            with suppress(StoreError):
                self.withdrawals.say()
            if key in self._in_table or not self.withdrawals.is_said(key):
                raise
            del self._written[key]
            self.withdrawals.drop(key)

    def _withdraw(self, key: Key, draft: Draft) -> None:
        with self._database.write():
            fulfilled = self.fulfil(key)
            registers = key in self._in_table and bool(draft.content) and not draft.registered
            if registers:
                session = self._contents.sessions.own
                self._database.rows("INSERT OR IGNORE INTO draft VALUES (?, ?)", (draft.content, session))
            # The intent was the last that referred to them.
            self._contents.drop_superseded(draft)
            self.seen_to(fulfilled)
        self.note(fulfilled)
        draft.registered |= registers
        draft.superseded.clear()

    def waiting(self, but: Key | None = None) -> Waiting:
        """What is acknowledged and not published, but for one; of other processes, what they keep in the table."""
        return self._acknowledged.waiting(partial(self._puts, but), but)

    def _puts(self, but: Key | None) -> list[Put]:
        """With names and sizes."""
        known = puts.all_intents(self._database)
        known |= {key: entry.as_put() for key, entry in self._written.items()}
        return [put for key, put in known.items() if key != but and key not in self.withdrawals]

    def require_room(self, tx: Transaction, scope: int, put: Put, fulfilled: Fulfilled | None) -> None:
        """Look whether a Put that a transaction has made fits, unless it has had its room since it was acknowledged.

        Raises QuotaError and StoreFullError.
        """
        if fulfilled is None or not fulfilled.has_room_for(put):
            room.require(tx, scope, self.waiting(None if fulfilled is None else fulfilled.key))

    # In the transaction that sees to an intent, and after it

    def fulfil(self, key: Key) -> Fulfilled:
        """Begin to see to an intent in the caller's operation; `seen_to` is its last step, `note` comes after it."""
        entry = self._written.get(key)
        fulfilled = Fulfilled(key, entry)
        if key in self._in_table:
            for fulfilled.parent, fulfilled.size in self._database.rows(_DELETE, key):
                pass
        if entry is not None:
            put = entry.as_put()
            fulfilled.parent, fulfilled.size = put.parent, put.size
            # What the journal is not going to count any more.
            for other in self._written.values():
                if other is entry:
                    break
                self._move(other)
                fulfilled.moved.append(other)
        return fulfilled

    def seen_to(self, fulfilled: Fulfilled) -> None:
        """End it: once the transaction is committed, the journal counts behind this entry only."""
        if fulfilled.entry is not None:
            self._count_from(fulfilled.entry.number, fulfilled.key)

    def _move(self, entry: Entry) -> None:
        put = entry.as_put()
        self._contents.keep_small(put.content, entry.value)
        session = self._contents.sessions.own
        puts.note_intent(self._database, entry.handle, session, entry.number, put, put.how)

    def _count_from(self, number: int, key: Key | None = None) -> None:
        with suppress(StoreError):  # else a kill within the next second publishes it
            self.withdrawals.say(above=number, but=key)
        writes = self._database.writes
        if "resolved" not in writes.known:
            writes.before_commit(self._keep_resolved)
            writes.after(self._settle)
        writes.known["resolved"] = number

    def _keep_resolved(self) -> None:
        number, session = self._database.writes.known["resolved"], self._contents.sessions.own
        self._database.rows("UPDATE session SET resolved = ? WHERE id = ?", (number, session))

    def note(self, fulfilled: Fulfilled) -> None:
        """The operation that saw to an intent is done; its transaction may be open still."""
        self._in_table.discard(fulfilled.key)
        self._written.pop(fulfilled.key, None)
        self.withdrawals.drop(fulfilled.key)
        self._acknowledged.drop(fulfilled.key)
        self.unpublished.pop(fulfilled.key, None)
        for entry in fulfilled.moved:
            key = entry.ino, entry.handle
            self._written.pop(key, None)
            self._in_table.add(key)
        if self._database.writes.open:
            self._unsure.append(fulfilled)
        else:
            self._restart()

    def _settle(self, committed: bool) -> None:
        """A transaction that saw to intents has ended."""
        unsure, self._unsure = self._unsure, []
        if not committed:
            self._take_back(unsure)
        else:
            self._restart()

    def _restart(self) -> None:
        if self._journal is not None and not self._written and not self.withdrawals:
            self._journal.restart()

    def _take_back(self, unsure: list[Fulfilled]) -> None:
        """What was seen to is as before: in the journal, which has been left alone."""
        for fulfilled in unsure:
            for entry in fulfilled.moved:
                key = entry.ino, entry.handle
                self._in_table.discard(key)
                self._written[key] = entry
            if fulfilled.entry is not None:
                self._written[fulfilled.key] = fulfilled.entry
                self._acknowledged.note(fulfilled.key, put := fulfilled.entry.as_put())
                self.unpublished[fulfilled.key] = put.parent, put.name
        self._written = dict(sorted(self._written.items(), key=lambda item: item[1].number))

    # What is to be published again

    def in_order(self) -> list[Key]:
        """The keys of what is unpublished, in the order of the closes. Raises StoreError."""
        numbers = {key: entry.number for key, entry in self._written.items()}
        if not self.unpublished.keys() <= numbers.keys():
            session = self._contents.sessions.own
            rows = self._database.rows("SELECT ino, handle, prepared FROM intent WHERE session = ?", (session,))
            numbers |= {(ino, handle): prepared for ino, handle, prepared in rows}
        self.unpublished = {key: name for key, name in self.unpublished.items() if key in numbers}
        return sorted(self.unpublished, key=numbers.__getitem__)

    def acknowledged(self, tx: Transaction, key: Key) -> Put:
        """The Put of an intent; the value of one in the journal is kept as others are, in the caller's transaction."""
        entry = self._written.get(key)
        if entry is None:
            return next(put for _, handle, put in puts.intents_of(tx, tx.session) if (put.ino, handle) == key)
        put = entry.as_put()
        self._contents.keep_small(put.content, entry.value)
        return put

    # The journal

    @property
    def journal_path(self) -> Path | None:
        """Where the journal is, once there is one."""
        return None if self._journal is None else self._journal.path

    def _open_journal(self) -> Journal:
        if self._journal is None:
            self._database.writes.require_allowed()  # or it may be another store that is there now
            session = self._contents.sessions.ensure()
            assert self._database.path is not None
            self._journal = Journal(journal.path_of(self._database.path, session))
        return self._journal

    def _bound_journal(self) -> None:
        """Begin it again when it has become long."""
        if self._journal is not None and self._journal.size > _LONGEST_JOURNAL and not self._unsure:
            self._empty()

    def _empty(self) -> None:
        """Move everything to the table, and begin the journal again."""
        with self._database.write():
            moved = list(self._written.values())
            for entry in moved:
                self._move(entry)
            if moved:
                self._count_from(moved[-1].number)
        self._in_table.update(self._written)
        self._written.clear()
        assert self._journal is not None
        self._journal.restart(self.withdrawals.entries())

    def close(self) -> None:
        """Leave nothing in the journal, and delete it. Raises StoreError; then it stays, for who recovers it.

        It also stays with what could not be taken back.
        """
        self.withdrawals.say()
        if self._journal is not None:
            self._empty()
            self._journal.close(remove=not self.withdrawals)
            self._journal = None
