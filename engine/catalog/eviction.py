"""The limit of a pipeline: what makes way for a newer object, and what comes back when that was a temporary name.

An evicted object is kept aside while the object that displaced it stands, for some minutes at most. Programs that
replace a file write a temporary name first: at the limit that displaces an object, and the rename that follows frees a
place again. The contract gives the place back to what was displaced.

A second object can free the place as well (`freed_by`): the backup that an editor renamed the old value to, or the
object that was put anew while a temporary name had displaced it.
"""

from typing import NamedTuple

from engine.catalog import nodes, taken
from engine.catalog.transaction import Transaction
from engine.model import Node, Removed
from engine.sqlite.database import Database, Row

KEEP_DISPLACED_NS = 10 * 60 * 1_000_000_000
"""How long an evicted object can come back."""

VICTIMS = f"SELECT {nodes.COLUMNS} FROM node WHERE scope = ? AND evictable = 1 AND ino <> ? ORDER BY put_ns LIMIT ?"
_PUT_NS_OF = "SELECT put_ns FROM node WHERE scope = ? AND evictable = 1 ORDER BY put_ns LIMIT 1 OFFSET ?"
OLDEST = "SELECT ino, size FROM node WHERE scope = ? AND evictable = 1 ORDER BY put_ns LIMIT ?"
_VICTIMS_AROUND = (
    f"{nodes.WITH_BELOW} SELECT {nodes.COLUMNS} FROM node WHERE scope = ? AND evictable = 1"
    " AND ino {} IN (SELECT ino FROM below) ORDER BY put_ns LIMIT ?"
)
# One condition each: with OR between the two, SQLite needs ten times as long.
_WAITING = f"SELECT {nodes.COLUMNS}, displaced_by FROM evicted WHERE displaced_by = ?"
_WAITING_TOO = f"SELECT {nodes.COLUMNS}, displaced_by FROM evicted WHERE freed_by = ?1 AND freed_by <> 0"
_INHERIT = "UPDATE evicted SET displaced_by = ?2 WHERE displaced_by = ?1"
_INHERIT_TOO = "UPDATE evicted SET freed_by = ?2 WHERE freed_by = ?1 AND freed_by <> 0"
_HAND_ON = (
    "UPDATE evicted SET displaced_by = ?3, freed_by = ?4 WHERE displaced_by = ?2 AND scope = ?1",
    "UPDATE evicted SET displaced_by = ?3, freed_by = ?4 WHERE freed_by = ?2 AND freed_by <> 0 AND scope = ?1",
)
_YOUNGEST_SINCE = (
    f"SELECT {nodes.COLUMNS} FROM evicted WHERE scope = ? AND evicted_ns >= ? ORDER BY put_ns DESC LIMIT 1"
)
_AT = (
    f"SELECT {nodes.COLUMNS} FROM evicted WHERE parent = ?1 AND name = ?2"
    " AND scope = (SELECT scope FROM node WHERE ino = ?1)"
)
SUM = "iif(?2 > 9223372036854775807 - bytes, -1, bytes + ?2)"
"""The bytes of a pipeline or run that has grown by ?2; -1 where SQLite cannot count so many."""
_REINSTATED = (
    f"UPDATE scope SET objects = objects + 1, bytes = {SUM} WHERE ino = ?1"
    " RETURNING objects, object_limit, bytes, max_bytes"
)
_EVICT = "INSERT INTO evicted SELECT *, ?, ?, ? FROM node WHERE ino = ?"


class Waits(NamedTuple):
    """For which objects an evicted one waits: it comes back when one of them goes."""

    displaced_by: int
    freed_by: int = 0
    """0: there is no second one."""


def limit_of(tx: Transaction, own_limit: int | None) -> int:
    return tx.object_limit if own_limit is None else own_limit


def bytes_limit_of(tx: Transaction, own_limit: int | None) -> int:
    return tx.max_pipeline_bytes if own_limit is None else own_limit


def too_many(objects: int, limit: int) -> int:
    """How many objects are above a limit; below 0 or 0: none."""
    return objects - limit if limit else 0


def enforce(tx: Transaction, scope: int, number: int, newest: int = 0, waits: Waits | None = None) -> None:
    """Evict so many of the oldest objects of a pipeline, none where that is not above 0.

    `newest` is the object just put, never a victim; 0: none. The victims wait for `waits`; without it, they do not come
    back.
    """
    if number > 0:
        _evict(tx, scope, tx.rows(VICTIMS, (scope, newest, number)), waits)


def put_ns_of(database: Database, scope: int, number: int) -> int:
    """When the `number`-th of the objects in a pipeline was put, the oldest being the first; 0 where it has fewer."""
    rows = database.rows(_PUT_NS_OF, (scope, number - 1))
    return rows[0][0] if rows else 0


