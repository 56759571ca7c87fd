"""Making a store's file, recognising one, and bringing an older one up to date."""

import errno
import os
import secrets
import time
from importlib import resources
from pathlib import Path

import apsw

from engine.errors import DamagedError, OpenError
from engine.model import FIRST_FREE_ID, PIPELINES_INO, ROOT_INO, RUNS_INO, Kind
from engine.salvage import log
from engine.sqlite import sums
from engine.sqlite.connecting import CHECKSUM_BYTES
from engine.sqlite.database import Database
from engine.sqlite.files import database_file
from engine.sqlite.names import SQLITE_MAGIC

APPLICATION_ID = 0x66757365
VERSION = 4

# The keys of a store's own values as they were before version 4, and the number that one says.
_IS_OWN_KEY = f"key GLOB id || '/{'[0-9a-f]' * 16}'"
_NUMBER_OF_KEY = " + ".join(
    f"((instr('0123456789abcdef', substr(key, -{digit + 1}, 1)) - 1) << {4 * digit})" for digit in range(16)
)

_MIGRATIONS: dict[int, str] = {
    1: """
        ALTER TABLE store ADD COLUMN expirations INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE scope ADD COLUMN evictions INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE evicted ADD COLUMN freed_by INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX evicted_freed_by ON evicted (freed_by) WHERE freed_by <> 0;
        CREATE INDEX evicted_name ON evicted (parent, name);
        CREATE INDEX evicted_order ON evicted (scope, put_ns);
        CREATE TABLE moved (
            parent INTEGER NOT NULL,
            name BLOB NOT NULL,
            ino INTEGER NOT NULL,
            moved_ns INTEGER NOT NULL,
            PRIMARY KEY (parent, name)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX moved_age ON moved (moved_ns);
        CREATE TABLE taken (
            scope INTEGER NOT NULL,
            slot INTEGER NOT NULL,
            ino INTEGER NOT NULL,
            name BLOB NOT NULL,
            taken_ns INTEGER NOT NULL,
            PRIMARY KEY (scope, slot)
        ) STRICT, WITHOUT ROWID;
    """,
    2: """
        ALTER TABLE session ADD COLUMN resolved INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE store ADD COLUMN slots INTEGER NOT NULL DEFAULT 0;
        CREATE TABLE free_slot (
            number INTEGER PRIMARY KEY,
            ripe INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX free_slot_ripe ON free_slot (ripe, number);
    """,
    3: f"""
        CREATE TABLE named_content (key TEXT PRIMARY KEY, content INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        INSERT INTO named_content SELECT key, next_id + row_number() OVER (ORDER BY key) - 1 FROM content, store
            WHERE NOT {_IS_OWN_KEY};
        UPDATE store SET next_id = next_id + (SELECT count(*) FROM named_content);
        CREATE TEMP TABLE number_of AS SELECT key, {_NUMBER_OF_KEY} AS number FROM
            (SELECT key FROM content UNION SELECT key FROM extent), store WHERE {_IS_OWN_KEY}
            UNION ALL SELECT key, content FROM named_content;
        CREATE UNIQUE INDEX temp.number_of_key ON number_of (key);
        ALTER TABLE content RENAME TO old_content;
        CREATE TABLE content (
            number INTEGER PRIMARY KEY,
            size INTEGER NOT NULL,
            data BLOB,
            hash BLOB,
            extents INTEGER
        ) STRICT;
        INSERT INTO content SELECT number, size, data, NULL, NULL FROM old_content JOIN number_of USING (key)
            ORDER BY number;
        DROP TABLE old_content;
        ALTER TABLE extent RENAME TO old_extent;
        CREATE TABLE extent (
            content INTEGER NOT NULL,
            position INTEGER NOT NULL,
            chunk INTEGER NOT NULL,
            hashes BLOB,
            PRIMARY KEY (content, position)
        ) STRICT, WITHOUT ROWID;
        INSERT INTO extent SELECT number, position, chunk, NULL FROM old_extent JOIN number_of USING (key)
            ORDER BY number, position;
        DROP TABLE old_extent;
        CREATE INDEX extent_chunk ON extent (chunk);
        DROP TABLE number_of;
        ALTER TABLE store ADD COLUMN max_pipeline_bytes INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE store ADD COLUMN max_bytes INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE store ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE store ADD COLUMN checksums INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE scope ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE scope ADD COLUMN max_bytes INTEGER;
        UPDATE scope SET bytes = counted.bytes
            FROM (SELECT scope, {sums.at_most("size")} AS bytes FROM node WHERE kind = 1 GROUP BY scope) AS counted
            WHERE counted.scope = scope.ino;
        UPDATE store SET bytes = (SELECT {sums.wrapped("bytes")} FROM scope);
    """,
}
"""By the version that they start from: statements that lead to the next, in one transaction with its record."""

