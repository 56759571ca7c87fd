"""Pipelines that are full, for tests of what a change of one key costs the others."""

import itertools
import os
import subprocess
from pathlib import Path

from engine import open_store
from engine.config import ObjectStoreSettings
from tests.support.mounting import MountedStore
from tests.support.processes import run_sh

KEYS = {1: "a", 2: "ab", 3: "abc"}
"""The keys of a full pipeline by its limit, the oldest first."""

_numbers = itertools.count(1)


def before(key: str) -> str:
    """What a key has before it is edited."""
    return f"this is {key}\nx\n"


def after(key: str) -> str:
    """What it has once it is edited: `sed s/x/yes/`."""
    return f"this is {key}\nyes\n"


def set_limit(store: MountedStore, name: str, limit: int) -> None:
    """What `fusefs pipeline set-limit` does, once the mount has published all that was closed before."""
    os.listdir(store.pipeline / name)
    with open_store(ObjectStoreSettings(path=store.store)) as opened:
        opened.set_limit(name.encode(), limit)


class FullPipeline:
    """A new pipeline with as many objects as it may have."""

    def __init__(self, store: MountedStore, limit: int) -> None:
        self.keys = KEYS[limit]
        self.path = store.pipeline / f"full{next(_numbers)}"
        self.path.mkdir()
        set_limit(store, self.path.name, limit)
        for key in self.keys:
            (self.path / key).write_text(before(key))

    def edit(self, script: str, key: str, there: Path) -> subprocess.CompletedProcess[str]:
        """Run a script in it. `$k` is the key that it edits, `$there` a directory with the edited value of each key."""
        for each in self.keys:
            (there / each).write_text(after(each))
        return run_sh(script, self.path, k=key, there=there)

    def values(self) -> dict[str, str]:
        """The objects in it, wherever they lie."""
        files = (path for path in self.path.rglob("*") if path.is_file())
        return {str(path.relative_to(self.path)): path.read_text() for path in files}

    def order_of_eviction(self) -> list[str]:
        """Put one object after another until all that there was is gone: in which order it went."""
        left = set(self.values())
        gone: list[str] = []
        for number in range(len(left)):
            (self.path / f"later{number}").write_text("later")
            went = left - set(self.values())
            assert len(went) == 1, f"one Put evicted {went}"
            left -= went
            gone += went
        return gone


def expected(keys: str, key: str, backup: str | None = None) -> dict[str, str]:
    """What is in a full pipeline after an edit of `key`, in the order of eviction.

    With `backup`, the edited object keeps its old value and its age under that name: a net new object.
    """
    values = {each: before(each) for each in keys if each != key} | {key: after(key)}
    if backup is not None:
        aged = {(backup if each == key else each): before(each) for each in keys}
        values = aged | {key: after(key)}
        del values[next(iter(values))]
    return values
