"""Opening a store: its file, its content engine, the limits it is told, and what a dead process left to do."""

import os
import stat
from contextlib import closing
from pathlib import Path

from engine.catalog import lifetimes
from engine.catalog.transaction import Transaction
from engine.config import ObjectStoreSettings
from engine.errors import OpenError, OutOfSpaceError, StoreError
from engine.interface import ObjectEngine
from engine.model import NO_EFFECTS, Effects
from engine.registry import EMBEDDED, load_engine
from engine.sessions import Sessions
from engine.sqlite import migrations
from engine.sqlite.content import SqliteEngine
from engine.sqlite.database import Database
from engine.sqlite.names import name_for_sqlite
from engine.store import Store
from engine.trust import check_place, make_directory

DEFAULT_OBJECT_LIMIT = 50
DEFAULT_RUN_EXPIRY = 50
DEFAULT_MAX_OBJECT_SIZE = 0


def open_store(settings: ObjectStoreSettings, *, read_only: bool = False, create: bool = True) -> Store:
    """Open the store that `settings` describe; make it where there is none and `create` is true.

    Limits that the settings name are kept in the store and hold for everybody from now on. What they and the Puts of
    dead processes evict is in `Store.opening_effects`. Raises OpenError, with the store left as it was, and
    InvalidError for an engine that is not installed.
    """
    troubles: list[str] = []
    effects: list[Effects] = []
    if read_only and _left_by_the_dead(settings):
        # What a process acknowledged before it died is to be read as well: it is published first.
        with open_store(settings, create=False) as first:
            troubles = first.database.troubles.news()
            effects = first.opening_effects
    engine = None if settings.engine == EMBEDDED else load_engine(settings.engine, settings.options)
    path = Path(settings.path) if engine is None or engine.persistent else None
    database: Database | None = None
    try:
        if path is not None:
            _check_path(path, create=create and not read_only)
        database = Database(path, read_only=read_only)
        store = _open(database, engine, settings)
    except BaseException:
        if engine is not None:
            engine.close()
        if database is not None:
            database.close()
        raise
    for text in troubles:
        database.troubles.note(text)
    store.opening_effects += effects
    return store


def _left_by_the_dead(settings: ObjectStoreSettings) -> bool:
    path = Path(settings.path)
    if not path.is_file() or not os.access(path, os.W_OK):
        return False
    try:
        check_place(path)
        migrations.check_file(path)
        with closing(Database(path, read_only=True)) as database, closing(Sessions(database)) as sessions:
            return migrations.is_current(database) and bool(sessions.dead())
    except StoreError:
        return False  # opening the store says what is wrong


def _check_path(path: Path, *, create: bool) -> None:
    try:
        check_place(path)
        migrations.check_file(path)
        if path.exists():
            return
        if not create:
            raise OpenError(f"there is no store at {path}: `fusefs mount` and `fusefs pipeline create` make one")
        name_for_sqlite(path)
        make_directory(path.parent)
        # For the owner alone, whatever the umask; SQLite gives its other files the same mode. Not opened here: another
        # thread may have the store open before that is closed again (see `database_file`).
        os.mknod(path, stat.S_IFREG | 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise OpenError(f"cannot make a store at {path}: {error.strerror}") from error


def _open(database: Database, engine: ObjectEngine | None, settings: ObjectStoreSettings) -> Store:
    if not database.read_only and database.path is not None and not os.access(database.path, os.W_OK):
        raise OpenError(f"{database.path} is not writable")
    migrations.prepare(
        database,
        settings.engine,
        object_limit=_or(settings.pipeline_object_limit, DEFAULT_OBJECT_LIMIT),
        run_expiry=_or(settings.run_object_expiry, DEFAULT_RUN_EXPIRY),
        max_object_size=_or(settings.max_object_size, DEFAULT_MAX_OBJECT_SIZE),
    )
    store = Store(
        database,
        engine if engine is not None else SqliteEngine({}, database),
        syncs_closes=settings.durability == "full",
    )
    if not database.read_only:
        try:
            store.opening_effects.append(_apply_limits(database, settings))
            _recover(store)
        except BaseException:
            store.sessions.close()
            raise
    return store


def _recover(store: Store) -> None:
    try:
        store.opening_effects += store.publisher.recover().effects
    except OutOfSpaceError as error:
        # It waits: whoever opens the store may be about to delete something.
        store.database.troubles.note(f"what processes that died have left cannot be published yet: {error}")
    store.publisher.tidy()


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _apply_limits(database: Database, settings: ObjectStoreSettings) -> Effects:
    limits = {
        "object_limit": settings.pipeline_object_limit,
        "run_expiry": settings.run_object_expiry,
        "max_object_size": settings.max_object_size,
        "max_pipeline_bytes": settings.max_pipeline_bytes,
        "max_bytes": settings.max_bytes,
    }
    told = {name: limit for name, limit in limits.items() if limit is not None}
    if not told or database.only_row(f"SELECT {', '.join(told)} FROM store") == tuple(told.values()):
        return NO_EFFECTS
    with database.write():
        database.rows(f"UPDATE store SET {', '.join(f'{name} = ?' for name in told)}", tuple(told.values()))
        tx = Transaction(database, 0)
        lifetimes.limit_all(tx)
        return tx.effects()
