"""Fixtures of the engine's tests: stores that are checked for contradictions when their test is done."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import ScopeName, Store
from tests.support.stores import Stores

PIPELINE = ScopeName.pipeline("app")


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    """Opens stores on the file objects.db, as many and as often as a test likes."""
    opened = Stores(tmp_path)
    yield opened
    opened.finish()


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, stores: Stores) -> Store:
    """An empty store: with the embedded engine, and with one that has no part in the catalog's transactions."""
    return stores.open(engine=request.param)


@pytest.fixture
def app(store: Store) -> ScopeName:
    """A pipeline with a limit of 3."""
    store.create_pipeline(PIPELINE.name, 3)
    return PIPELINE
