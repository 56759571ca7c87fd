"""Fixtures of the tests of damage: two small stores that are copied, never changed."""

from pathlib import Path

import pytest

from tests.damage.campaign import Scene, scenes


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    """A store that was closed, and one whose process was killed, by name."""
    return {scene.name: scene for scene in scenes(tmp_path_factory.mktemp("stores"), "tests", names=70)}


@pytest.fixture
def closed(both: dict[str, Scene]) -> Scene:
    return both["closed"]


@pytest.fixture
def killed(both: dict[str, Scene]) -> Scene:
    return both["killed"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a copy of a store is to be damaged."""
    return tmp_path / "damaged"
