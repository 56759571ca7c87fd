"""New stores for targets, made from a template: thousands a minute."""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine import open_store
from engine.config import ObjectStoreSettings
from engine.store import Store
from tests.fuzz.scratch import directory, empty


@functools.cache
def template() -> bytes:
    """The file of an empty store."""
    path = Path(directory(), "template.db")
    open_store(ObjectStoreSettings(path=str(path)), create=True).close()
    return path.read_bytes()


def place() -> str:
    """The path of an empty store that nobody has opened."""
    path = os.path.join(empty("store"), "objects.db")
    Path(path).write_bytes(template())
    return path


@contextmanager
def new_store(**settings: Any) -> Iterator[Store]:
    """An empty store."""
    with open_store(ObjectStoreSettings(path=place(), **settings), create=True) as store:
        yield store
