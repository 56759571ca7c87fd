"""The schema is its own reference: every column is explained, and older files are brought up to date."""

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import apsw
import pytest

from engine import ScopeName
from engine.errors import OpenError
from engine.sqlite import migrations
from tests.support.stores import Stores, values

SCHEMA = resources.files("engine.sqlite").joinpath("schema.sql").read_text()
TABLES = {found[1]: found[0] for found in re.finditer(r"CREATE TABLE (\w+) \(.*?\n\)[^\n]*;", SCHEMA, re.DOTALL)}
APP = ScopeName.pipeline("app")

# Columns that say all there is to say by their names, in every table that has them.
PLAIN = {"uid", "gid", "mtime_ns", "ctime_ns", "session", "handle", "one"}


def lines(table: str) -> dict[str, str]:
    """The line of each column of a table."""
    found = re.findall(r"(?m)^    ([a-z_]+) (?:INTEGER|TEXT|BLOB)(.*)$", TABLES[table])
    return dict(found)


@pytest.fixture(scope="module")
def columns() -> dict[str, list[str]]:
    """What SQLite makes of the schema."""
    connection = apsw.Connection(":memory:")
    connection.execute(SCHEMA)
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        for table in tables
        if not table.startswith("sqlite_")
    }


def test_every_table_is_seen(columns: dict[str, list[str]]) -> None:
    assert columns.keys() == TABLES.keys()
    assert {table: list(lines(table)) for table in TABLES} == columns


@pytest.mark.parametrize("table", TABLES)
def test_every_table_says_what_it_is(table: str) -> None:
    before = SCHEMA[: SCHEMA.index(TABLES[table])]
    assert before.rstrip("\n").rsplit("\n", 1)[-1].startswith("-- "), table


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_explained(table: str) -> None:
    if "Columns as in node" in SCHEMA[: SCHEMA.index(TABLES[table])].rsplit("\n\n", 1)[-1]:
        explained = set(lines("node"))
    else:
        explained = set()
    missing = [
        column
        for column, rest in lines(table).items()
        if "-- " not in rest and column not in explained and column not in PLAIN and column not in lines("node")
        if not (column == "ino" and table == "doomed")
    ]
    assert missing == []


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_strict(table: str) -> None:
    """SQLite would else put any value into any column."""
    assert "STRICT" in TABLES[table].rsplit("\n", 1)[-1]


def test_evicted_has_the_columns_of_node(columns: dict[str, list[str]]) -> None:
    assert columns["evicted"][: len(columns["node"])] == columns["node"]


def test_a_new_store_has_this_schema_and_version(stores: Stores) -> None:
    store = stores.open()
    fresh = apsw.Connection(":memory:")
    fresh.execute(SCHEMA)
    query = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    assert store.database.rows(query) == list(fresh.execute(query))
    assert store.database.value("PRAGMA application_id") == migrations.APPLICATION_ID == int.from_bytes(b"fuse", "big")
    assert store.database.value("PRAGMA user_version") == migrations.VERSION


def test_there_is_a_migration_from_every_older_version() -> None:
    assert sorted(migrations._MIGRATIONS) == list(range(1, migrations.VERSION))


