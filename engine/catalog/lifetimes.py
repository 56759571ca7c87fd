"""Pipelines and runs: making, finding and removing them, and the expiry of runs."""

import time
from typing import NamedTuple

from engine.catalog import eviction, lowering, nodes, taken
from engine.catalog.transaction import Transaction
from engine.errors import ExistsError, NotFoundError
from engine.model import PIPELINES_INO, RUNS_INO, Kind, Node, Removed, ScopeKind, ScopeName
from engine.names import check_scope_name
from engine.sqlite.database import Database, Row

HOME = {ScopeKind.PIPELINE: PIPELINES_INO, ScopeKind.RUN: RUNS_INO}
KIND_OF_HOME = {home: kind for kind, home in HOME.items()}

_NO_PIPELINE = b""
_ANSWERS = 10_000
_COUNT = (
    f"UPDATE scope SET objects = objects + ?1, bytes = {eviction.SUM} WHERE ino = ?3"
    " RETURNING objects, object_limit, kind, evictions, bytes, max_bytes"
)
_COUNTED = "SELECT objects, object_limit, kind, evictions FROM scope WHERE ino = ?"
_HOME = (
    "SELECT ino, kind, objects, iif(kind = 1, coalesce(scope.object_limit, store.object_limit), 0), scope.bytes,"
    " iif(kind = 1, coalesce(scope.max_bytes, store.max_pipeline_bytes), 0), store.bytes, store.max_bytes"
    " FROM scope, store WHERE ino = (SELECT scope FROM node WHERE ino = ?)"
)
_RUN = (
    "SELECT pipeline, started_ns, run_expiry, (SELECT max(newest.started_ns) FROM scope AS newest"
    " WHERE newest.kind = 2 AND newest.pipeline = scope.pipeline)"
    " FROM scope, store WHERE ino = ? AND kind = 2 AND protected = 0 AND run_expiry > 0"
)
_NEXT = (
    "SELECT started_ns, ino, name FROM scope WHERE kind = 2 AND pipeline = ? ORDER BY started_ns DESC LIMIT 1 OFFSET ?"
)


class Home(NamedTuple):
    """A pipeline or run, and what limits it. A limit of 0: none."""

    ino: int
    kind: int
    objects: int
    object_limit: int
    bytes: int
    max_bytes: int
    store_bytes: int
    """Of all values in the store."""
    store_max_bytes: int


class Counted(NamedTuple):
    """A pipeline or run after it was counted."""

    objects: int
    object_limit: int
    """0: none."""
    is_pipeline: bool
    evictions: int
    """How many objects were evicted from it so far."""

    @property
    def too_many(self) -> int:
        """How many objects it has over its limit; below 0 or 0: none."""
        return eviction.too_many(self.objects, self.object_limit)


def home(database: Database, directory: int) -> Home | None:
    """The pipeline or run that a directory is in. None: it is gone."""
    rows = database.recall(_HOME, (directory,))
    if not rows:
        return None
    ino, kind, objects, limit, size, most, stored, most_in_all = rows[0]
    # The store's sum is kept at the end of a transaction.
    grown = database.writes.grown if database.writes.open or database.in_transaction else 0
    return Home(ino, kind, objects, limit, size, most, stored % 2**64 + grown, most_in_all)


def require_home(database: Database, directory: int) -> Home:
    """As `home`. Raises NotFoundError when it is gone."""
    found = home(database, directory)
    if found is None:
        raise NotFoundError("the pipeline, run or directory is gone")
    return found


def find(database: Database, scope: ScopeName) -> int:
    """The inode of a pipeline's or run's directory. Raises InvalidError and NotFoundError."""
    check_scope_name(scope.kind.name.lower(), scope.name)
    node = nodes.by_name(database, HOME[scope.kind], scope.name)
    if node is None:
        how = "pipeline create" if scope.kind is ScopeKind.PIPELINE else "run start"
        raise NotFoundError(f"there is no {scope}: `fusefs {how} {scope.name.decode()}` makes it")
    return node.ino


