"""rename(2): atomic, replacing, within and across pipelines and runs (POSIX rename; Linux renameat2)."""

from engine.catalog import eviction, lifetimes, lowering, nodes, room
from engine.catalog.eviction import Waits
from engine.catalog.room import Waiting
from engine.catalog.transaction import Transaction
from engine.errors import (
    ExistsError,
    InvalidError,
    IsDirectoryError,
    NotDirectoryError,
    NotEmptyError,
    NotFoundError,
    NotPermittedError,
)
from engine.model import Kind, Node
from engine.sqlite import sums

_MOVE = "UPDATE node SET parent = ?, name = ?, scope = ?, evictable = ?, ctime_ns = ? WHERE ino = ?"

_IS_WITHIN = (
    "WITH RECURSIVE above(ino) AS (VALUES (?1) UNION ALL SELECT node.parent FROM above CROSS JOIN node"
    " ON node.ino = above.ino WHERE above.ino <> ?2) SELECT 1 FROM above WHERE ino = ?2"
)
_BELOW = (
    f"{nodes.WITH_BELOW} SELECT count(*), {sums.at_most('size')} FROM below JOIN node USING (ino) WHERE below.kind = 1"
)


def rename(
    tx: Transaction,
    parent: int,
    name: bytes,
    new_parent: int,
    new_name: bytes,
    waiting: Waiting,
    *,
    replace: bool,
) -> Node | None:
    """Give a name another place. Returns what it replaced, None when the place was free or is the same.

    Raises NotFoundError, NotPermittedError for pipelines, runs and what is beside them, ExistsError without `replace`,
    and as POSIX has it IsDirectoryError, NotDirectoryError, NotEmptyError, InvalidError for a directory into itself;
    QuotaError where the pipeline that it comes to has no room for its bytes, beside what is `waiting`.
    """
    source = _movable(tx, parent, name)
    scope = nodes.touch_directory(tx, new_parent)
    target = nodes.by_name(tx.database, new_parent, new_name)
    if target is not None:
        if not replace:
            raise ExistsError("the new name is taken")
        if target.ino == source.ino:
            return None
        _check_replaceable(tx, source, target)
    _check_not_into_itself(tx, source, new_parent)
    nodes.touch_directory(tx, parent)
    if target is not None:
        nodes.delete(tx, target)
        if target.kind == Kind.OBJECT:
            lifetimes.count(tx, scope, -1, -target.size)
    tx.tell(source.ino, parent, name)
    _move(tx, source, new_parent, new_name, scope)
    waits = Waits(source.ino)
    if source.kind == Kind.OBJECT:
        waits = _settle(tx, source, target, new_parent, new_name, scope)
        if target is None and scope == source.scope:
            eviction.note_move(tx, parent, name, source.ino)
    _enforce(tx, source, scope, waits)
    if scope != source.scope:
        if source.kind == Kind.DIRECTORY:
            waiting.note_move()
        room.require_in_scope(tx, scope, waiting)
    return target


def exchange(tx: Transaction, parent: int, name: bytes, other_parent: int, other_name: bytes, waiting: Waiting) -> None:
    """Swap two names (RENAME_EXCHANGE). Raises as `rename`."""
    first = _movable(tx, parent, name)
    second = _movable(tx, other_parent, other_name)
    if first.ino == second.ino:
        return
    _check_not_into_itself(tx, first, other_parent)
    _check_not_into_itself(tx, second, parent)
    first_scope = nodes.touch_directory(tx, parent)
    second_scope = nodes.touch_directory(tx, other_parent)
    tx.tell(first.ino, parent, name)
    tx.tell(second.ino, other_parent, other_name)
    # Out of the way first: two rows may not have one name, not even for a moment.
    tx.rows("UPDATE node SET parent = 0, name = CAST(ino AS BLOB) WHERE ino = ?", (second.ino,))
    _move(tx, first, other_parent, other_name, second_scope)
    _move(tx, second, parent, name, first_scope)
    # Only now: each has left the place that the other takes.
    _enforce(tx, first, second_scope, Waits(first.ino))
    _enforce(tx, second, first_scope, Waits(second.ino))
    if Kind.DIRECTORY in (first.kind, second.kind):
        waiting.note_move()
    for scope in (first_scope, second_scope):
        room.require_in_scope(tx, scope, waiting)


