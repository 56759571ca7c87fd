"""The limit of a pipeline: what makes way for a newer object, and what comes back when that was a temporary name.

An evicted object is kept aside while the object that displaced it stands, for some minutes at most. Programs that
replace a file write a temporary name first: at the limit that displaces an object, and the rename that follows frees a
place again. The contract gives the place back to what was displaced.
"""

from engine.catalog import nodes
from engine.catalog.transaction import Transaction
from engine.model import Node

KEEP_DISPLACED_NS = 10 * 60 * 1_000_000_000
"""How long an evicted object can come back."""

VICTIMS = f"SELECT {nodes.COLUMNS} FROM node WHERE scope = ? AND evictable = 1 AND ino <> ? ORDER BY put_ns LIMIT ?"
_KEPT = f"SELECT {nodes.COLUMNS} FROM evicted WHERE displaced_by = ? ORDER BY put_ns DESC"


def limit_of(tx: Transaction, own_limit: int | None) -> int:
    return tx.object_limit if own_limit is None else own_limit


def enforce(tx: Transaction, scope: int, objects: int, limit: int, newest: int) -> None:
    """Evict the oldest objects of a pipeline until `limit` holds. `newest` is the object just put, never a victim;
    0 when no object took the place, as after lowering the limit.
    """
    if not limit or objects <= limit:
        return
    victims = [Node._make(row) for row in tx.rows(VICTIMS, (scope, newest, objects - limit))]
    for victim in victims:
        # What this one had displaced can no longer come back: its place is not free.
        forget(tx, victim.ino)
        tx.evicted.append(nodes.removed(tx.database, victim))
        if newest:
            tx.rows("INSERT INTO evicted SELECT *, ?, ? FROM node WHERE ino = ?", (newest, tx.now_ns, victim.ino))
            tx.rows("DELETE FROM node WHERE ino = ?", (victim.ino,))
            tx.tell(victim.ino, victim.parent, victim.name)
        else:
            nodes.delete(tx, victim)
    tx.rows("UPDATE scope SET objects = objects - ? WHERE ino = ?", (len(victims), scope))


def restore(tx: Transaction, displaced_by: int) -> None:
    """Bring back what the object `displaced_by` had displaced, newest first, as far as there is room for it now."""
    for row in tx.rows(_KEPT, (displaced_by,)):
        kept = Node._make(row)
        room = tx.row("SELECT objects, object_limit FROM scope WHERE ino = ?", (kept.scope,))
        free = room is not None and (not limit_of(tx, room[1]) or room[0] < limit_of(tx, room[1]))
        parent = nodes.by_ino(tx.database, kept.parent)
        at_home = parent is not None and parent.scope == kept.scope
        if free and at_home and nodes.by_name(tx.database, kept.parent, kept.name) is None:
            tx.rows("DELETE FROM evicted WHERE ino = ?", (kept.ino,))
            nodes.insert(tx, kept, evictable=True)
            tx.rows("UPDATE scope SET objects = objects + 1 WHERE ino = ?", (kept.scope,))
            tx.restored.append(nodes.removed(tx.database, kept))
        else:
            _purge(tx, kept.ino, kept.content)


def inherit(tx: Transaction, old: int, new: int) -> None:
    """The object `new` took the name of `old`: what `old` had displaced now waits for `new`."""
    tx.rows("UPDATE evicted SET displaced_by = ? WHERE displaced_by = ?", (new, old))


def forget(tx: Transaction, displaced_by: int) -> None:
    """Give up what an object had displaced: it is not coming back."""
    for ino, content in tx.rows("SELECT ino, content FROM evicted WHERE displaced_by = ?", (displaced_by,)):
        _purge(tx, ino, content)


def forget_old(tx: Transaction, limit: int, *, everything: bool = False) -> int:
    """Give up what was displaced too long ago, or everything when space is needed. Returns how many."""
    before = tx.now_ns + 1 if everything else tx.now_ns - KEEP_DISPLACED_NS
    rows = tx.rows("SELECT ino, content FROM evicted WHERE evicted_ns < ? ORDER BY evicted_ns LIMIT ?", (before, limit))
    for ino, content in rows:
        _purge(tx, ino, content)
    return len(rows)


def _purge(tx: Transaction, ino: int, content: int) -> None:
    tx.rows("DELETE FROM evicted WHERE ino = ?", (ino,))
    tx.drop_content(content)
