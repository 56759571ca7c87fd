"""The engine without a mount: its puts and gets, a cache library's, and the engine's own statements run bare.

The bare runs are the floor: what is between them and the engine is its Python. Their statements are recorded from
the engine in the same round, so they are the ones that it runs today. Below that is the least that a Put could run
with any schema: one transaction in which it looks whether the name is taken, counts, orders and keeps the value.
"""

import shutil
from contextlib import closing
from pathlib import Path
from time import perf_counter

import apsw
import diskcache

from benchmarks.context import Context
from benchmarks.operations import VALUE
from benchmarks.statements import Statement, recorded, replay_apsw, replay_sqlite3, without_pragmas
from benchmarks.stores import key, open_at
from engine.model import ScopeName

_SCOPE = ScopeName.run("engine")
PUT, GET = "engine put", "engine get"
_LEAST_SCHEMA = """
    CREATE TABLE scope (ino INTEGER PRIMARY KEY, objects INTEGER NOT NULL, clock_ns INTEGER NOT NULL) STRICT;
    CREATE TABLE object (scope INTEGER, name BLOB, put_ns INTEGER, size INTEGER, value BLOB, PRIMARY KEY (scope, name))
        STRICT, WITHOUT ROWID;
    CREATE INDEX eviction_order ON object (scope, put_ns);
    INSERT INTO scope VALUES (1, 0, 0);
"""


def measure(context: Context) -> None:
    """Every library in turn, in alternating order, each on a new store."""
    sides = [_measure_engine, _measure_least, _measure_diskcache]
    for number in range(context.sizes.rounds):
        context.say(f"engine: round {number + 1} of {context.sizes.rounds}")
        for side in sides if number % 2 == 0 else reversed(sides):
            directory = context.scratch / f"engine-{number}"
            directory.mkdir()
            side(context, directory)
            shutil.rmtree(directory)


def _add(context: Context, name: str, target: str, seconds: float) -> None:
    context.figures.add("engine", name, target, context.sizes.engine / seconds, "/s")


def _measure_engine(context: Context, directory: Path) -> None:
    """The engine, untraced; then the statements of the same work, recorded and run bare."""
    empty, store = directory / "empty.db", directory / "store.db"
    with open_at(empty) as made:
        made.start_run(_SCOPE.name)
    shutil.copyfile(empty, store)
    put_seconds, get_seconds = _run_engine(store, context.sizes.engine)
    _add(context, PUT, "fusefs", put_seconds)
    _add(context, GET, "fusefs", get_seconds)

    traced = directory / "traced.db"
    shutil.copyfile(empty, traced)
    puts, gets = _record_engine(traced, context.sizes.engine)
    for name, replay in (("apsw", replay_apsw), ("sqlite3", replay_sqlite3)):
        _add(context, PUT, name, replay(empty, directory / f"{name}-puts.db", puts))
        _add(context, GET, name, replay(traced, directory / f"{name}-gets.db", gets))
        context.figures.add("engine", "engine put: statements", name, len(puts) / context.sizes.engine, "")
        context.figures.add("engine", "engine get: statements", name, len(gets) / context.sizes.engine, "")


def _run_engine(path: Path, count: int) -> tuple[float, float]:
    keys = [key(number).encode() for number in range(count)]
    with open_at(path) as store:
        before = perf_counter()
        for name in keys:
            store.put_object(_SCOPE, name, VALUE)
        put_seconds = perf_counter() - before
        before = perf_counter()
        for name in keys:
            if b"".join(store.read_object(_SCOPE, name)) != VALUE:
                raise RuntimeError(f"{name!r} has another value")
        return put_seconds, perf_counter() - before


def _record_engine(path: Path, count: int) -> tuple[list[Statement], list[Statement]]:
    """The statements of as many puts, and of as many gets."""
    keys = [key(number).encode() for number in range(count)]
    with recorded() as statements, open_at(path) as store:
        statements.clear()
        for name in keys:
            store.put_object(_SCOPE, name, VALUE)
        puts = without_pragmas(statements)
        statements.clear()
        for name in keys:
            b"".join(store.read_object(_SCOPE, name))
        gets = without_pragmas(statements)
    return puts, gets


def _measure_least(context: Context, directory: Path) -> None:
    empty, statements = directory / "least.db", list[Statement]()
    with closing(apsw.Connection(str(empty))) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute(_LEAST_SCHEMA)
    for number in range(context.sizes.engine):
        name = key(number).encode()
        statements += [
            ("BEGIN IMMEDIATE", ()),
            ("SELECT size FROM object WHERE scope = 1 AND name = ?", (name,)),
            ("UPDATE scope SET objects = objects + 1, clock_ns = ? WHERE ino = 1 RETURNING objects", (number,)),
            ("INSERT INTO object VALUES (1, ?, ?, ?, ?)", (name, number, len(VALUE), VALUE)),
            ("COMMIT", ()),
        ]
    _add(context, PUT, "the least in apsw", replay_apsw(empty, directory / "least-puts.db", statements))


def _measure_diskcache(context: Context, directory: Path) -> None:
    keys = [key(number) for number in range(context.sizes.engine)]
    with diskcache.Cache(str(directory / "cache")) as cache:
        before = perf_counter()
        for name in keys:
            cache.set(name, VALUE)
        _add(context, PUT, "diskcache", perf_counter() - before)
        before = perf_counter()
        for name in keys:
            if cache.get(name) != VALUE:
                raise RuntimeError(f"{name} has another value")
        _add(context, GET, "diskcache", perf_counter() - before)