_ROOM = {0: (0, CHECKSUM_BYTES), 1: (CHECKSUM_BYTES,)}
"""By store.checksums, what a page may have reserved. A compaction that was interrupted has not noted what it did."""


def check_file(path: Path) -> None:
    """Raise OpenError when `path` is there and cannot be a store; says what it is instead. Changes nothing."""
    if path.is_dir():
        raise OpenError(f"{path} is a directory: name the store's file, such as {path / 'objects.db'}")
    if not path.exists():
        return
    if not path.is_file():
        raise OpenError(f"{path} is not a regular file")
    if not os.access(path, os.R_OK):
        raise OpenError(f"cannot read {path}: {os.strerror(errno.EACCES)}")
    try:
        with database_file(path, apsw.SQLITE_OPEN_READONLY) as file:
            magic = file.xRead(len(SQLITE_MAGIC), 0)
    except apsw.Error as error:
        raise OpenError(f"cannot read {path}: {error}") from error
    if magic and magic != SQLITE_MAGIC:
        raise OpenError(f"{path} is not a fusefs store")


def prepare(database: Database, engine: str, *, object_limit: int, run_expiry: int, max_object_size: int) -> None:
    """Make the tables of a new store, or check and migrate those of an old one.

    Raises OpenError for a database of something else, of a newer fusefs, or of another content engine.
    """
    is_empty = database.value("PRAGMA application_id") == 0 and _has_no_tables(database)
    if is_empty:
        _require_no_hidden_catalog(database)
    if database.path is not None and not database.read_only:
        _keep_hidden_log(database, database.path)
    if is_empty:
        if database.read_only:
            raise OpenError(f"{database.path} is empty: there is no store to read")
        began = database.path is None or database.path.stat().st_size == 0
        database.use_log()
        _create(database, engine, object_limit, run_expiry, max_object_size, began=began)
    _check_format(database)
    if not database.read_only:
        database.use_log()
    _check_checksums(database)
    stored = database.value("SELECT engine FROM store")
    if stored != engine:
        raise OpenError(
            f"this store keeps its values in the engine {stored!r}, not in {engine!r}: set engine to {stored!r}"
        )


def _has_no_tables(database: Database) -> bool:
    return bool(database.value("SELECT count(*) FROM sqlite_master") == 0)


def _require_no_hidden_catalog(database: Database) -> None:
    """Raise DamagedError where there is no store to be seen because the log that has it is damaged.

    That of a young store is in the log alone. A new one in its place would be written over it.
    """
    if database.path is not None and _is_hidden_by_its_log(database.path):
        database.log.leave()
        raise DamagedError(
            f"the log of {database.path} is damaged, and all of the store may be in there:"
            " `fusefs check --repair` saves it"
        )


def _is_hidden_by_its_log(path: Path) -> bool:
    try:
        return log.hides_changes(path)
    except OSError as error:
        raise OpenError(f"the log of {path} cannot be read: {error.strerror}") from error


