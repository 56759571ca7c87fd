"""SQLite opens files by names in UTF-8 only: a store in another directory is refused, and nothing is made there."""

import os
from pathlib import Path

import pytest

from engine import open_store
from engine.config import ObjectStoreSettings
from engine.errors import OpenError
from tests.cli.conftest import Fusefs

REFUSED = "is not UTF-8, as the names of stores and the directories above have to be"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that is worked in, and so is part of each name of a file that has no other."""
    directory = Path(os.fsdecode(bytes(tmp_path) + b"/\x80"))
    directory.mkdir(0o700)
    monkeypatch.chdir(directory)
    return directory


def refused(fusefs: Fusefs, *arguments: str) -> None:
    ended = fusefs(*arguments)
    assert (ended.code, ended.out) == (1, b"")
    assert ended.err.rstrip().endswith(f"\\x80/objects.db {REFUSED}"), ended.err


@pytest.mark.parametrize("command", [("pipeline", "create", "p"), ("mount", "m")], ids=lambda command: command[0])
def test_none_is_made(fusefs: Fusefs, directory: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "m").mkdir()
    refused(fusefs, *command[:-1], command[-1].replace("m", str(tmp_path / "m")), "--store", "objects.db")
    assert [path.name for path in directory.iterdir() if not path.name.endswith(".log")] == []


@pytest.mark.parametrize(
    "command", ["pipeline list", "pipeline create q", "check", "check --repair", "compact", "backup copy.db"]
)
def test_one_that_was_moved_there(fusefs: Fusefs, directory: Path, tmp_path: Path, command: str) -> None:
    fusefs("pipeline", "create", "p").ok()
    (tmp_path / "objects.db").rename(directory / "objects.db")
    refused(fusefs, *command.split(), "--store", "objects.db")


def test_a_backup_there(fusefs: Fusefs, directory: Path) -> None:
    fusefs("pipeline", "create", "p").ok()
    refused(fusefs, "backup", "objects.db")
    assert [*directory.iterdir()] == []


def test_by_the_library(directory: Path) -> None:
    with pytest.raises(OpenError, match="is not UTF-8"):
        open_store(ObjectStoreSettings(path=directory / "objects.db"))
    assert [*directory.iterdir()] == []
