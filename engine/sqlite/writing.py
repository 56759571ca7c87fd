"""Transactions that write.

An operation is a transaction of its own, and undone alone. What nobody waits for may stay open for the
operations that follow at once (`Operation.later`), since a commit costs as much as all statements of an operation
together: then SQLite sees one transaction, and each operation is a savepoint in it. Whoever opens that one promises to
call `settle` within milliseconds; until then other threads and processes wait for the write lock.

Who has many statements to run at once may also have them read one moment of the database (`begin_turn`): outside of a
transaction SQLite takes and drops a lock for each, which costs more than most of them.
"""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from engine.errors import InternalError, ReadOnlyError, UnavailableError

if TYPE_CHECKING:
    from engine.sqlite.database import Database

_ONCE_MORE_S = 0.01


def undone() -> InternalError:
    """For an operation that goes on although SQLite has undone it by itself, as it does after some errors."""
    return InternalError("the store's database has undone the transaction that this is a part of")


class Operation:
    """All of a `with` block, or nothing of it. Raises StoreError."""

    __slots__ = ("_alone", "_nested", "_writes", "later")

    def __init__(self, writes: "Writes", *, alone: bool = True) -> None:
        """`alone`: it is undone alone, should it fail; else with all that the transaction has before it."""
        self._writes = writes
        self._alone = alone
        self._nested = False
        self.later = False
        """Set in the block: nobody waits for its commit. Only where the main connection is used."""

    def __enter__(self) -> "Operation":
        self._nested = self._writes.enter(savepoint=self._alone)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._writes.leave(self._nested and self._alone, self.later)
        else:
            self._writes.undo(self._nested and self._alone)


