"""Sessions that died and have left what cannot be published yet: of what names, why, and when that is tried again."""

import math
import time
from contextlib import suppress
from dataclasses import dataclass, field

from engine import journal
from engine.errors import StoreError
from engine.intents import Name
from engine.sqlite.database import Database

_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
"""Between two attempts at one session; the second one comes at once."""


@dataclass(slots=True)
class _Session:
    told: set[str] = field(default_factory=set)
    """What was said of it."""
    names: set[Name] = field(default_factory=set)
    """Where that is to go."""
    why: tuple[type[StoreError], str] | None = None
    """The class and the message of the error; each who is told has one of his own."""
    until: float = -math.inf
    """When it is tried again, at the earliest."""
    wait_s: float = 0.0
    has_let_go: bool = False
    """Whether nobody waits for it, and it keeps nothing but what it had acknowledged."""


class Withheld:
    """The sessions that were tried in vain by this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions: dict[int, _Session] = {}

    def __contains__(self, session: int) -> bool:
        return session in self._sessions

    def is_due(self, session: int) -> bool:
        """Whether one is to be tried now."""
        known = self._sessions.get(session)
        return known is None or known.until <= time.monotonic()

    def note(self, session: int, why: StoreError, text: str = "") -> None:
        """It could not be published, or not all of it. `text`: what people are told, once."""
        known = self._sessions.setdefault(session, _Session())
        known.why = type(why), str(why)
        if text:
            known.told.add(text)
            self._database.troubles.note(text)

    def put_off(self, session: int) -> None:
        """It was tried in vain. To try costs the store's lock and all that it has left is read: ever less often."""
        known = self._sessions[session]
        known.names = self._names_left_by(session)
        known.until = time.monotonic() + known.wait_s
        known.wait_s = min(max(_SHORTEST_WAIT_S, 2 * known.wait_s), _LONGEST_WAIT_S)

    def keeps_all(self, session: int) -> bool:
        """Whether others wait for a session that was put off, and what it had not acknowledged is still there."""
        return not self._sessions[session].has_let_go

    def note_let_go(self, session: int) -> None:
        self._sessions[session].has_let_go = True

    def drop(self, session: int) -> None:
        """All that it has left is published."""
        known = self._sessions.pop(session, None)
        for text in () if known is None else known.told:
            self._database.troubles.take_back(text)

    def names(self, dead: list[int]) -> dict[Name, StoreError]:
        """The names for which these sessions have left something that cannot be published yet, and why."""
        found: dict[Name, StoreError] = {}
        for session in dead:
            known = self._sessions.get(session)
            if known is not None and known.why is not None:
                error, message = known.why
                found |= dict.fromkeys(known.names, error(message))
        return found

    def _names_left_by(self, session: int) -> set[Name]:
        """As far as they can be read."""
        names: set[Name] = set()
        with suppress(StoreError):
            names |= {*self._database.rows("SELECT parent, name FROM intent WHERE session = ?", (session,))}
            resolved = self._database.value("SELECT resolved FROM session WHERE id = ?", (session,))
            entries = [] if self._database.path is None else journal.read(journal.path_of(self._database.path, session))
            puts = [entry.as_put() for entry in entries if entry.number > resolved and entry.put is not None]
            names |= {(put.parent, put.name) for put in puts}
        return names
