"""A store's file that somebody else has made or put in the place of ours: nothing in it runs, no symlink counts."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from engine import ScopeName, open_store
from engine.config import ObjectStoreSettings
from engine.errors import OpenError, StoreError
from engine.sqlite.connecting import use_checksums
from tests.security.test_place_of_a_store import FINE, WRONG

APP = ScopeName.pipeline(b"app")


@pytest.fixture
def settings(tmp_path: Path) -> ObjectStoreSettings:
    """A store with an object."""
    settings = ObjectStoreSettings(path=str(tmp_path / "above" / "stores" / "objects.db"))
    with open_store(settings) as store:
        store.create_pipeline(b"app", None, uid=0, gid=0)
        store.put_object(APP, b"k", b"value", False, uid=0, gid=0)
    return settings


def tampered(settings: ObjectStoreSettings, *statements: str) -> None:
    """Change the file as somebody does who knows that its pages have checksums."""
    use_checksums()
    with closing(apsw.Connection(settings.path)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_trigger_does_not_run(settings: ObjectStoreSettings) -> None:
    tampered(
        settings,
        "CREATE TABLE loot (name BLOB)",
        "CREATE TRIGGER evil AFTER INSERT ON node BEGIN INSERT INTO loot VALUES (new.name); END",
    )
    with open_store(settings) as store:
        store.put_object(APP, b"secret", b"value", False, uid=0, gid=0)
        assert b"".join(store.read_object(APP, b"secret")) == b"value"
        assert store.database.rows("SELECT * FROM loot") == []


def test_a_view_does_not_take_the_place_of_a_table(settings: ObjectStoreSettings) -> None:
    tampered(settings, "ALTER TABLE node RENAME TO real", "CREATE VIEW node AS SELECT * FROM real")
    with pytest.raises(StoreError, match="view"), open_store(settings) as store:
        list(store.list_objects(APP, b""))


def test_sql_does_not_get_at_the_tables_of_sqlite(settings: ObjectStoreSettings) -> None:
    """SQLITE_DBCONFIG_DEFENSIVE: what no statement of ours does, none that was smuggled in can."""
    with open_store(settings) as store:
        store.database.rows("PRAGMA writable_schema = ON")
        with pytest.raises(StoreError):
            store.database.rows("DELETE FROM sqlite_master")


@pytest.mark.parametrize("prepare", FINE.values(), ids=FINE)
def test_a_place_that_will_do(settings: ObjectStoreSettings, prepare: Callable[[Path], object]) -> None:
    path = Path(settings.path)
    for other in path.parent.glob("objects.db-*"):
        other.unlink()
    prepare(path)
    with open_store(settings) as store:
        store.create_pipeline(b"other", None, uid=0, gid=0)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(("prepare", "message"), WRONG.values(), ids=WRONG)
def test_a_place_that_will_not(
    settings: ObjectStoreSettings, prepare: Callable[[Path], object], message: str, read_only: bool
) -> None:
    """Before anything is opened or made there."""
    path = Path(settings.path)
    prepare(path)
    before = sorted(path.parent.iterdir())
    with pytest.raises(OpenError, match=message):
        open_store(settings, read_only=read_only)
    assert sorted(path.parent.iterdir()) == before


def test_a_symlink_that_is_put_there_last(settings: ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """After all that looks at the place: SQLite follows none either."""
    monkeypatch.setattr("engine.opening._check_path", lambda path, create: None)
    path = Path(settings.path)
    path.symlink_to(path.rename(path.with_name("real.db")))
    with pytest.raises(OpenError):
        open_store(settings)


def test_by_a_directory_that_is_a_symlink(settings: ObjectStoreSettings, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(Path(settings.path).parent)
    with open_store(ObjectStoreSettings(path=str(tmp_path / "link" / "objects.db"))) as store:
        assert b"".join(store.read_object(APP, b"k")) == b"value"


def test_directories_that_are_missing_are_made_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        open_store(ObjectStoreSettings(path=str(tmp_path / "a/b/objects.db"))).close()
    finally:
        os.umask(before)
    assert [oct(path.stat().st_mode & 0o7777) for path in sorted((tmp_path / "a").glob("**"))] == ["0o700"] * 2
