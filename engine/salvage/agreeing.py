"""Makes a tree of names that were saved from a damaged store: nothing in it contradicts anything else afterwards.

What is doubtful counts where something else confirms it: a name by the index of names, a value by its hash.
"""

import time

import apsw

from engine.model import PIPELINES_INO, ROOT_INO, RUNS_INO
from engine.salvage import accounting
from engine.salvage.accounting import Outcome
from engine.sqlite.database import Row

_FIXED = (
    (ROOT_INO, 0, b"", 0o755),
    (PIPELINES_INO, ROOT_INO, b"pipeline", 0o1777),
    (RUNS_INO, ROOT_INO, b"run", 0o1777),
)

_CONFIRMED_NODES = """
    SELECT * FROM doubtful_node AS doubtful WHERE EXISTS (SELECT 1 FROM found_dentry AS found
        WHERE found.ino = doubtful.ino AND found.parent = doubtful.parent AND found.name = doubtful.name AND found.sure)
    AND ino NOT IN (SELECT ino FROM found_evicted)
    AND (kind <> 1 OR content = 0 OR (SELECT engine <> 'sqlite' FROM store)
        OR size = (SELECT size FROM content WHERE number = doubtful.content))
"""
_CONFIRMED_SCOPES = """
    SELECT ino, kind, name, 0, NULL, pipeline, started_ns, protected, evictions, 0, NULL FROM doubtful_scope AS doubtful
    WHERE EXISTS (SELECT 1 FROM node
        WHERE node.ino = doubtful.ino AND node.name = doubtful.name AND node.parent = doubtful.kind + 1)
"""
_CONFIRMED_INTENTS = """
    SELECT * FROM doubtful_intent AS doubtful WHERE session IN (SELECT id FROM session)
    AND (content = 0 OR size = (SELECT size FROM content WHERE number = doubtful.content))
"""
_SWEPT = """
    CREATE TEMP TABLE swept AS WITH RECURSIVE swept(ino) AS (
        SELECT ino FROM node WHERE parent = 0 AND ino <> 1 UNION SELECT ino FROM found_doomed
        UNION SELECT node.ino FROM node JOIN swept ON node.parent = swept.ino)
    SELECT ino FROM swept WHERE ino > 3;
    DELETE FROM node WHERE ino IN (SELECT ino FROM swept);
    DELETE FROM found_dentry
        WHERE ino IN (SELECT ino FROM swept) OR parent IN (SELECT ino FROM swept) OR parent = 0;
"""
_SCOPES_FROM_DIRECTORIES = """
    UPDATE scope SET (kind, name) = (SELECT parent - 1, name FROM node WHERE node.ino = scope.ino)
        WHERE EXISTS (SELECT 1 FROM node
            WHERE node.ino = scope.ino AND (node.name, parent - 1) <> (scope.name, scope.kind));
    DELETE FROM node WHERE parent IN (2, 3) AND kind <> 0 OR parent = 1 AND ino NOT IN (2, 3);
    INSERT INTO scope SELECT ino, parent - 1, name, 0, NULL, CASE parent WHEN 3 THEN x'' END, ctime_ns, 0, 0, 0, NULL
        FROM node WHERE parent IN (2, 3) AND ino NOT IN (SELECT ino FROM scope);
    DELETE FROM scope WHERE ino NOT IN (SELECT ino FROM node WHERE parent IN (2, 3));
"""
_MISSING = """
    SELECT parent, scope, max(evictable), min(uid), min(gid) FROM node
    WHERE parent <> 0 AND parent NOT IN (SELECT ino FROM node WHERE kind = 0) GROUP BY parent LIMIT 1
"""
_PLACES = """
    CREATE TEMP TABLE place AS WITH RECURSIVE place(ino, scope) AS (
        SELECT ino, ino FROM scope UNION SELECT node.ino, place.scope FROM node JOIN place ON node.parent = place.ino)
    SELECT ino, scope FROM place;
    CREATE INDEX place_ino ON place (ino);
    UPDATE node SET scope = place.scope FROM place WHERE place.ino = node.ino AND place.scope <> node.scope;
    UPDATE node SET evictable = kind = 1 AND scope IN (SELECT ino FROM scope WHERE kind = 1);
    UPDATE node SET content = 0, put_ns = 0 WHERE kind <> 1 AND (content <> 0 OR put_ns <> 0);
"""