class Writes:
    """The transactions of one database that may write; one at a time in this process."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self.lock = threading.RLock()
        """Held while SQLite has a transaction of ours open that may write."""
        self.patience_s = 10.0
        """How long `lock` is waited for, and then another process's transaction."""
        self._waited_in_vain = False
        """Whether the last who waited for it did so in vain."""
        self.writer: int | None = None
        """The thread that is in an operation; set and cleared by itself, from its first statement to its last."""
        self._shared = False
        """Whether the transaction stays open between operations; then its thread holds the lock."""
        self.in_turn = False
        """Whether `begin_turn` was called last, not `settle`."""
        self.reads_next = False
        """Whether the next statement of the main connection's thread is to begin a transaction that reads."""
        self._reads = False
        """Whether such a transaction is open."""
        self.memory: dict[tuple[str, tuple[Any, ...]], list[Any]] | None = None
        """What statements outside of operations found, for as long as they would find the same; None out of turn."""
        self.count = 0
        """How many operations there were."""
        self.grown = 0
        """By how many bytes the operations of this transaction of SQLite's have made the values of the store grow."""
        self._grown_before = 0
        """The same when the last of them began."""
        self.known: dict[str, Any] = {}
        """What has been found out in this transaction of SQLite's, and holds as long as that is open."""
        self.refused = ""
        """Why nothing may be written; empty: it may."""
        self._before: list[Callable[[], None]] = []
        self._after: list[Callable[[bool], None]] = []

    @property
    def in_operation(self) -> bool:
        """Whether the calling thread is in an operation."""
        return self.writer == threading.get_ident()

    @property
    def open(self) -> bool:
        """Whether a transaction was left open by the last operation of this thread."""
        return self._shared

    def before_commit(self, step: Callable[[], None]) -> None:
        """Have something written as the last thing of this transaction of SQLite's."""
        self._before.append(step)

    def after(self, step: Callable[[bool], None]) -> None:
        """Have somebody told how this transaction of SQLite's ended: whether it was committed."""
        self._after.append(step)

    def enter(self, *, savepoint: bool = True) -> bool:
        """Begin an operation. Returns whether it is a part of a transaction that was open already."""
        if self._database.read_only:
            raise ReadOnlyError("the store is open for reading only")
        self.require_allowed()
        if not self.lock.acquire(blocking=False):
            self._wait_for_lock()
        if self._shared:
            # By this thread, or the lock could not be had; it holds everything already.
            self.lock.release()
            self.memory = None
            self.writer = threading.get_ident()
            if savepoint:
                self._run("SAVEPOINT operation")
        else:
            self._begin()
            self.writer = threading.get_ident()
        self._grown_before = self.grown
        self.count += 1
        return self._shared

    def require_allowed(self) -> None:
        """Raise InternalError where nothing may be written."""
        if self.refused:
            raise InternalError(self.refused)

    def _wait_for_lock(self) -> None:
        """Another thread of ours writes. It may wait for a disk that does not answer: the event loop must not.

        Who was refused once is refused at once until the lock was free, or each request would wait anew.
        """
        if not self.lock.acquire(timeout=_ONCE_MORE_S if self._waited_in_vain else self.patience_s):
            self._waited_in_vain = True
            raise UnavailableError("another thread has been writing for too long: does the disk answer?")
        self._waited_in_vain = False

    def _begin(self) -> None:
        try:
            self._database.hold()
            self._end_reading()
            try:
                self._database.rows("BEGIN IMMEDIATE")
            except BaseException:
                self._database.let_go()
                raise
        except BaseException:
            self.lock.release()
            raise

    def leave(self, savepoint: bool, later: bool) -> None:
        """End an operation; commit, unless that can wait."""
        if not later:
            self._commit()
            return
        if savepoint:
            self._run("RELEASE operation")
        elif not self._database.in_sqlite_transaction:
            self._end(committed=False)
            raise undone()
        self._shared = True
        self.writer = None
        self._remember()

    def undo(self, savepoint: bool) -> None:
        """End an operation that failed, as if it had not been."""
        # SQLite has undone everything by itself after some errors (a full disk); then there is nothing left.
        if savepoint and self._database.in_sqlite_transaction:
            self._run("ROLLBACK TO operation", "RELEASE operation")
            self.writer = None
            self.grown = self._grown_before
            self._remember()
        else:
            self._end(committed=False)

    def _run(self, *statements: str) -> None:
        """Statements of an operation's beginning or end: where one fails, nothing is left of the transaction."""
        try:
            for statement in statements:
                self._database.rows(statement)
        except BaseException:
            self._end(committed=False)
            raise

    def note_failure(self) -> None:
        """A statement has failed. With some errors SQLite undoes also what was left open by the operations before."""
        left_open = self._shared and self.writer is None and self._database.is_owner
        if left_open and not self._database.in_sqlite_transaction:
            self._end(committed=False)

    def begin_turn(self) -> None:
        """From here to `settle`, statements outside of operations see one moment of the database.

        For the thread that owns the main connection.
        """
        self.in_turn = True
        self.reads_next = not self._shared and not self._reads

    def begin_reading(self) -> None:
        self.reads_next = False
        self._database.rows("BEGIN")
        self._reads = True
        self._remember()

    def _remember(self) -> None:
        """A moment has begun in which nothing changes until the next operation."""
        self.memory = {} if self.in_turn else None

    def _end_reading(self) -> None:
        if self.in_turn and self._database.is_owner:
            self.reads_next = False
            self.memory = None
            if self._reads:
                self._reads = False
                # An error of the disk may have ended it. There is nothing to commit, and to commit can fail after one.
                if self._database.in_sqlite_transaction:
                    self._database.rows("ROLLBACK")

    def read_anew(self) -> None:
        """Let the next statement see what another thread of ours has committed, although the turn goes on."""
        if self._reads and self._database.is_owner:
            self._end_reading()
            self.reads_next = True

    def settle(self) -> None:
        """End the turn: commit what was left open. Raises StoreError, and then all of that is undone."""
        self._end_reading()
        self.in_turn = False
        self.memory = None
        if self._shared:
            self._commit()

    def _commit(self) -> None:
        self.writer = threading.get_ident()
        try:
            while self._before:
                self._before.pop()()
            self._database.rows("COMMIT")
        except BaseException:
            self._end(committed=False)
            raise
        self._end(committed=True)

    def _end(self, *, committed: bool) -> None:
        after, self._after = self._after, []
        try:
            if self._database.in_sqlite_transaction:
                self._database.rows("ROLLBACK")
        finally:
            self.writer = None
            self._shared = False
            self.grown = 0
            if self._database.is_owner:
                self.memory = None
            self.known.clear()
            self._before.clear()
            if self.in_turn and self._database.is_owner:
                self.reads_next = True
            self._database.let_go()
            self.lock.release()
            for step in after:
                step(committed)