def make(
    tx: Transaction,
    ino: int,
    scope: ScopeName,
    mode: int,
    uid: int,
    gid: int,
    *,
    object_limit: int | None = None,
    max_bytes: int | None = None,
    pipeline: bytes | None = None,
    protected: bool = False,
) -> Node:
    """Make a pipeline, or start a run, which may make older ones expire. Raises InvalidError and ExistsError."""
    check_scope_name(scope.kind.name.lower(), scope.name)
    home = HOME[scope.kind]
    if nodes.by_name(tx.database, home, scope.name) is not None:
        raise ExistsError(f"there is a {scope} already")
    node = nodes.new_directory(tx, ino, home, scope.name, ino, mode, uid, gid)
    tx.rows("UPDATE node SET mtime_ns = ?1, ctime_ns = ?1 WHERE ino = ?2", (tx.now_ns, home))
    group = None
    if scope.kind is ScopeKind.RUN:
        group = _NO_PIPELINE if pipeline is None else check_scope_name("pipeline", pipeline)
    tx.rows(
        "INSERT INTO scope VALUES (?, ?, ?, 0, ?, ?, ?, ?, 0, 0, ?)",
        (ino, scope.kind, scope.name, object_limit, group, tx.now_ns, protected, max_bytes),
    )
    if group is not None:
        expire(tx, group)
    return node


def expire(tx: Transaction, group: bytes) -> None:
    """Take away the runs of one pipeline (or of none) that `run_expiry` newer ones have followed."""
    if not tx.run_expiry:
        return
    rows = tx.rows(
        "SELECT ino, name FROM scope WHERE kind = 2 AND pipeline = ?1 AND protected = 0 AND started_ns <="
        " (SELECT started_ns FROM scope WHERE kind = 2 AND pipeline = ?1 ORDER BY started_ns DESC LIMIT 1 OFFSET ?2)"
        " ORDER BY started_ns",
        (group, tx.run_expiry),
    )
    for ino, name in rows:
        tx.expired.append(Removed(ino, RUNS_INO, name, b"run/"))
        taken.note_run(tx, ino, name)
        doom(tx, ino, RUNS_INO, name)


def starts_left(database: Database, ino: int) -> int | None:
    """How many more runs of its pipeline can start before this run expires; None where it does not expire."""
    row = database.row(
        "SELECT pipeline, started_ns, protected, run_expiry FROM scope, store WHERE ino = ? AND kind = 2", (ino,)
    )
    if row is None or row[2] or not row[3]:
        return None
    pipeline, started, _, expiry = row
    newer: list[Row] = database.rows(
        "SELECT 1 FROM scope WHERE kind = 2 AND pipeline = ? AND started_ns > ? LIMIT ?", (pipeline, started, expiry)
    )
    return int(expiry) - len(newer) - 1


