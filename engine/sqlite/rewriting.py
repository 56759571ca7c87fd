"""A database file made anew: as small as what is in it, in order, every page with its checksum.

VACUUM would do for a file that has checksums already. One that is to get them has none on the pages that SQLite
writes before the first, and then cannot be read.
"""

import os
import re
from contextlib import closing, suppress
from importlib import resources
from pathlib import Path

import apsw

from engine import disk
from engine.errors import UnavailableError
from engine.sqlite.connecting import CHECKSUM_BYTES
from engine.sqlite.files import PAGE_BYTES, database_file
from engine.sqlite.migrations import APPLICATION_ID, VERSION
from engine.sqlite.names import SQLITE_MAGIC

_TABLE = re.compile(r"^CREATE TABLE (\w+)", re.MULTILINE)
_INDEX = re.compile(r"^CREATE (UNIQUE )?INDEX (\w+)", re.MULTILINE)


def rewrite(path: Path) -> None:
    """Put a new file in the place of a database in today's format, which stays as it was if that fails.

    Needs space for a second one, and for its largest index where SQLite has its temporary files. Raises apsw.Error,
    OSError, and UnavailableError while somebody else has it open.
    """
    try:
        _replace(path)
    except BaseException:
        # By a connection of its own: that one had a file that may be half there, and SQLite reads all that it has.
        with suppress(apsw.Error), closing(_connect(path)) as connection:
            connection.pragma("journal_mode", "wal")
        raise


def _replace(path: Path) -> None:
    new = path.with_name(f"{path.name}.new")
    with database_file(path, apsw.SQLITE_OPEN_READWRITE) as old, closing(_connect(path)) as connection:
        # Refused while another connection is open; from then on there is none but this one.
        if connection.pragma("journal_mode", "delete") != "delete":
            raise UnavailableError("the store is in use by another process")
        _make(connection, new)
        new.rename(path)
        # Who has opened the old file meanwhile, and waits for its lock, is not to take it for the store.
        old.xWrite(bytes(len(SQLITE_MAGIC)), 0)
        disk.sync(path.parent)


def _connect(path: Path) -> apsw.Connection:
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)


def _make(connection: apsw.Connection, new: Path) -> None:
    """Make the new file, all of it on the disk, or nothing."""
    try:
        connection.pragma("locking_mode", "exclusive")
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        _copy(connection, new)
        _finish(new)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def _copy(connection: apsw.Connection, new: Path) -> None:
    connection.execute("ATTACH ? AS new", (str(new),))
    connection.reserve_bytes("new", CHECKSUM_BYTES)
    for setting in (f"page_size = {PAGE_BYTES}", "journal_mode = off", "synchronous = off"):
        connection.execute(f"PRAGMA new.{setting}")
    schema = resources.files("engine.sqlite").joinpath("schema.sql").read_text()
    tables, indexes = _TABLE.sub(r"CREATE TABLE new.\1", schema), _INDEX.sub(r"CREATE \1INDEX new.\2", schema)
    # Committed at once: SQLite makes checksums for files with a header that says so.
    connection.execute(_without(_INDEX, tables))
    # Never rolled back: without a journal nothing can be, and the file goes.
    connection.execute("BEGIN")
    for table in [*_TABLE.findall(schema), "sqlite_sequence"]:
        columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA new.table_info({table})"))
        connection.execute(f"INSERT INTO new.{table} ({columns}) SELECT {columns} FROM main.{table}")
    connection.execute("UPDATE new.store SET checksums = 1")
    connection.execute(_without(_TABLE, indexes))
    connection.execute("COMMIT")
    connection.execute(f"PRAGMA new.application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA new.user_version = {VERSION}")
    connection.execute("DETACH new")


def _without(kind: re.Pattern[str], schema: str) -> str:
    """The statements of a schema that are not of this kind."""
    statements = re.split(r"(?<=;)\n", re.sub("--.*", "", schema))
    return "\n".join(statement for statement in statements if not kind.match(statement.strip()))


def _finish(new: Path) -> None:
    with closing(_connect(new)) as connection:
        connection.pragma("journal_mode", "wal")
    disk.sync(new)
