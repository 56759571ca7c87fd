"""The end of a transaction in the log that nobody was told of, behind a shorter one that was written over it.

Its process was killed between writing it and publishing it in SQLite's index. SQLite does not see it, and is right.
"""

import shutil
from pathlib import Path

import pytest

from engine import ScopeName, open_store
from engine.checking import Check
from engine.config import ObjectStoreSettings
from engine.repairing import repair
from engine.salvage import log
from engine.salvage.checksums import Checker
from engine.salvage.log import FRAME, HEADER, PAGE_BYTES
from tests.support.stores import keys, run_process

APP = ScopeName.pipeline("app")
WHOLE_FRAME = FRAME.size + PAGE_BYTES
BEGIN = 'store.create_pipeline(b"app")\nstore.put_object(app, b"first", b"1")\n'


def run(directory: Path, step: str, *, beginning: Path | None = None) -> bytes:
    """Let a process do something to the store in a directory, and be killed. Returns the log then."""
    directory.mkdir()
    if beginning is not None:
        for name in ("objects.db", "objects.db-wal"):
            shutil.copyfile(beginning / name, directory / name)
    program = 'store = open_store(ObjectStoreSettings(path=sys.argv[1]))\napp = ScopeName.pipeline("app")\n'
    run_process(f"{program}{step}\ndie()", str(directory / "objects.db"), expected=-9)
    return log.path_of(directory / "objects.db").read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the rests of two transactions in its log, behind one that is shorter."""
    begun = run(tmp_path / "begun", BEGIN)
    longest, longer, last = (
        run(tmp_path / name, f'store.put_object(app, b"{name}", b"x" * {size})', beginning=tmp_path / "begun")
        for name, size in (("longest", 60_000), ("longer", 30_000), ("last", 1))
    )
    assert len(begun) < len(last) < len(longer) < len(longest)
    assert all(written.startswith(begun) for written in (last, longer, longest))
    path = tmp_path / "last/objects.db"
    log.path_of(path).write_bytes(last + longer[len(last) :] + longest[len(longer) :])
    return path


def test_it_is_no_damage(store: Path) -> None:
    settings = ObjectStoreSettings(path=str(store))
    assert list(Check(settings).run()) == []
    with open_store(settings) as opened:
        assert keys(opened, APP) == [b"first", b"last"]
        assert opened.database.troubles.news() == []
    assert not list(store.parent.glob("*.damaged-*"))


def test_a_repair_leaves_it_alone(store: Path) -> None:
    """It is no newer state of a page, and nothing to be repaired."""
    repaired = repair(ObjectStoreSettings(path=str(store)))
    assert (repaired.kept, repaired.lost) == ([], [])
    with open_store(ObjectStoreSettings(path=str(store))) as opened:
        assert keys(opened, APP) == [b"first", b"last"]


@pytest.mark.parametrize("frame", [0, 3])
def test_damage_before_it_is_found(store: Path, frame: int) -> None:
    """In the first frame of all, and within a transaction, with more than one behind that."""
    end = log.read(store, PAGE_BYTES, Checker()).size
    with log.path_of(store).open("r+b") as file:
        file.seek(HEADER.size + frame * WHOLE_FRAME + FRAME.size + 300)
        file.write(bytes(range(1, 200)))
    found = log.read(store, PAGE_BYTES, Checker())
    assert (found.damaged, found.size) == (1, end)
    assert found.hidden
    assert any("the log is damaged" in finding.what for finding in Check(ObjectStoreSettings(path=str(store))).run())