def _movable(tx: Transaction, parent: int, name: bytes) -> Node:
    source = nodes.by_name(tx.database, parent, name)
    if source is None:
        raise NotFoundError("there is no such name")
    if source.scope in (0, source.ino):
        raise NotPermittedError("pipelines, runs and the directories above them cannot be renamed")
    return source


def _check_replaceable(tx: Transaction, source: Node, target: Node) -> None:
    if source.kind == Kind.DIRECTORY:
        if target.kind != Kind.DIRECTORY:
            raise NotDirectoryError("a directory cannot replace what is none")
        if not nodes.is_empty(tx.database, target.ino):
            raise NotEmptyError("the directory to be replaced is not empty")
    elif target.kind == Kind.DIRECTORY:
        raise IsDirectoryError("only a directory can replace a directory")


def _check_not_into_itself(tx: Transaction, source: Node, directory: int) -> None:
    """The kernel has looked as well, but at what it knows alone: another mount may have moved what is above.

    Only a walk to the top can tell, of 20,000 directories in 10 ms. What has always been beside it needs none.
    """
    if source.kind != Kind.DIRECTORY or directory == source.parent:
        return
    if nodes.scope_of_directory(tx, directory) != source.scope:
        return
    if tx.rows(_IS_WITHIN, (directory, source.ino)):
        raise InvalidError("a directory cannot be moved into itself")


def _move(tx: Transaction, source: Node, parent: int, name: bytes, scope: int) -> None:
    """Change the place of a name and the scope of what is below it; `_enforce` is to follow."""
    if scope == source.scope:
        tx.rows(
            "UPDATE node SET parent = ?, name = ?, ctime_ns = ? WHERE ino = ?", (parent, name, tx.now_ns, source.ino)
        )
        return
    moved, size = (1, source.size) if source.kind == Kind.OBJECT else (0, 0)
    if source.kind == Kind.DIRECTORY:
        moved, size = tx.rows(_BELOW, (source.ino,))[0]
    lifetimes.count(tx, source.scope, -moved, -size)
    is_pipeline = lifetimes.count(tx, scope, moved, size).is_pipeline
    if source.kind == Kind.DIRECTORY:
        tx.rows(
            f"{nodes.WITH_BELOW} UPDATE node SET scope = ?, evictable = (kind = 1 AND ?)"
            " WHERE ino IN (SELECT ino FROM below)",
            (source.ino, scope, is_pipeline),
        )
    evictable = is_pipeline and source.kind == Kind.OBJECT
    tx.rows(_MOVE, (parent, name, scope, evictable, tx.now_ns, source.ino))


def _enforce(tx: Transaction, moved: Node, scope: int, waits: Waits) -> None:
    """Let the limit of the scope that a name came to apply. `waits`: for what those wait who make way for an object."""
    if scope != moved.scope:
        too_many = lifetimes.count(tx, scope, 0, 0).too_many
        if moved.kind == Kind.DIRECTORY:
            lowering.lower_around(tx, scope, too_many, moved.ino)
        elif moved.kind == Kind.OBJECT:
            eviction.enforce(tx, scope, too_many, moved.ino, waits)
        else:
            eviction.enforce(tx, scope, too_many)


def _settle(tx: Transaction, source: Node, target: Node | None, parent: int, name: bytes, scope: int) -> Waits:
    """What the moved object had displaced comes back into the place that it left or freed.

    Returns for what those wait whose place it needs, should it have come to another pipeline.
    """
    if target is not None:
        eviction.restore(tx, source.ino)
        if scope == source.scope:
            eviction.restore_since(tx, scope, source.put_ns)
        eviction.inherit(tx, target.ino, source.ino)
        return Waits(source.ino)
    superseded = eviction.supersede(tx, scope, parent, name)
    if scope != source.scope:
        eviction.restore(tx, source.ino)
    elif superseded is not None:
        eviction.hand_on(tx, scope, source.ino, superseded)
    if superseded is not None:
        return superseded._replace(freed_by=source.ino)
    waits = Waits(source.ino, eviction.backup_of(tx, scope, parent, name, source.ino))
    if scope == source.scope:
        eviction.pass_on(tx, *waits)
    return waits
