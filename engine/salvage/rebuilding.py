"""A new file with the rows that could be read of a damaged one; `agreeing` makes a store of them."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from engine.salvage.accounting import Outcome
from engine.salvage.agreeing import Agreement
from engine.salvage.pages import Pages
from engine.salvage.records import Record
from engine.salvage.scanning import Row, Scan
from engine.salvage.tables import COLUMNS
from engine.sqlite import migrations
from engine.sqlite.connecting import translate
from engine.sqlite.database import Database
from engine.sqlite.hashing import hash_of

_BATCH = 500
_BATCH_BYTES = 4 * 1024 * 1024

_FAST = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;"
_SET_ASIDE = """
    CREATE TEMP TABLE found_dentry (parent INTEGER, name BLOB, ino INTEGER, sure INTEGER);
    CREATE TEMP TABLE found_evicted (ino INTEGER PRIMARY KEY);
    CREATE TEMP TABLE found_doomed (ino INTEGER PRIMARY KEY);
    CREATE TEMP TABLE found_store AS SELECT *, 0 AS sure FROM store LIMIT 0;
    CREATE TEMP TABLE found_sequence (seq INTEGER);
    CREATE TEMP TABLE anew (ino INTEGER PRIMARY KEY);
    CREATE TEMP TABLE doubtful_node AS SELECT * FROM node LIMIT 0;
    CREATE TEMP TABLE doubtful_scope AS SELECT * FROM scope LIMIT 0;
    CREATE TEMP TABLE doubtful_intent AS SELECT * FROM intent LIMIT 0;
"""
_INSERT = {
    name: f"INSERT OR IGNORE INTO {name} VALUES ({', '.join('?' * COLUMNS[name])})"
    for name in ("node", "scope", "session", "content", "named_content", "extent", "chunk", "intent")
}
_INSERT |= {
    "dentry": "INSERT INTO found_dentry VALUES (?, ?, ?, ?)",
    "evicted": "INSERT OR IGNORE INTO found_evicted VALUES (?)",
    "doomed": "INSERT OR IGNORE INTO found_doomed VALUES (?)",
    "sqlite_sequence": "INSERT INTO found_sequence VALUES (?)",
    "store": f"INSERT INTO found_store VALUES ({', '.join('?' * (COLUMNS['store'] + 1))})",
}
_DOUBTFUL = {
    name: f"INSERT INTO doubtful_{name} VALUES ({', '.join('?' * COLUMNS[name])})"
    for name in ("node", "scope", "intent")
}


def rebuild(pages: Pages, target: Path, engine: str, tell: Callable[[int, int], None]) -> Outcome:
    """Make a store at `target` of what can be read. `engine` is the one that is told, should the store's be lost.

    `tell` as in Scan. Raises StoreError.
    """
    with closing(Database(target)) as database:
        migrations.prepare(database, engine, object_limit=0, run_expiry=0, max_object_size=0)
    try:
        with closing(apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
            # Made anew should this be interrupted: nothing of it has to survive before its end.
            connection.execute(f"{_FAST} BEGIN").fetchall()
            connection.execute("DELETE FROM node; " + _SET_ASIDE)
            scan = Scan(pages, tell)
            _fill(connection, scan)
            outcome = Agreement(connection).reach()
            connection.execute("COMMIT")
            connection.pragma("journal_mode", "wal")
    except apsw.Error as error:
        raise translate(error) from error
    if not scan.free_is_known:
        outcome.notes.append("which pages were free is not known any more: what had been deleted may have come back")
    return outcome


def _fill(connection: apsw.Connection, scan: Scan) -> None:
    batches: dict[str, list[Record]] = {}
    size = 0
    for row in scan.rows():
        sql, values = _destination(row)
        if sql is None:
            continue
        batches.setdefault(sql, []).append(values)
        size += sum(len(value) for value in values if isinstance(value, bytes))
        if len(batches[sql]) >= _BATCH or size > _BATCH_BYTES:
            _flush(connection, batches)
            size = 0
    _flush(connection, batches)


def _flush(connection: apsw.Connection, batches: dict[str, list[Record]]) -> None:
    for sql, rows in batches.items():
        connection.executemany(sql, rows)
    batches.clear()


def _destination(row: Row) -> tuple[str | None, Record]:
    """The statement that keeps a row, and its arguments."""
    table, values, sure = row
    if table == "sqlite_schema":
        return None, ()
    if table in ("dentry", "store"):
        return _INSERT[table], (*values, sure)
    if table in ("evicted", "doomed"):
        return (_INSERT[table] if sure or table == "evicted" else None), values[:1]
    if table == "sqlite_sequence":
        return _INSERT[table], values[1:]
    if sure or table in ("extent", "chunk"):  # what they hold is compared with its hashes
        return _INSERT[table], values
    if table == "content":
        return (_INSERT[table] if _is_right(*values[2:4]) else None), values
    # How far the journal of a doubtful session counts is not known either.
    return _DOUBTFUL.get(table), values


def _is_right(data: Any, stored: Any) -> bool:
    return data is None or (stored is not None and hash_of(data) == stored)