# Migrations


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_store_of_an_older_version(stores: Stores, version: int) -> None:
    """Everything is there, and the file is the same as a new one."""
    old = apsw.Connection(str(stores.path))
    old.execute("PRAGMA journal_mode = wal").fetchall()
    old.execute(Path(__file__).with_name(f"schema_v{version}.sql").read_text())
    columns = "one, id, engine, next_id, clock_ns, object_limit, run_expiry, max_object_size"
    old.execute(f"INSERT INTO store ({columns}) VALUES (1, '01234567', 'sqlite', 100, 5000, 2, 2, 0)")
    directory = "INSERT INTO node VALUES (?, ?, ?, ?, 0, 493, 0, 0, 0, 1, 1, 1, 0, 0, NULL, NULL, 0)"
    for row in [(1, 0, b"", 0), (2, 1, b"pipeline", 0), (3, 1, b"run", 0), (16, 2, b"app", 16)]:
        old.execute(directory, row)
    columns = "ino, kind, name, objects, object_limit, pipeline, started_ns, protected"
    old.execute(f"INSERT INTO scope ({columns}) VALUES (16, 1, ?, 1, NULL, NULL, 1000, 0)", (b"app",))
    old.execute("INSERT INTO content (key, size, data) VALUES ('01234567/0000000000000012', 5, ?)", (b"value",))
    old.execute("INSERT INTO node VALUES (17, 16, ?, 16, 1, 420, 0, 0, 5, 1, 1, 1, 2000, 18, NULL, NULL, 1)", (b"key",))
    old.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}; PRAGMA user_version = {version}")
    old.close()
    store = stores.open()
    assert values(store, APP) == {b"key": b"value"}
    assert _shape(store.database.rows) == _shape(lambda sql: list(_fresh().execute(sql)))
    store.put_object(APP, b"b", b"")
    assert [gone.name for gone in store.put_object(APP, b"c", b"").evicted] == [b"key"]


def _fresh() -> apsw.Connection:
    fresh = apsw.Connection(":memory:")
    fresh.execute(SCHEMA)
    return fresh


def _shape(rows: Callable[[str], list[Any]]) -> dict[str, list[Any]]:
    """Tables, their columns and indexes; not the text that made them, which tells how they came about."""
    names = [name for (name,) in rows("SELECT name FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")]
    return {name: rows(f"PRAGMA table_xinfo({name})") + rows(f"PRAGMA index_xinfo({name})") for name in names}


# Migrations, with two that are made up


@pytest.fixture
def older(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Stores:
    """A store of today's version, for a program that is two versions ahead."""
    store = stores.open()
    store.create_pipeline(APP.name)
    store.put_object(APP, b"key", b"value")
    stores.close(store)
    monkeypatch.setattr(migrations, "VERSION", migrations.VERSION + 2)
    return stores


def add_migrations(monkeypatch: pytest.MonkeyPatch, first: str, second: str) -> None:
    version = migrations.VERSION - 2
    monkeypatch.setitem(migrations._MIGRATIONS, version, first)
    monkeypatch.setitem(migrations._MIGRATIONS, version + 1, second)


def test_an_older_store_is_brought_up_to_date(older: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    add_migrations(
        monkeypatch,
        "CREATE TABLE new (value INTEGER) STRICT; INSERT INTO new VALUES (1); INSERT INTO new VALUES (2);",
        "UPDATE new SET value = value * 10",
    )
    store = older.open()
    assert store.database.rows("SELECT value FROM new ORDER BY 1") == [(10,), (20,)]
    assert store.database.value("PRAGMA user_version") == migrations.VERSION
    assert values(store, APP) == {b"key": b"value"}
    store = older.reopen(store)
    assert store.database.rows("SELECT value FROM new ORDER BY 1") == [(10,), (20,)]


def test_a_migration_that_fails_changes_nothing(older: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    add_migrations(
        monkeypatch,
        "CREATE TABLE new (value INTEGER) STRICT",
        "INSERT INTO new VALUES (1); INSERT INTO nowhere VALUES (1)",
    )
    with pytest.raises(Exception, match="nowhere"):
        older.open()
    connection = apsw.Connection(str(older.path))
    assert connection.execute("PRAGMA user_version").fetchall() == [(migrations.VERSION - 1,)]
    assert connection.execute("SELECT count(*) FROM new").fetchall() == [(0,)]
    connection.close()


def test_an_older_store_cannot_be_read_only(older: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    add_migrations(monkeypatch, "CREATE TABLE new (value INTEGER) STRICT", "DROP TABLE new")
    with pytest.raises(OpenError, match="older format"):
        older.open(read_only=True)
    older.close(older.open())
    assert values(older.open(read_only=True), APP) == {b"key": b"value"}
