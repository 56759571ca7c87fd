"""The command `fusefs` with a bug put in on purpose: `python -m tests.crash.campaign.broken NAME ARGUMENTS`.

The campaign has to find each of them. `BUGS` says which.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.catalog import eviction
from engine.intents import Fulfilled, Intents
from engine.recovering import Recovery
from engine.sqlite import slots
from engine.sqlite.chunks import ChunkedDraft
from engine.sqlite.database import Database
from engine.sqlite.log import Log

_TRANSACTION = {"BEGIN", "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"}
_TRANSACTION |= {"SAVEPOINT operation", "RELEASE operation", "ROLLBACK TO operation"}


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug and how to put it in."""

    what: str
    found_by: str
    """kills or cuts."""
    put_in: Callable[[], None]


def _nothing(*_arguments: object) -> None:
    """What ought to be done is left out."""


def _sync() -> None:
    _replace(Log, "sync", _nothing)


def _content() -> None:
    _replace(ChunkedDraft, "sync", _nothing)
    # Else the disk has most of it by then although nobody waits for that.
    _replace(slots._libc, "sync_file_range", _nothing)


def _intents() -> None:
    _replace(Intents, "keep", _nothing)


def _journal() -> None:
    whole = Intents.note

    def note(self: Intents, fulfilled: Fulfilled) -> None:
        whole(self, fulfilled)
        if not self._written and self._journal is not None:
            self._journal.restart()

    _replace(Intents, "note", note)


def _transactions() -> None:
    rows = Database.rows

    def one_by_one(self: Database, sql: str, arguments: Sequence[Any] = ()) -> list[Any]:
        return [] if sql in _TRANSACTION else rows(self, sql, arguments)

    _replace(Database, "rows", one_by_one)


def _recovery() -> None:
    _replace(Recovery, "_left_by", lambda *_arguments: [])


def _order() -> None:
    _replace(eviction, "VICTIMS", eviction.VICTIMS.replace("ORDER BY put_ns", "ORDER BY put_ns DESC"))


def _replace(owner: object, name: str, new: object) -> None:
    assert getattr(owner, name) is not new
    assert getattr(owner, name) != new, f"{name} is not what the bug needs"
    setattr(owner, name, new)


BUGS = {
    "sync": Bug("fsync() syncs nothing", "cuts", _sync),
    "content": Bug("large values are published before their content is safe", "cuts", _content),
    "intents": Bug("close() acknowledges what is written nowhere", "kills", _intents),
    "journal": Bug("the journal is begun anew before the commit of what is in it", "kills", _journal),
    "transactions": Bug("no transactions: each statement commits by itself", "kills", _transactions),
    "recovery": Bug("a start gives up what the dead had acknowledged", "kills", _recovery),
    "order": Bug("a full pipeline evicts its newest objects", "kills", _order),
}


if __name__ == "__main__":
    from fusefs.cli import main

    BUGS[sys.argv.pop(1)].put_in()
    main()
