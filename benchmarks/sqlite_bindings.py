"""Compares the two Python bindings of SQLite on the statements that a store runs most.

The figures in docs/decisions/0001-apsw-over-sqlite3.md come from here: `python -m benchmarks.sqlite_bindings`.
"""

import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import apsw
from rich.console import Console
from rich.table import Table

PUTS = 20_000
CHUNK = bytes(range(256)) * 1024
CHUNKS = 1_024
"""256 MiB in all."""
ROUNDS = 5

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE content (key TEXT PRIMARY KEY, size INTEGER, data BLOB) WITHOUT ROWID;
CREATE TABLE node (ino INTEGER PRIMARY KEY, parent INTEGER, name BLOB, mode INTEGER, uid INTEGER, gid INTEGER);
CREATE UNIQUE INDEX node_by_name ON node (parent, name);
CREATE TABLE store (id INTEGER PRIMARY KEY, clock INTEGER);
CREATE TABLE chunk (content INTEGER, number INTEGER, data BLOB, PRIMARY KEY (content, number));
INSERT INTO store VALUES (1, 0);
"""

Execute = Callable[[str, Sequence[Any]], Iterator[Any]]


def put(execute: Execute, number: int) -> None:
    """Two transactions: the content first, then the name that points at it."""
    execute("BEGIN IMMEDIATE", ())
    execute("INSERT INTO content VALUES (?, ?, ?)", (f"abcdef01/{number:016x}", 100, b"x" * 100))
    execute("COMMIT", ())
    execute("BEGIN IMMEDIATE", ())
    list(execute("UPDATE store SET clock = max(clock + 1, ?) WHERE id = 1 RETURNING clock", (number,)))
    list(execute("SELECT ino FROM node WHERE parent = ? AND name = ?", (7, b"k%d" % number)))
    execute("INSERT INTO node VALUES (?, ?, ?, ?, ?, ?)", (number, 7, b"k%d" % number, 0o644, 0, 0))
    execute("COMMIT", ())


def lookup(execute: Execute, number: int) -> None:
    """One row by its name."""
    list(execute("SELECT * FROM node WHERE parent = ? AND name = ?", (7, b"k%d" % number)))


def write_chunk(execute: Execute, number: int) -> None:
    """A chunk in a transaction of its own, as a long value is written."""
    execute("BEGIN IMMEDIATE", ())
    execute("INSERT INTO chunk VALUES (?, ?, ?)", (1, number, CHUNK))
    execute("COMMIT", ())


def read_chunk(execute: Execute, number: int) -> None:
    """A chunk whole."""
    list(execute("SELECT data FROM chunk WHERE content = ? AND number = ?", (1, number)))


WORK = {
    "put (µs)": (put, PUTS),
    "lookup (µs)": (lookup, PUTS),
    "write 256 KiB (µs)": (write_chunk, CHUNKS),
    "read 256 KiB (µs)": (read_chunk, CHUNKS),
}


def measure(execute: Execute) -> dict[str, float]:
    """Return microseconds for each kind of work."""
    figures = {}
    for name, (operation, count) in WORK.items():
        start = perf_counter()
        for number in range(count):
            operation(execute, number)
        figures[name] = (perf_counter() - start) / count * 1e6
    return figures


def with_apsw(path: Path) -> dict[str, float]:
    connection = apsw.Connection(str(path))
    list(connection.execute(SCHEMA))
    try:
        return measure(connection.execute)
    finally:
        connection.close()


def with_sqlite3(path: Path) -> dict[str, float]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(SCHEMA)
    try:
        return measure(connection.execute)
    finally:
        connection.close()


BINDINGS = {"apsw": with_apsw, "sqlite3": with_sqlite3}


def main() -> None:
    figures: dict[str, dict[str, list[float]]] = {name: {work: [] for work in WORK} for name in BINDINGS}
    directory = sys.argv[1] if len(sys.argv) > 1 else "/var/tmp"
    for number in range(ROUNDS):
        for name, run in BINDINGS.items():
            with tempfile.TemporaryDirectory(prefix="fusefs-bench-", dir=directory) as scratch:
                for work, figure in run(Path(scratch) / f"{number}.db").items():
                    figures[name][work].append(figure)
    table = Table("", f"apsw (SQLite {apsw.sqlite_lib_version()})", f"sqlite3 (SQLite {sqlite3.sqlite_version})")
    for work in WORK:
        cells = [figures[name][work] for name in BINDINGS]
        table.add_row(work, *(f"{statistics.median(c):.1f} ({min(c):.1f} - {max(c):.1f})" for c in cells))
    Console().print(table)


if __name__ == "__main__":
    main()
