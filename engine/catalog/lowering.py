"""Far more objects than a limit allows: what is over it goes at once, a few or a million of them, in one transaction.

That is so when a limit is lowered, and when a directory is moved into a pipeline.

A million is evicted by statements that treat all victims alike, in seconds; one at a time it would take most of a
minute, in which nobody else can write.
"""

from engine.catalog import eviction, nodes, taken
from engine.catalog.transaction import Transaction
from engine.model import Removed

_FEW = 1000
"""So many are evicted one at a time, with all that is known of them."""

_LAST = "SELECT put_ns FROM node WHERE scope = ? AND evictable = 1 ORDER BY put_ns LIMIT 1 OFFSET ?"
_VICTIMS = "FROM node WHERE scope = ?1 AND evictable = 1 AND put_ns <= ?2"
_PAGE = f"SELECT ino, parent, name, put_ns, size {_VICTIMS} AND put_ns > ?3 ORDER BY put_ns LIMIT 10000"
_DIRECTORIES_OF_LAST = f"SELECT parent {_VICTIMS} ORDER BY put_ns DESC LIMIT {taken.KEPT}"
_SPARE_BELOW = f"{nodes.WITH_BELOW} UPDATE node SET evictable = (kind = 1 AND ?) WHERE ino IN (SELECT ino FROM below)"
_CROWDED_OUT = (
    "SELECT DISTINCT displaced_by FROM evicted CROSS JOIN node ON node.ino = displaced_by"
    " WHERE evicted.scope = ?1 AND node.scope = ?1 AND node.evictable = 1 AND node.put_ns <= ?2"
)
_CHANGES = (
    "INSERT INTO change SELECT ?3 + row_number() OVER (), ?4, ino, parent, name, content"
    f" FROM (SELECT ino, parent, name, content {_VICTIMS} AND (content <> 0 OR ?5) ORDER BY put_ns)"
)


def lower(tx: Transaction, scope: int, number: int) -> None:
    """Evict so many of the oldest of a pipeline's objects, none where that is not above 0."""
    if number <= _FEW:
        eviction.enforce(tx, scope, number)
    else:
        _evict_oldest(tx, scope, number)


def lower_around(tx: Transaction, scope: int, number: int, directory: int) -> None:
    """As `lower`, after a directory was moved in: what is below it goes last, as the object just put does."""
    if number <= _FEW:
        eviction.enforce_around(tx, scope, number, directory)
        return
    tx.rows(_SPARE_BELOW, (directory, 0))
    beside = tx.rows("SELECT count(*) FROM node WHERE scope = ? AND evictable = 1", (scope,))[0][0]
    lower(tx, scope, min(number, beside))
    tx.rows(_SPARE_BELOW, (directory, 1))
    lower(tx, scope, number - beside)


def _evict_oldest(tx: Transaction, scope: int, number: int) -> None:
    last = tx.rows(_LAST, (scope, number - 1))[0][0]
    for (ino,) in tx.rows(_CROWDED_OUT, (scope, last)):
        eviction.forget(tx, ino)
    gone, size = _removed(tx, scope, last)
    tx.rows(_CHANGES, (scope, last, tx.ticks(number), tx.session, tx.others))
    tx.rows(f"DELETE {_VICTIMS}", (scope, last))
    eviction.note_evicted(tx, scope, gone, size)


def _removed(tx: Transaction, scope: int, last: int) -> tuple[list[Removed], int]:
    """The victims and the sum of their sizes, without the rest of what is known of them: a million have to fit into
    memory.
    """
    paths = nodes.Paths(tx.database)
    for (parent,) in tx.rows(_DIRECTORIES_OF_LAST, (scope, last)):  # first: of these the keys are kept
        paths.of(parent)
    gone: list[Removed] = []
    after = -1
    total = 0
    while rows := tx.rows(_PAGE, (scope, last, after)):
        for ino, parent, name, put_ns, size in rows:
            gone.append(Removed(ino, parent, name, paths.of(parent)))
            after = put_ns
            total += size
    return gone, total