def enforce_around(tx: Transaction, scope: int, number: int, directory: int) -> None:
    """As `enforce`, after a directory was moved in: what is below it goes last, as the object just put does."""
    if number <= 0:
        return
    rows = tx.rows(_VICTIMS_AROUND.format("NOT"), (directory, scope, number))
    if len(rows) < number:
        rows += tx.rows(_VICTIMS_AROUND.format(""), (directory, scope, number - len(rows)))
    _evict(tx, scope, rows, None)


def _evict(tx: Transaction, scope: int, rows: list[Row], waits: Waits | None) -> None:
    victims = [Node._make(row) for row in rows]
    gone = nodes.all_removed(tx.database, victims)
    for victim in victims:
        # What this one had displaced can no longer come back: its place is not free.
        forget(tx, victim.ino)
        if waits is not None:
            tx.rows(_EVICT, (waits.displaced_by, tx.now_ns, waits.freed_by, victim.ino))
            tx.rows("DELETE FROM node WHERE ino = ?", (victim.ino,))
            tx.tell(victim.ino, victim.parent, victim.name)
        else:
            nodes.delete(tx, victim)
    note_evicted(tx, scope, gone, sum(victim.size for victim in victims))


def note_evicted(tx: Transaction, scope: int, gone: list[Removed], size: int) -> None:
    """Objects of so many bytes are gone from a pipeline, the oldest first: for its counts, and for whoever is told."""
    ((before, now, own_most),) = tx.rows(
        "UPDATE scope SET objects = objects - ?1, evictions = evictions + ?1, bytes = bytes - ?2 WHERE ino = ?3"
        " RETURNING evictions - ?1, bytes, max_bytes",
        (len(gone), size, scope),
    )
    tx.note_bytes(scope, -size, now, bytes_limit_of(tx, own_most))
    taken.note_objects(tx, scope, before, gone)
    tx.evicted += gone


def supersede(tx: Transaction, scope: int, parent: int, name: bytes) -> Waits | None:
    """A name that was free is taken: what was evicted under it does not come back any more.

    Returns what that has waited for, None where nothing was evicted under the name from this pipeline. Its place is
    needed again.
    """
    old = tx.row(
        "SELECT ino, content, scope, displaced_by, freed_by FROM evicted WHERE parent = ? AND name = ?", (parent, name)
    )
    if old is None:
        return None
    ino, content, home, displaced_by, freed_by = old
    _purge(tx, ino, content)
    return Waits(displaced_by, freed_by) if home == scope else None


def hand_on(tx: Transaction, scope: int, temporary: int, waits: Waits) -> None:
    """An object has left its temporary name for one that another was evicted from: it stands for that from now on.

    So what the temporary name had displaced waits in the place of the other: for what that has waited for.
    """
    if waits.displaced_by != temporary:
        for waiting in _HAND_ON:
            tx.rows(waiting, (scope, temporary, *waits))


def backup_of(tx: Transaction, scope: int, parent: int, name: bytes, newest: int) -> int:
    """The object that was renamed away from a name, which `newest` takes now: the one too many. 0 if there is none."""
    row = tx.row(
        "SELECT moved.ino FROM moved JOIN node ON node.ino = moved.ino AND node.scope = ?"
        " WHERE moved.parent = ? AND moved.name = ? AND moved.ino <> ? AND moved_ns > ?",
        (scope, parent, name, newest, tx.now_ns - KEEP_DISPLACED_NS),
    )
    return 0 if row is None else int(row[0])


def evicted_at(database: Database, parent: int, name: bytes) -> Node | None:
    """What was evicted under a name and can still come back to it."""
    row = database.row(_AT, (parent, name))
    return None if row is None else Node._make(row)


def come_back(tx: Transaction, parent: int, name: bytes) -> Node | None:
    """Bring back what was evicted under a name, evicting what must go instead. Returns it, None when there is nothing.

    It is the newest object now where the limit is concerned: whoever asked for it has just put it.
    """
    kept = evicted_at(tx.database, parent, name)
    if kept is None:
        return None
    displaced_by = tx.rows("SELECT displaced_by FROM evicted WHERE ino = ?", (kept.ino,))[0][0]
    objects, own_limit = _reinstate(tx, kept)
    waits = Waits(displaced_by, kept.ino)
    enforce(tx, kept.scope, too_many(objects, limit_of(tx, own_limit)), kept.ino, waits)
    return kept


def pass_on(tx: Transaction, source: int, freed_by: int) -> None:
    """What `source` had displaced comes back when `freed_by` goes, too."""
    if freed_by:
        tx.rows("UPDATE evicted SET freed_by = ? WHERE displaced_by = ?", (freed_by, source))


def note_move(tx: Transaction, parent: int, name: bytes, ino: int) -> None:
    """An object was renamed away from a name, to one that was free."""
    tx.rows(
        "INSERT OR REPLACE INTO moved SELECT ?, ?, ino, ? FROM node WHERE ino = ? AND evictable = 1",
        (parent, name, tx.now_ns, ino),
    )