class Agreement:
    """Works on a file that has the rows, and the tables of `rebuilding` for what is not a row yet."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._outcome = Outcome()
        self._now = time.time_ns()

    def _rows(self, sql: str, arguments: tuple[int | bytes, ...] = ()) -> list[Row]:
        return self._connection.execute(sql, arguments).fetchall()

    def reach(self) -> Outcome:
        """In the caller's transaction."""
        accounting.store(self._connection, self._outcome)
        self._fixed()
        self._doubtful()
        self._rows(_SWEPT)
        self._scopes()
        self._orphans()
        self._places()
        accounting.names(self._connection, self._outcome)
        accounting.values(self._connection, self._outcome)
        accounting.numbers(self._connection, self._now)
        accounting.counts(self._connection, self._outcome)
        return self._outcome

    def _fixed(self) -> None:
        for ino, parent, name, mode in _FIXED:
            self._rows(
                "DELETE FROM node WHERE (ino = ?1 OR (parent = ?2 AND name = ?3))"
                " AND NOT (ino = ?1 AND parent = ?2 AND name = ?3 AND kind = 0 AND scope = 0)",
                (ino, parent, name),
            )
            self._directory(ino, parent, name, 0, mode)

    def _directory(self, ino: int, parent: int, name: bytes, scope: int, mode: int, uid: int = 0, gid: int = 0) -> bool:
        """Make a directory where there is none of that name. Returns whether it did."""
        columns = (ino, parent, name, scope, 0, mode, uid, gid, 0, self._now, self._now, self._now, 0, 0, None, None, 0)
        marks = ", ".join("?" * len(columns))
        return bool(
            self._connection.execute(f"INSERT OR IGNORE INTO node VALUES ({marks}) RETURNING 1", columns).fetchall()
        )

    def _doubtful(self) -> None:
        self._rows("CREATE INDEX found_dentry_ino ON found_dentry (ino)")
        self._rows("CREATE TEMP TABLE uncertain (ino INTEGER PRIMARY KEY)")
        for (ino,) in self._rows(f"INSERT OR IGNORE INTO node {_CONFIRMED_NODES} RETURNING ino"):
            self._rows("INSERT INTO uncertain VALUES (?)", (ino,))
        self._rows(f"INSERT OR IGNORE INTO scope {_CONFIRMED_SCOPES}")
        self._rows(f"INSERT OR IGNORE INTO intent {_CONFIRMED_INTENTS}")

    def _scopes(self) -> None:
        """Pipelines and runs of which either the directory or the rest is lost."""
        for ino, kind, name in self._rows(
            "SELECT ino, kind, name FROM scope WHERE kind IN (1, 2) AND ino NOT IN (SELECT ino FROM node)"
        ):
            if self._directory(ino, kind + 1, name, ino, 0o755):
                self._outcome.recovered.append((b"pipeline/" if kind == 1 else b"run/") + name)
        self._rows(_SCOPES_FROM_DIRECTORIES)

    def _orphans(self) -> None:
        """Names whose directory is lost: it is made again, under its name where the index has that."""
        while missing := self._rows(_MISSING):
            ((ino, scope, evictable, uid, gid),) = missing
            self._rows("DELETE FROM node WHERE ino = ? AND kind <> 0", (ino,))
            if not self._as_it_was(ino, scope, uid, gid):
                self._anew(ino, scope, evictable, uid, gid)
        self._rows(_SCOPES_FROM_DIRECTORIES)

    def _as_it_was(self, ino: int, scope: int, uid: int, gid: int) -> bool:
        for parent, name in self._rows(
            "SELECT parent, name FROM found_dentry WHERE ino = ? AND parent <> ino ORDER BY sure DESC", (ino,)
        ):
            if self._directory(ino, parent, name, scope, 0o755, uid, gid):
                self._rows("INSERT OR IGNORE INTO uncertain VALUES (?)", (ino,))
                return True
        return False

    def _anew(self, ino: int, scope: int, evictable: int, uid: int, gid: int) -> None:
        parent = scope if ino != scope else PIPELINES_INO if evictable else RUNS_INO
        name, again = b"recovered-%d" % ino, 1
        while not self._directory(ino, parent, name, scope, 0o755, uid, gid):
            again += 1
            name = b"recovered-%d-%d" % (ino, again)
        self._rows("INSERT INTO anew VALUES (?)", (ino,))

    def _places(self) -> None:
        """Each name belongs to the pipeline or run that it is in; what is nowhere goes."""
        self._rows(_PLACES)
        for ino, name in self._rows(
            "DELETE FROM node WHERE ino > 3 AND ino NOT IN (SELECT ino FROM place) RETURNING ino, name"
        ):
            self._outcome.lost.append((b"?/" + name, f"the directory of inode {ino} is lost"))
        (last,) = self._rows("SELECT coalesce(max(put_ns), 0) FROM node")[0]
        for (ino,) in self._rows(
            "SELECT ino FROM (SELECT ino, row_number() OVER (PARTITION BY put_ns ORDER BY ino) AS nth"
            " FROM node WHERE kind = 1) WHERE nth > 1"
        ):
            last += 1
            self._rows("UPDATE node SET put_ns = ? WHERE ino = ?", (last, ino))
