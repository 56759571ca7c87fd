"""The values of a store: their numbers, the keys under which the content engine has them, and drafts of new ones."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator

from engine.catalog.transaction import Transaction
from engine.drafts import SMALL_BYTES, Draft, LargeDraft, SpooledDraft
from engine.errors import InternalError, NotFoundError
from engine.interface import ObjectEngine
from engine.sessions import Sessions
from engine.sqlite.content import SqliteEngine
from engine.sqlite.database import Database
from engine.sqlite.fullness import again_when_full

_NUMBERS_AT_ONCE = 1024
_PIECE_BYTES = 1024 * 1024


class Numbers:
    """Inode and content numbers, never used twice, taken from the store a block at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._next = self._end = 0
        """The block in hand, guarded by the lock: drafts of large values are settled in other threads."""

    @again_when_full
    def take(self) -> int:
        """A number that nothing in the store ever had. Not inside a transaction, which might be rolled back."""
        while True:
            with self._lock:
                if self._next < self._end:
                    self._next += 1
                    return self._next - 1
            self._fetch()

    def _fetch(self) -> None:
        with self._database.write():
            end = self._database.value("UPDATE store SET next_id = next_id + ? RETURNING next_id", (_NUMBERS_AT_ONCE,))
        # Only now: who holds the lock never waits for a transaction. Of two who fetch at once, one block is lost.
        with self._lock:
            self._next, self._end = end - _NUMBERS_AT_ONCE, end


