"""Stores with many objects in them, made through the engine because that is the quickest way."""

import shutil
from pathlib import Path

from benchmarks.context import Context
from benchmarks.mounts import Target
from benchmarks.operations import VALUE, put
from benchmarks.peers import RUN
from engine import open_store
from engine.config import ObjectStoreSettings
from engine.model import ScopeName
from engine.store import Store

GROWN = "grown"
"""The pipeline of a template that all its objects are in."""
_LOOK_EVERY = 500
"""Puts between two looks at the length of the log."""


def key(number: int) -> str:
    """The key of an object that was made here: they sort in the order in which they were put."""
    return f"k{number:08}"


def open_at(path: Path, *, run_expiry: int | None = None, read_only: bool = False) -> Store:
    """Open the store in a file, which is made when it is missing."""
    return open_store(ObjectStoreSettings(path=str(path), run_object_expiry=run_expiry), read_only=read_only)


def put_many(store: Store, scope: ScopeName, count: int, prefix: str = "") -> None:
    """Put objects of 100 B, writing the log back as a mount would."""
    for number in range(count):
        store.put_object(scope, f"{prefix}{key(number)}".encode(), VALUE)
        if number % _LOOK_EVERY == 0 and store.upkeep.checkpoint_due:
            store.upkeep.checkpoint()


def copy_of(context: Context, count: int, path: Path) -> Path:
    """A store at `path` whose pipeline `GROWN` is full with `count` objects; each size is made once a run."""
    if count not in context.templates:
        context.say(f"making a store of {count:,} objects")
        template = context.scratch / f"template-{count}.db"
        with open_at(template) as store:
            store.create_pipeline(GROWN.encode(), limit=count)
            put_many(store, ScopeName.pipeline(GROWN), count)
        context.templates[count] = template
    # Closed, a store is this one file alone.
    shutil.copyfile(context.templates[count], path)
    return path


def fill(target: Target, directory: str, count: int) -> Path:
    """Make a directory of `count` objects of 100 B and return it, the quickest way that the target has."""
    made = target.directory / directory
    made.mkdir()
    if target.store is not None:
        with open_at(target.store) as store:
            put_many(store, ScopeName.run(RUN), count, f"{directory}/")
        return made
    behind = made if target.backing is None else target.backing / directory
    for number in range(count):
        put(str(behind / key(number)))
    return made
