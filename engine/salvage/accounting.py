"""What a store that was made anew says of itself: its limits, numbers and counts, and which values it has."""

from dataclasses import dataclass, field

import apsw

from engine.model import FIRST_FREE_ID
from engine.sqlite import sums
from engine.sqlite.database import Row

_GAP = 1 << 20
"""How far numbers are moved on where it is not known which were given out."""

_PATHS = """
    CREATE TEMP TABLE path AS WITH RECURSIVE reached(ino, path) AS (
        SELECT 1, CAST('' AS BLOB) UNION ALL
        SELECT node.ino, CAST(iif(reached.ino = 1, node.name, reached.path || CAST('/' AS BLOB) || node.name) AS BLOB)
        FROM node JOIN reached ON node.parent = reached.ino WHERE node.ino <> reached.ino)
    SELECT ino, path FROM reached;
    CREATE INDEX path_ino ON path (ino);
"""
_LOST = """
    SELECT DISTINCT coalesce((SELECT path FROM path WHERE path.ino = found.parent), CAST('?' AS BLOB)), name
    FROM found_dentry AS found WHERE sure AND parent <> 0 AND name <> x'' AND ino NOT IN (SELECT ino FROM node)
    AND ino NOT IN (SELECT ino FROM found_evicted)
    AND NOT EXISTS (SELECT 1 FROM node WHERE node.parent = found.parent AND node.name = found.name)
"""
_TWICE = """
    SELECT ino FROM (SELECT ino, row_number() OVER
        (PARTITION BY content ORDER BY ino IN (SELECT ino FROM uncertain), -ino) AS nth
        FROM node WHERE content <> 0) WHERE nth > 1
"""
_VALUES = """
    DELETE FROM intent WHERE content <> 0 AND content IN (SELECT content FROM node);
    DELETE FROM named_content WHERE content NOT IN (SELECT number FROM content);
    DELETE FROM content WHERE (data IS NOT NULL AND length(data) <> size) OR number NOT IN (SELECT content FROM node
        UNION SELECT content FROM intent UNION SELECT content FROM named_content);
    DELETE FROM extent WHERE NOT EXISTS (SELECT 1 FROM content
        WHERE number = extent.content AND data IS NULL AND position >= 0 AND position * 262144 < size);
    DELETE FROM chunk WHERE length(data) > 262144 OR id <= 0 OR id NOT IN (SELECT chunk FROM extent);
    UPDATE store SET slots = max(slots, (SELECT coalesce(max(-chunk), 0) FROM extent WHERE chunk < 0));
    CREATE TEMP TABLE used AS SELECT DISTINCT -1 - chunk AS number FROM extent WHERE chunk < 0;
    CREATE INDEX used_number ON used (number);
    WITH RECURSIVE slot (number) AS (SELECT 0 FROM store WHERE slots > 0
        UNION ALL SELECT number + 1 FROM slot, store WHERE number + 1 < slots)
    INSERT INTO free_slot SELECT number, 0 FROM slot WHERE number NOT IN (SELECT number FROM used);
"""
_COUNTS = f"""
    UPDATE scope SET objects = 0, bytes = 0;
    UPDATE scope SET objects = counted.objects, bytes = counted.bytes
        FROM (SELECT scope, count(*) AS objects, {sums.at_most("size")} AS bytes
            FROM node WHERE kind = 1 GROUP BY scope) AS counted
        WHERE counted.scope = scope.ino;
    UPDATE store SET bytes = (SELECT {sums.wrapped("bytes")} FROM scope), checksums = 1;
"""
_NUMBERS = f"""
    UPDATE store SET next_id = max({FIRST_FREE_ID}, next_id, 1 + (SELECT max(number) FROM (
        SELECT coalesce(max(ino), 0) AS number FROM node UNION ALL SELECT coalesce(max(content), 0) FROM node
        UNION ALL SELECT coalesce(max(max(ino, content)), 0) FROM intent
        UNION ALL SELECT coalesce(max(content), 0) FROM named_content))),
        clock_ns = max(clock_ns, ?, (SELECT coalesce(max(max(put_ns, ctime_ns)), 0) FROM node),
        (SELECT coalesce(max(started_ns), 0) FROM scope));
    INSERT INTO session SELECT DISTINCT session, 0, 0, 0 FROM intent WHERE session NOT IN (SELECT id FROM session);
    UPDATE session SET seen = (SELECT clock_ns FROM store);
"""
_STORE_COLUMNS = (
    "id, engine, next_id, clock_ns, object_limit, run_expiry, max_object_size, expirations, slots,"
    " max_pipeline_bytes, max_bytes, bytes, checksums"
)