class Expiring:
    """Which runs the next start would make expire. Asked for each run that is looked up, so it keeps the answers until
    it is told that a run came or went, and what it found out of a pipeline's runs until a newer one starts there.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._answers: dict[int, bool] = {}
        self._last: dict[bytes, tuple[tuple[int, int], int]] = {}
        """By pipeline: its newest run and the expiry, and when the youngest of those that are next was started."""

    def forget(self) -> None:
        """A run came or went."""
        self._answers.clear()

    def is_next(self, ino: int) -> bool:
        """Whether the start of one more run would make this run expire. Early after a removal."""
        known = self._answers.get(ino)
        if known is None:
            if len(self._answers) >= _ANSWERS:
                self._answers.clear()
            known = self._answers[ino] = self._find_out(ino)
        return known

    def _find_out(self, ino: int) -> bool:
        row = self._database.row(_RUN, (ino,))
        if row is None:
            return False
        pipeline, started, expiry, newest = row
        known = self._last.get(pipeline)
        if known is None or known[0] != (newest, expiry):
            found = self._database.row(_NEXT, (pipeline, expiry - 1))
            known = (newest, expiry), -1 if found is None else found[0]
            self._last[pipeline] = known
        return bool(started <= known[1])


def next_to_expire(tx: Transaction, ino: int) -> list[Removed]:
    """After the start of run `ino`: what the next start would make expire, for kernels to stop caching it."""
    row = tx.row("SELECT pipeline FROM scope WHERE ino = ?", (ino,))
    if row is None or row[0] is None or tx.run_expiry < 2:
        return []
    rows = tx.rows(_NEXT, (row[0], tx.run_expiry - 1))
    return [Removed(found, RUNS_INO, name, b"run/") for _, found, name in rows]


def doom(tx: Transaction, ino: int, parent: int, name: bytes) -> None:
    """Take a whole directory out of the tree at once; `sweep` deletes what is in it in small steps."""
    _detach(tx, ino)
    drop(tx, ino)
    tx.tell(ino, parent, name)


def drop(tx: Transaction, scope: int) -> None:
    """Forget a pipeline or run whose directory is gone. What is still to be swept of it does not count any more."""
    for (size,) in tx.rows("DELETE FROM scope WHERE ino = ? RETURNING bytes", (scope,)):
        tx.note_store_bytes(-size)
    taken.forget(tx, scope)


def sweep(tx: Transaction, limit: int, until: float) -> int:
    """Delete up to `limit` names that `doom` took out of the tree, until `until` by time.monotonic, but at least one.

    Returns how many steps it made, 0 at the end.
    """
    top = tx.row("SELECT ino FROM doomed LIMIT 1")
    if top is None:
        return 0
    entries = tx.rows("SELECT ino, kind, content, evictable FROM node WHERE parent = ? LIMIT ?", (top[0], limit))
    for done, (ino, kind, content, evictable) in enumerate(entries, 1):
        if kind == Kind.DIRECTORY:
            _detach(tx, ino)
        else:
            if evictable:  # only an object in a pipeline can have displaced another
                eviction.forget(tx, ino)
            tx.rows("DELETE FROM node WHERE ino = ?", (ino,))
            tx.drop_content(content)
        if time.monotonic() > until:
            return done
    if not entries:
        tx.rows("DELETE FROM node WHERE ino = ?", top)
        tx.rows("DELETE FROM doomed WHERE ino = ?", top)
    return len(entries) or 1


def _detach(tx: Transaction, ino: int) -> None:
    tx.rows("UPDATE node SET parent = 0, name = CAST(ino AS BLOB) WHERE ino = ?", (ino,))
    tx.rows("INSERT INTO doomed VALUES (?)", (ino,))


def count(tx: Transaction, scope: int, added: int, grown: int) -> Counted:
    """Add to the number of a pipeline's or run's objects, and to the sum of their sizes.

    Raises NotFoundError when the run has expired or the pipeline was deleted, and QuotaError (see note_bytes).
    """
    row = tx.row(_COUNT, (added, grown, scope)) if added or grown else tx.row(_COUNTED, (scope,))
    if row is None:
        raise NotFoundError("the pipeline or run is gone")
    objects, own_limit, kind, evictions, *sums = row
    is_pipeline = kind == ScopeKind.PIPELINE
    if sums:
        now, own_most = sums
        tx.note_bytes(scope, grown, now, eviction.bytes_limit_of(tx, own_most) if is_pipeline else 0)
    return Counted(objects, eviction.limit_of(tx, own_limit) if is_pipeline else 0, is_pipeline, evictions)


def limit_all(tx: Transaction) -> None:
    """Apply the store's limit to every pipeline that has none of its own, and the expiry to every group of runs."""
    for ino, objects in tx.rows(
        "SELECT ino, objects FROM scope WHERE kind = 1 AND object_limit IS NULL AND objects > ?", (tx.object_limit,)
    ):
        lowering.lower(tx, ino, eviction.too_many(objects, tx.object_limit))
    for (group,) in tx.rows("SELECT DISTINCT pipeline FROM scope WHERE kind = 2"):
        expire(tx, group)
