"""What processes that died have left: Puts that were acknowledged and not published, and drafts that were not."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import apsw

from engine import disk, journal, sessions
from engine.acknowledged import Key
from engine.catalog import nodes
from engine.catalog import puts as catalog_puts
from engine.catalog.puts import Put
from engine.catalog.transaction import Transaction
from engine.contents import Contents
from engine.errors import FAULTS, DamagedError, InternalError, NotFoundError, OutOfSpaceError, StoreError
from engine.intents import Name
from engine.journal import Entry
from engine.model import Effects, Node
from engine.sqlite.database import Database
from engine.sqlite.fullness import again_when_full
from engine.withheld import Withheld


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was published for processes that died."""

    nodes: list[Node]
    """What the names stand for now."""
    effects: list[Effects]


class _Left(NamedTuple):
    """A Put that was acknowledged and not published."""

    number: int
    handle: int
    put: Put


def _concerns_a_value(error: StoreError) -> bool:
    """Whether a value cannot be read, and the catalog can: then only Puts that need that value have to wait."""
    return isinstance(error, (DamagedError, InternalError)) and not isinstance(error.__cause__, apsw.Error)


def _concerns_one_part(error: StoreError) -> bool:
    return not isinstance(error, FAULTS) or _concerns_a_value(error)


def _path(tx: Transaction, put: Put) -> str:
    return nodes.path_of(tx.database, put.parent, put.name).decode("utf-8", "backslashreplace")


def _drop_unacknowledged(tx: Transaction, session: int) -> None:
    """Leave to be deleted what a dead session had not acknowledged, and what it kept for its readers."""
    for (content,) in tx.rows("DELETE FROM draft WHERE session = ? RETURNING content", (session,)):
        tx.drop_content(content)
    tx.rows("DELETE FROM pin WHERE session = ?", (session,))


