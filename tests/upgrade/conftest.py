"""Stores of older formats."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import Stores


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    """Opens stores on the file objects.db; they are checked at the end."""
    opened = Stores(tmp_path)
    yield opened
    opened.finish()