def restore(tx: Transaction, gone: int) -> None:
    """Bring back what the object `gone` had displaced, newest first, as far as there is room for it now."""
    for kept, displaced_by in _waiting_for(tx.database, gone):
        if not _restore(tx, kept) and displaced_by == gone:
            _purge(tx, kept.ino, kept.content)


def keys_waiting_for(database: Database, ino: int) -> list[bytes]:
    """The keys of what comes back when an object goes, the newest first."""
    waiting = [kept for kept, _ in _waiting_for(database, ino) if _has_home(database, kept)]
    return [gone.path.split(b"/", 2)[2] for gone in nodes.all_removed(database, waiting)]


def _waiting_for(database: Database, ino: int) -> list[tuple[Node, int]]:
    """What waits for an object to go, the newest first, and by what each was displaced."""
    rows = {row[0]: row for sql in (_WAITING, _WAITING_TOO) for row in database.rows(sql, (ino,))}
    waiting = [(Node._make(columns), displaced_by) for *columns, displaced_by in rows.values()]
    return sorted(waiting, key=lambda kept: -kept[0].put_ns)


def restore_since(tx: Transaction, scope: int, put_ns: int) -> None:
    """An object put at that time was a temporary name. Bring back the youngest of those that were evicted since.

    That is what would not have gone without it, although something else displaced it while there was still room for
    the temporary name itself.
    """
    row = tx.row(_YOUNGEST_SINCE, (scope, put_ns)) if put_ns > tx.now_ns - KEEP_DISPLACED_NS else None
    if row is not None:
        _restore(tx, Node._make(row))


def _restore(tx: Transaction, kept: Node) -> bool:
    if (
        not _has_room(tx, kept)
        or not _has_home(tx.database, kept)
        or nodes.by_name(tx.database, kept.parent, kept.name) is not None
    ):
        return False
    _reinstate(tx, kept)
    return True


def _has_home(database: Database, kept: Node) -> bool:
    """Whether the directory of an evicted object is still there, in its pipeline."""
    parent = nodes.by_ino(database, kept.parent)
    return parent is not None and parent.scope == kept.scope


def _has_room(tx: Transaction, kept: Node) -> bool:
    """Whether a pipeline can have an evicted object back: one more, and so many bytes more."""
    row = tx.row("SELECT objects, object_limit, bytes, max_bytes FROM scope WHERE ino = ?", (kept.scope,))
    if row is None:
        return False
    objects, own_limit, size, own_most = row
    limit, most = limit_of(tx, own_limit), bytes_limit_of(tx, own_most)
    return (
        (not limit or objects < limit)
        and (not most or size + kept.size <= most)
        and (not tx.max_bytes or tx.store_bytes + kept.size <= tx.max_bytes)
    )


def _reinstate(tx: Transaction, kept: Node) -> tuple[int, int | None]:
    """Give an evicted object its name again. Returns how many objects its pipeline has now, and its own limit."""
    tx.rows("DELETE FROM evicted WHERE ino = ?", (kept.ino,))
    nodes.insert(tx, kept, evictable=True)
    taken.restored(tx, kept.scope, kept.ino)
    tx.restored.append(nodes.removed(tx.database, kept))
    ((objects, own_limit, now, own_most),) = tx.rows(_REINSTATED, (kept.scope, kept.size))
    tx.note_bytes(kept.scope, kept.size, now, bytes_limit_of(tx, own_most))
    return objects, own_limit


def inherit(tx: Transaction, old: int, new: int) -> None:
    """The object `new` took the name of `old`: what `old` had displaced now waits for `new`."""
    tx.rows(_INHERIT, (old, new))
    tx.rows(_INHERIT_TOO, (old, new))


def forget(tx: Transaction, displaced_by: int) -> None:
    """Give up what an object had displaced: it is not coming back, but where another's going frees the place too."""
    tx.rows(
        "UPDATE evicted SET displaced_by = freed_by, freed_by = 0 WHERE displaced_by = ? AND freed_by <> 0",
        (displaced_by,),
    )
    for ino, content in tx.rows("SELECT ino, content FROM evicted WHERE displaced_by = ?", (displaced_by,)):
        _purge(tx, ino, content)


def forget_old(tx: Transaction, limit: int, before: int = 2**63 - 1) -> int:
    """Give up what was displaced before a time, or everything. Returns how many."""
    rows = tx.rows("SELECT ino, content FROM evicted WHERE evicted_ns < ? ORDER BY evicted_ns LIMIT ?", (before, limit))
    for ino, content in rows:
        _purge(tx, ino, content)
    moved = tx.rows("SELECT parent, name FROM moved WHERE moved_ns < ? LIMIT ?", (before, limit))
    for name in moved:
        tx.rows("DELETE FROM moved WHERE parent = ? AND name = ?", name)
    return max(len(rows), len(moved))


def _purge(tx: Transaction, ino: int, content: int) -> None:
    tx.rows("DELETE FROM evicted WHERE ino = ?", (ino,))
    tx.drop_content(content)
