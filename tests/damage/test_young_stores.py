"""A store whose log was never written back has its catalog in there alone: where that is damaged, SQLite shows none."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import ScopeName, open_store
from engine.checking import Check
from engine.config import ObjectStoreSettings
from engine.errors import DamagedError, OpenError
from engine.repairing import repair
from engine.salvage import log
from engine.salvage.log import FRAME, HEADER
from tests.damage.pages import turn_bit
from tests.support.stores import run_process, value

APP = ScopeName.pipeline("app")
LARGE = os.urandom(5_000_000)
DIE = """
store = open_store(ObjectStoreSettings(path=sys.argv[1]))
store.create_pipeline(b"app")
store.put_object(ScopeName.pipeline("app"), b"large", Path(sys.argv[2]).read_bytes())
die()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The store of a process that was killed."""
    (tmp_path / "value").write_bytes(LARGE)
    path = tmp_path / "store/objects.db"
    run_process(DIE, str(path), str(tmp_path / "value"), expected=-9)
    return path


def first_frame(path: Path) -> None:
    turn_bit(log.path_of(path), HEADER.size + FRAME.size + 100)


def header(path: Path) -> None:
    with log.path_of(path).open("r+b") as file:
        file.seek(20)
        file.write(bytes(4))


def sector(path: Path) -> None:
    with log.path_of(path).open("r+b") as file:
        file.write(bytes(512))


def files(path: Path) -> dict[str, bytes]:
    """But for those that SQLite makes to read, and the lock."""
    found = path.parent.iterdir()
    return {file.name: file.read_bytes() for file in found if not file.name.endswith(("-shm", "-lock"))}


@pytest.mark.parametrize("damage", [first_frame, header, sector])
def test_no_new_store_takes_its_place(path: Path, damage: Callable[[Path], None]) -> None:
    """It is refused, however often, and left as it is for the repair, which finds everything."""
    damage(path)
    before = files(path)
    settings = ObjectStoreSettings(path=str(path))
    for read_only in (False, True, False):
        with pytest.raises(DamagedError, match="check --repair"):
            open_store(settings, read_only=read_only)
        assert files(path) == before
    assert any("the log is damaged" in finding.what for finding in Check(settings).run())
    assert repair(settings).lost == []
    with open_store(settings, create=False) as store:
        assert value(store, APP, b"large") == LARGE


def test_values_whose_catalog_is_gone_are_kept(path: Path) -> None:
    log.path_of(path).unlink()
    data = path.with_name("objects.db-data")
    before = data.read_bytes()
    settings = ObjectStoreSettings(path=str(path))
    with pytest.raises(OpenError):
        open_store(settings, read_only=True)
    with open_store(settings) as store:
        assert store.list_pipelines() == []
        (told,) = store.database.troubles.news()
        store.create_pipeline(APP.name)
        store.put_object(APP, b"large", LARGE)
    (kept,) = path.parent.glob("*-data.damaged-*")
    assert str(kept) in told
    assert kept.read_bytes() == before
    with open_store(settings) as store:
        assert store.database.troubles.news() == []
        assert value(store, APP, b"large") == LARGE
