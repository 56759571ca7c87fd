"""What the Puts that this process has acknowledged and not published have in bytes.

Every close asks for these sums where there is a limit in bytes, and thousands of values can be acknowledged and still
be open: so the sums are kept, and the Puts are gone through only where the sums settle nothing (see catalog.room).
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from engine.catalog import lifetimes
from engine.catalog.puts import How, Put
from engine.catalog.room import Load, Waiting
from engine.sessions import Sessions
from engine.sqlite.database import Database

Key = tuple[int, int]
"""The number of the private inode, and a number that tells the Puts of one inode apart."""


class _Known(NamedTuple):
    parent: int
    scope: int
    size: int
    adds: bool


class Acknowledged:
    """The sums over the Puts that are noted and not dropped."""

    def __init__(self, database: Database, sessions: Sessions) -> None:
        self._database = database
        self._sessions = sessions
        self._known: dict[Key, _Known] = {}
        self._by_scope: Counter[int] = Counter()
        self._bytes = 0
        self._additions = 0
        self._moved = False
        """Whether the pipelines and runs of the Puts may be others than they were."""

    def note(self, key: Key, put: Put, scope: int = 0) -> None:
        """A Put is acknowledged; a later one of a key takes the place of an earlier one.

        `scope`: the pipeline or run that it is for; 0: to be looked for.
        """
        self.drop(key)
        self._moved |= not scope
        known = self._known[key] = _Known(put.parent, scope, put.size, put.how in (How.IF_ABSENT, How.APPEND))
        self._count(known, 1)

    def drop(self, key: Key) -> None:
        """It is published or taken back."""
        known = self._known.pop(key, None)
        if known is not None:
            self._count(known, -1)

    def _count(self, known: _Known, sign: int) -> None:
        left = self._by_scope[known.scope] + sign * known.size
        if left:
            self._by_scope[known.scope] = left
        else:
            self._by_scope.pop(known.scope, None)
        self._bytes += sign * known.size
        self._additions += sign * known.adds

    def _note_move(self) -> None:
        """A directory, with all Puts that are to come into it, may have come to another pipeline or run."""
        self._moved = True

    def waiting(self, puts: Callable[[], list[Put]], but: Key | None) -> Waiting:
        """The sums for who asks what waits, beside the Puts themselves; but for one."""
        return Waiting(puts, partial(self._load, but), self._note_move)

    def _load(self, but: Key | None, scope: int) -> Load | None:
        """The sums, but for one Put; None where other processes can have acknowledged some, or move directories."""
        if self._database.row("SELECT 1 FROM session WHERE id <> ? LIMIT 1", (self._sessions.own,)) is not None:
            self._moved = True
            return None
        if self._moved:
            self._find_again()
        known = None if but is None else self._known.get(but)
        load = Load(self._by_scope[scope], self._bytes, self._additions)
        if known is None:
            return load
        in_scope = load.in_scope - (known.size if known.scope == scope else 0)
        return Load(in_scope, load.in_all - known.size, load.additions - known.adds)

    def _find_again(self) -> None:
        homes = {
            parent: lifetimes.home(self._database, parent) for parent in {each.parent for each in self._known.values()}
        }
        scopes = {parent: 0 if home is None else home.ino for parent, home in homes.items()}
        self._by_scope.clear()
        for key, known in self._known.items():
            scope = scopes[known.parent]
            self._known[key] = known._replace(scope=scope)
            self._by_scope[scope] += known.size
        self._moved = False