class Contents:
    """Reading values, and writing new ones through drafts."""

    def __init__(self, database: Database, engine: ObjectEngine, sessions: Sessions) -> None:
        self.database = database
        self.engine = engine
        self.sessions = sessions
        self.numbers = Numbers(database)
        self._embedded = engine.values if isinstance(engine, SqliteEngine) else None
        self.prefix = f"{database.value('SELECT id FROM store')}/"
        """What the keys of this store's values begin with in the content engine."""
        self._open: Counter[int] = Counter()

    def key(self, content: int) -> str:
        return f"{self.prefix}{content:016x}"

    @property
    def shares_catalog(self) -> bool:
        return self._embedded is not None

    @property
    def waits(self) -> bool:
        """Whether to read a small value may take longer than to look something up in the catalog."""
        return self._embedded is None and self.engine.waits

    def read(self, content: int, offset: int, length: int) -> bytes:
        """Up to `length` bytes of a value from `offset`. Raises InternalError when the engine has lost it."""
        if not content or length <= 0:
            return b""
        try:
            if self._embedded is not None:
                return self._embedded.read(content, offset, length)
            return self.engine.read_object(self.key(content), offset, length)
        except NotFoundError as error:
            raise InternalError(f"the content engine has lost the value {self.key(content)}") from error

    def read_now(self, content: int, offset: int, length: int) -> bytearray | None:
        """As `read`, for a large value and without waiting for the disk; None when that is not possible."""
        return None if self._embedded is None else self._embedded.read_now(content, offset, length)

    def pieces(self, content: int, size: int) -> Iterator[bytes]:
        """A value in pieces of bounded size."""
        for offset in range(0, size, _PIECE_BYTES):
            yield self.read(content, offset, _PIECE_BYTES)

    def pin(self, content: int) -> None:
        """Keep a value although its name may go, until as many calls of `unpin`."""
        self._open[content] += 1

    def unpin(self, content: int) -> None:
        self._open[content] -= 1
        if self._open[content] <= 0:
            del self._open[content]

    def is_pinned(self, content: int) -> bool:
        return content in self._open

    def pinned(self) -> list[int]:
        return list(self._open)

    def enlarge(self, draft: Draft, base: int) -> LargeDraft:
        """Begin a large value for a draft, from the value `base` where that is not 0, under a number of its own."""
        content = self.reserve()
        draft.content, draft.registered = content, True
        if self._embedded is not None:
            return self._embedded.large_draft(content, base)
        directory = None if self.database.path is None else self.database.path.parent
        before = self.pieces(base, self.engine.object_size(self.key(base))) if base else iter(())
        return SpooledDraft(directory, before, self._putter(self.key(content)))

    def _putter(self, key: str) -> Callable[[Iterator[bytes]], None]:
        return lambda pieces: self.engine.put_stream(key, pieces, force=True)

    def reserve(self) -> int:
        """A number for a value that is stored before the catalog refers to it; deleted should this process die."""
        session = self.sessions.ensure(listens=False)
        content = self.numbers.take()
        with self.database.joined():
            self.database.rows("INSERT INTO draft VALUES (?, ?)", (content, session))
        return content

    def release(self, content: int) -> None:
        """Delete what `reserve` was for, unless the catalog refers to it by now."""
        if self.database.row("SELECT 1 FROM draft WHERE content = ?", (content,)) is not None:
            while not self.delete_some(content):
                pass
            with self.database.joined():
                self.database.rows("DELETE FROM draft WHERE content = ?", (content,))

    def settle(self, draft: Draft) -> None:
        """Move a draft's bytes out of memory, or into an engine of its own: all that needs no catalog transaction.

        May take as long as the value is large.
        """
        if draft.kept or (not draft.size and draft.large is None):
            return
        if draft.large is not None:
            if draft.large.unstored_bytes:
                draft.large.store(draft.large.take())
            draft.large.sync()
            if self._embedded is None:
                draft.large.seal()
        elif self._embedded is None:
            self._put_small(draft)
        elif not draft.content:
            draft.content = self.numbers.take()

    def _put_small(self, draft: Draft) -> None:
        session = self.sessions.ensure(listens=False)
        if not draft.content:
            draft.content = self.numbers.take()
        if not draft.registered:
            with self.database.joined():
                self.database.rows("INSERT INTO draft VALUES (?, ?)", (draft.content, session))
            draft.registered = True
        self.engine.put_object(self.key(draft.content), draft.whole(), force=True)

    def keep(self, draft: Draft) -> tuple[int, int]:
        """Finish what `settle` began, in the caller's transaction. Returns the value's number and its size.

        Nothing in the catalog refers to it yet: the caller's next statement does. Once that is committed, the draft is
        to be told (`Draft.note_kept`).
        """
        size = draft.size
        if not size and draft.large is None:
            return 0, 0
        if self._embedded is not None and not draft.kept:
            if draft.large is not None:
                draft.large.seal()
            else:
                self._embedded.put_small(draft.content, draft.whole())
        if draft.registered:
            self.database.rows("DELETE FROM draft WHERE content = ?", (draft.content,))
        return draft.content, size

    def keep_small(self, content: int, value: bytes) -> None:
        """Keep a small value under a number that nothing refers to yet, in the caller's transaction."""
        if value:
            assert self._embedded is not None
            self._embedded.put_small(content, value)

    def join(self, content: int, first: int, first_size: int, second: int, second_size: int) -> None:
        """Keep two values, one behind the other, as the value `content`; in the caller's transaction where shared."""
        key, total = self.key(content), first_size + second_size
        if total <= SMALL_BYTES:
            value = self.read(first, 0, first_size) + self.read(second, 0, second_size)
            self.engine.put_object(key, value, force=True)
        elif self._embedded is not None:
            draft = self._embedded.large_draft(content, first)
            for piece in self.pieces(second, second_size):
                draft.write(draft.size, piece)
                draft.store(draft.take())
            draft.seal()
        else:
            self.engine.put_stream(key, self._both(first, first_size, second, second_size), force=True)

    def drop_superseded(self, draft: Draft) -> None:
        """Leave the values to be deleted that no intent of a draft refers to any more, in the caller's transaction."""
        if not draft.superseded:
            return
        tx = Transaction(self.database, self.sessions.own)
        for content in draft.superseded:
            tx.rows("DELETE FROM draft WHERE content = ?", (content,))
            tx.drop_content(content)

    def _both(self, first: int, first_size: int, second: int, second_size: int) -> Iterator[bytes]:
        yield from self.pieces(first, first_size)
        yield from self.pieces(second, second_size)

    def delete_some(self, content: int) -> bool:
        """Delete a value, or a part of a large one. True when nothing of it is left."""
        try:
            if self._embedded is not None:
                return self._embedded.delete_some(content)
            self.engine.delete_object(self.key(content))
        except NotFoundError:
            pass
        return True