class Recovery:
    """Publishes what is left of sessions that died."""

    def __init__(self, database: Database, contents: Contents) -> None:
        self._database = database
        self._contents = contents
        self._recovered = Recovered([], [])
        """What `recover` has not told of yet."""
        self._withheld = Withheld(database)

    def recover(self) -> Recovered:
        """Publish what sessions that died had acknowledged, and delete what they had not.

        Raises StoreError; OutOfSpaceError once every session was tried. What was published is told by the next call.
        """
        full: OutOfSpaceError | None = None
        for session in filter(self._withheld.is_due, self._contents.sessions.dead()):
            done = False
            try:
                done = self._recover_session(session)
            except OutOfSpaceError as error:
                full = error  # the next one may have less, and what can be deleted makes room
                self._withheld.note(session, error)
            except Exception as error:
                if isinstance(error, StoreError) and not isinstance(error, (DamagedError, InternalError)):
                    raise
                # What was acknowledged waits until that is repaired, and everything else goes on: an error of ours or
                # of the disk, too, must not keep the store from being opened.
                why = error if isinstance(error, StoreError) else InternalError(f"unexpected {error!r}")
                self._withheld.note(session, why, f"what session {session} has left cannot be published yet: {why}")
            if done and self._database.path is not None:
                with suppress(OSError):  # else `tidy` does it, the next time that the store is opened
                    journal.path_of(self._database.path, session).unlink(missing_ok=True)
            if session in self._withheld:
                self._withheld.put_off(session)
                if not done:
                    self._let_go(session)
        if full is not None:
            raise full
        recovered, self._recovered = self._recovered, Recovered([], [])
        return recovered

    def held(self) -> dict[Name, StoreError]:
        """The names that sessions which died have left something for that cannot be published yet, and why."""
        return self._withheld.names(self._contents.sessions.dead())

    def _let_go(self, session: int) -> None:
        """The space of others is not to wait for one whose Puts wait."""
        if self._withheld.keeps_all(session):
            with suppress(StoreError):  # else the next time
                self._keep_acknowledged(session)
                self._withheld.note_let_go(session)

    @again_when_full
    def _keep_acknowledged(self, session: int) -> None:
        """Have a session keep what it had acknowledged, and that alone: few rows, for a disk that may be full."""
        with self._database.write():
            _drop_unacknowledged(Transaction(self._database, self._contents.sessions.own), session)
            sessions.leave_waiting(self._database, session, 0)

    def _recover_session(self, session: int) -> bool:
        """Returns whether it did; False when another process was quicker."""
        with self._database.write():
            resolved = self._database.row("SELECT resolved FROM session WHERE id = ?", (session,))
            if resolved is None:
                return False
            tx = Transaction(self._database, self._contents.sessions.own)
            entries = self._journal(session, resolved[0])
            left = self._left_by(tx, session, [entry for entry in entries if entry.number > resolved[0]])
            published, waiting = self._publish_all(tx, session, left)
            _drop_unacknowledged(tx, session)
            tx.rows("DELETE FROM intent WHERE session = ?", (session,))
            if waiting:
                self._keep_waiting(tx, session, waiting, max(entry.number for entry in entries) if entries else 0)
            else:
                tx.rows("DELETE FROM session WHERE id = ?", (session,))
        self._recovered.nodes.extend(filter(None, published))
        self._recovered.effects.append(tx.effects())
        if not waiting:
            self._withheld.drop(session)
        return True

    def _publish_all(self, tx: Transaction, session: int, left: list[_Left]) -> tuple[list[Node | None], list[_Left]]:
        """Returns what was published, and what has to wait: Puts that need what cannot be read, and those behind them
        of the same names.
        """
        published: list[Node | None] = []
        waiting: list[_Left] = []
        names: set[Name] = set()
        for item in left:
            ino, name = item.put.ino, (item.put.parent, item.put.name)
            if name not in names:
                try:
                    published.append(self.publish(tx, item.put))
                    continue
                except StoreError as error:
                    if not _concerns_a_value(error):
                        raise
                    names.add(name)
                    why = f"cannot be published yet, nor what was later: {error}"
                    self._withheld.note(session, error, f"what was put to {_path(tx, item.put)} {why}")
            item.put.ino = ino
            waiting.append(item)
        return published, waiting

    def _keep_waiting(self, tx: Transaction, session: int, waiting: list[_Left], resolved: int) -> None:
        """Leave a session with nothing but these, in the table, and nobody waiting for it."""
        for item in waiting:
            catalog_puts.note_intent(tx.database, item.handle, session, item.number, item.put, item.put.how)
        sessions.leave_waiting(tx.database, session, resolved)

    def _journal(self, session: int, resolved: int) -> list[Entry]:
        if self._database.path is None:
            return []
        path = journal.path_of(self._database.path, session)
        found = journal.examine(path, resolved)
        if found.damaged:
            self._keep_aside(path)
        return found.entries

    def _keep_aside(self, path: Path) -> None:
        """Before the commit: from then on a journal is deleted, whoever finds it. Raises InternalError."""
        try:
            kept = journal.aside(path)
            with suppress(FileExistsError):  # by a recovery that was interrupted
                disk.keep(path, kept)
        except OSError as error:
            raise InternalError(f"its journal {path} is damaged, and cannot be kept: {error.strerror}") from error
        self._tell(f"It was kept as {kept}")

    def _tell(self, what_became_of_it: str) -> None:
        self._database.troubles.note(
            f"a journal was damaged: Puts that were acknowledged may be lost. {what_became_of_it}"
        )

    def tidy(self) -> None:
        """Delete what recoveries that were interrupted have left beside the store."""
        if self._database.path is not None:
            for _, path in journal.forgotten(self._database.path, self._contents.sessions.listed):
                with suppress(OSError):
                    if (kept := journal.aside(path)).exists():
                        self._tell(f"It was kept as {kept}")  # as who was interrupted may not have told
                    path.unlink()

    def _left_by(self, tx: Transaction, session: int, entries: list[Entry]) -> list[_Left]:
        """What a session had acknowledged, in the order of its closes, from its journal and the table."""
        left: dict[Key, tuple[int, Put | Entry]] = {}
        for entry in entries:
            left[entry.ino, entry.handle] = entry.number, entry
        for number, handle, put in catalog_puts.intents_of(tx, session):
            key = put.ino, handle
            if key in left and left[key][0] > number:
                tx.drop_content(put.content)  # after a power cut the table may be older than the journal
            else:
                left[key] = number, put
        return [
            _Left(number, handle, item if isinstance(item, Put) else self._kept(tx, item))
            for (_, handle), (number, item) in sorted(left.items(), key=lambda item: item[1][0])
            if isinstance(item, Put) or item.put is not None
        ]

    def _kept(self, tx: Transaction, entry: Entry) -> Put:
        """The Put of a journal's entry, its value kept as others are.

        It has a new number: after a power cut the catalog may be older than the journal, and know nothing of its own.
        """
        put = entry.as_put()
        if put.content:
            put.content = tx.new_number()
        self._contents.keep_small(put.content, entry.value)
        return put

    def publish(self, tx: Transaction, put: Put) -> Node | None:
        """Publish what was acknowledged, in the caller's transaction; None when there is nowhere to put it any more."""

        def join(old: Node, put: Put) -> tuple[int, int]:
            content = tx.new_number()
            try:
                self._contents.join(content, old.content, old.size, put.content, put.size)
            except NotFoundError as error:
                # As what is damaged, which a repair makes lost: it takes the name away, and then this can be published.
                raise InternalError("the value that was appended to is lost") from error
            tx.drop_content(put.content)
            return content, old.size + put.size

        # Several writers of one name may have shared its inode, and others have it open.
        put.ino = tx.new_number()
        try:
            with tx.part(_concerns_one_part):
                node, _ = catalog_puts.put(tx, put, join)
        except FAULTS:
            raise  # it is not lost: whoever tries again has it
        except StoreError as error:
            # Its directory went away, a directory has its name, or the limits were tightened. Not what its writer has
            # removed: that was taken back before.
            tx.drop_content(put.content)
            self._database.troubles.note(f"what was put to {_path(tx, put)} and acknowledged is lost: {error}")
            return None
        return node