def _rows(connection: apsw.Connection, sql: str, arguments: tuple[int | str, ...] = ()) -> list[Row]:
    return connection.execute(sql, arguments).fetchall()


@dataclass(slots=True)
class Outcome:
    """What became of a store."""

    lost: list[tuple[bytes, str]] = field(default_factory=list)
    """Names that are gone, and why."""
    recovered: list[bytes] = field(default_factory=list)
    """Directories, pipelines and runs that were made again, some under new names."""
    uncertain: list[bytes] = field(default_factory=list)
    """Names of which the times, the owner, the mode or an attribute may not be what they were."""
    notes: list[str] = field(default_factory=list)


def store(connection: apsw.Connection, outcome: Outcome) -> None:
    """The row of the store, as far as it could be read."""
    found = _rows(connection, "SELECT sure FROM found_store ORDER BY sure DESC LIMIT 1")
    if found:
        _rows(connection, f"REPLACE INTO store SELECT 1, {_STORE_COLUMNS} FROM found_store ORDER BY sure DESC LIMIT 1")
    else:
        _rows(connection, f"UPDATE store SET next_id = next_id + {_GAP}")
    if not found or not found[0][0]:
        _rows(
            connection,
            "UPDATE store SET object_limit = 0, run_expiry = 0, max_object_size = 0, max_pipeline_bytes = 0,"
            " max_bytes = 0",
        )
        outcome.notes.append(
            "the store's limits are lost: there are none now, so that nothing goes before they are set"
        )


def names(connection: apsw.Connection, outcome: Outcome) -> None:
    """Say by name what is lost, what was made again, and what is not certain."""
    _rows(connection, _PATHS)
    for directory, name in _rows(connection, _LOST):
        outcome.lost.append((directory + b"/" + name, "its entry in the catalog is lost"))
    for (ino,) in _rows(connection, _TWICE):
        ((path,),) = _rows(connection, "SELECT path FROM path WHERE ino = ?", (ino,))
        outcome.lost.append((path, "it had the value of another object"))
        _rows(connection, "DELETE FROM node WHERE ino = ?", (ino,))
    for table, into in (("uncertain", outcome.uncertain), ("anew", outcome.recovered)):
        rows = _rows(connection, f"SELECT path FROM path WHERE ino IN (SELECT ino FROM {table}) ORDER BY path")
        into.extend(path for (path,) in rows)


def values(connection: apsw.Connection, outcome: Outcome) -> None:
    """Leave the values that something refers to; everything else of the data file is free."""
    _rows(connection, _VALUES)


def numbers(connection: apsw.Connection, now_ns: int) -> None:
    """Numbers and times that nothing had before, and the sessions whose intents are to be seen to."""
    _rows(connection, _NUMBERS, (now_ns,))
    ((last, known),) = _rows(
        connection,
        "SELECT max((SELECT coalesce(max(id), 0) FROM session), (SELECT coalesce(max(seq), 0) FROM found_sequence)),"
        " EXISTS (SELECT 1 FROM found_sequence)",
    )
    _rows(connection, "DELETE FROM sqlite_sequence")
    _rows(connection, "INSERT INTO sqlite_sequence VALUES ('session', ?)", (last if known else last + _GAP,))


def counts(connection: apsw.Connection, outcome: Outcome) -> None:
    """How much each pipeline and run holds; one that holds more than it may gets a limit that allows it."""
    _rows(connection, _COUNTS)
    for (name,) in _rows(
        connection,
        "UPDATE scope SET object_limit = objects FROM store WHERE kind = 1"
        " AND objects > coalesce(nullif(coalesce(scope.object_limit, store.object_limit), 0), 9e18) RETURNING name",
    ):
        shown = name.decode("utf-8", "backslashreplace")
        outcome.notes.append(f"the limit of the pipeline {shown} is lost: it may keep as many objects as it has")