def _keep_hidden_log(database: Database, path: Path) -> None:
    """The log of a process that died may be damaged: SQLite reads it to there, and writes over the rest."""
    try:
        kept = log.keep_hidden(path)
    except OSError as error:
        raise OpenError(f"the log of {path} is damaged, and cannot be copied aside: {error.strerror}") from error
    if kept is not None:
        database.troubles.note(
            f"the log of the store is damaged: the last changes are lost. The whole log was kept as {kept}"
        )


def is_current(database: Database) -> bool:
    """Whether this is a store in the format of this program."""
    return bool(
        database.value("PRAGMA application_id") == APPLICATION_ID and database.value("PRAGMA user_version") == VERSION
    )


def _check_format(database: Database) -> None:
    if database.value("PRAGMA application_id") != APPLICATION_ID:
        raise OpenError(f"{database.path} is an SQLite database, but not a fusefs store")
    version = database.value("PRAGMA user_version")
    if version > VERSION:
        raise OpenError(
            f"{database.path} was written by a newer fusefs (format {version}, known is {VERSION}): upgrade fusefs"
        )
    if version < VERSION and version not in _MIGRATIONS:
        raise OpenError(f"{database.path} has the format {version}, which no fusefs wrote: the file is damaged")
    if version < VERSION and database.read_only:
        raise OpenError(f"{database.path} has the older format {version}: open it for writing once to migrate it")
    while version < VERSION:
        with database.write():
            version = database.value("PRAGMA user_version")
            if version >= VERSION:
                break
            _run_script(database, _MIGRATIONS[version])
            version += 1
            database.rows(f"PRAGMA user_version = {version}")


def _check_checksums(database: Database) -> None:
    """Raise DamagedError when the file says that its pages have no checksums, and the store that they do."""
    if (
        database.path is not None
        and database.checksum_bytes not in _ROOM[database.value("SELECT checksums FROM store")]
    ):
        raise DamagedError(f"the header of {database.path} is damaged")


def _run_script(database: Database, script: str) -> None:
    database.rows(script)


def _see_to_old_data(database: Database, path: Path, *, began: bool) -> None:
    """Delete the data file of a store that was deleted without it: nothing leads to what is in there any more.

    A store that was not deleted may have lost all tables with its log: what it had in that file is kept.
    """
    data = path.with_name(f"{path.name}-data")
    try:
        if began:
            data.unlink(missing_ok=True)
        elif data.exists():
            kept = data.with_name(f"{data.name}.damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
            data.rename(kept)
            database.troubles.note(f"the store was empty, with values beside it: its log may be lost. Kept as {kept}")
    except OSError as error:
        raise OpenError(f"cannot make a store at {path}: {error.strerror}") from error


def _create(
    database: Database, engine: str, object_limit: int, run_expiry: int, max_object_size: int, *, began: bool
) -> None:
    """`began`: there was no database before, not even an empty one."""
    now = time.time_ns()
    with database.write():
        # Somebody else may have made it while we waited for the lock.
        if not _has_no_tables(database):
            return
        if database.path is not None:
            _see_to_old_data(database, database.path, began=began)
        _run_script(database, resources.files("engine.sqlite").joinpath("schema.sql").read_text())
        database.rows(
            "INSERT INTO store VALUES (1, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 1)",
            (secrets.token_hex(4), engine, FIRST_FREE_ID, now, object_limit, run_expiry, max_object_size),
        )
        for ino, parent, name, mode in (
            (ROOT_INO, 0, b"", 0o755),
            # Like /tmp: whoever reaches the mount may make a pipeline or run, and remove only their own.
            (PIPELINES_INO, ROOT_INO, b"pipeline", 0o1777),
            (RUNS_INO, ROOT_INO, b"run", 0o1777),
        ):
            database.rows(
                "INSERT INTO node VALUES (?, ?, ?, 0, ?, ?, ?, ?, 0, ?, ?, ?, 0, 0, NULL, NULL, 0)",
                (ino, parent, name, Kind.DIRECTORY, mode, os.geteuid(), os.getegid(), now, now, now),
            )
        database.rows(f"PRAGMA application_id = {APPLICATION_ID}")
        database.rows(f"PRAGMA user_version = {VERSION}")
