"""What was evicted or expired last: kept for people to read, so many for each pipeline and for all runs."""

from engine.catalog.transaction import Transaction
from engine.model import RUNS_INO, Removed
from engine.sqlite.database import Database

KEPT = 64
"""How many are kept."""

TEXT_MAX_BYTES = 65_536
"""How long a text of all of them may be, and so how much is kept of one: XATTR_SIZE_MAX, the kernel's limit for an
extended attribute.
"""

_NOTE = "INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?, ?)"


def note_objects(tx: Transaction, scope: int, before: int, victims: list[Removed]) -> None:
    """Objects were evicted from a pipeline that had lost `before` until then."""
    first = max(0, len(victims) - KEPT)
    for number, victim in enumerate(victims[first:], before + first):
        key = victim.path.split(b"/", 2)[2][:TEXT_MAX_BYTES]
        tx.rows(_NOTE, (scope, number % KEPT, victim.ino, key, tx.tick()))


def note_run(tx: Transaction, ino: int, name: bytes) -> None:
    """A run expired."""
    number = tx.database.value("UPDATE store SET expirations = expirations + 1 RETURNING expirations - 1")
    tx.rows(_NOTE, (RUNS_INO, number % KEPT, ino, name, tx.tick()))


def restored(tx: Transaction, scope: int, ino: int) -> None:
    """An object came back: it was not taken after all."""
    tx.rows("DELETE FROM taken WHERE scope = ? AND ino = ?", (scope, ino))


def forget(tx: Transaction, scope: int) -> None:
    """The pipeline is gone."""
    tx.rows("DELETE FROM taken WHERE scope = ?", (scope,))


def names(database: Database, scope: int) -> list[bytes]:
    """The keys or run ids that were taken last, the newest first."""
    return [
        name for (name,) in database.rows("SELECT name FROM taken WHERE scope = ? ORDER BY taken_ns DESC", (scope,))
    ]
