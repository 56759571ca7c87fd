"""The statements that a piece of work runs, written down, to be run again by a bare binding of SQLite."""

import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import apsw

Statement = tuple[str, Sequence[Any]]

_PRAGMAS = ("PRAGMA synchronous = NORMAL", "PRAGMA cache_size = -16384", "PRAGMA wal_autocheckpoint = 0")
"""What the engine tells its own connections."""


@contextmanager
def recorded() -> Iterator[list[Statement]]:
    """Write down every statement of every connection that is opened while the block runs, with its arguments."""
    statements: list[Statement] = []

    def record(_cursor: apsw.Cursor, sql: str, arguments: Any) -> bool:
        statements.append((sql, tuple(arguments or ())))
        return True

    def watch(connection: apsw.Connection) -> None:
        connection.exec_trace = record

    apsw.connection_hooks.append(watch)
    try:
        yield statements
    finally:
        apsw.connection_hooks.remove(watch)


def without_pragmas(statements: Iterable[Statement]) -> list[Statement]:
    """What is left when a connection is open already."""
    return [statement for statement in statements if not statement[0].startswith("PRAGMA")]


def replay_apsw(store: Path, copy: Path, statements: Sequence[Statement]) -> float:
    """Run the statements on a copy of a store with bare apsw. Returns the seconds."""
    shutil.copyfile(store, copy)
    with closing(apsw.Connection(str(copy))) as connection:
        return _replay(connection.execute, statements)


def replay_sqlite3(store: Path, copy: Path, statements: Sequence[Statement]) -> float:
    """The same with the standard library's sqlite3."""
    shutil.copyfile(store, copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        return _replay(connection.execute, statements)


def _replay(execute: Callable[[str, Sequence[Any]], Any], statements: Sequence[Statement]) -> float:
    for pragma in _PRAGMAS:
        execute(pragma, ()).fetchall()
    before = perf_counter()
    for sql, arguments in statements:
        execute(sql, arguments).fetchall()
    return perf_counter() - before
