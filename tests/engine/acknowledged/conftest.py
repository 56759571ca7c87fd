"""Fixtures for what is acknowledged and not published yet: a store that journals, and a disk that is full."""

from collections.abc import Sequence
from typing import Any

import pytest

from engine import Store
from engine.errors import OutOfSpaceError
from engine.sqlite.database import Database
from tests.support.acknowledging import APP
from tests.support.stores import Stores


@pytest.fixture
def store(stores: Stores) -> Store:
    store = stores.open()
    store.create_pipeline(APP.name)
    return store


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While it holds True, nothing can be committed."""
    state = [False]
    rows = Database.rows

    def refusing(self: Database, sql: str, arguments: Sequence[Any] = ()) -> list[Any]:
        if state[0] and sql == "COMMIT" and self.in_transaction:
            raise OutOfSpaceError("the disk is full")
        return rows(self, sql, arguments)

    monkeypatch.setattr(Database, "rows", refusing)
    return state
