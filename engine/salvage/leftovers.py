"""What dead processes have left of a store, its log and their journals: what of it is damaged. Changes nothing."""

from collections.abc import Iterator
from pathlib import Path

from engine import journal, locks
from engine.salvage import log
from engine.salvage.checksums import Checker
from engine.sqlite.database import Database
from engine.sqlite.files import PAGE_BYTES


def of_log(store: Path) -> Iterator[str]:
    """What is wrong with the log of a store that nobody writes to."""
    if log.path_of(store).exists() and not log.is_in_use(store):
        found = log.read(store, PAGE_BYTES, Checker())
        if found.hidden:
            yield (
                f"the log is damaged, and {found.hidden} changes are behind that: `fusefs check --repair` saves what"
                " opening the store for writing loses"
            )


def of_journals(database: Database) -> Iterator[str]:
    """What is wrong with the journals of processes that died."""
    assert database.path is not None
    for session, resolved in database.rows("SELECT id, resolved FROM session"):
        path = journal.path_of(database.path, session)
        if path.exists() and not is_alive(database, session) and journal.examine(path, resolved).damaged:
            yield f"{path.name}, with Puts that were acknowledged and are not published yet, is damaged"


def is_alive(database: Database, session: int) -> bool:
    """Whether the process of a session lives."""
    try:
        with Path(f"{database.path}-lock").open("rb") as file:
            return locks.is_taken(file.fileno(), session)
    except OSError:
        return False
