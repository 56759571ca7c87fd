"""Stores for tests without a mount, and short ways to say what is in them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import ScopeName, Store, open_store
from engine.catalog import eviction
from engine.catalog.puts import How, Put
from engine.catalog.transaction import Transaction
from engine.config import ObjectStoreSettings
from engine.drafts import Draft
from engine.model import PIPELINES_INO, RUNS_INO, Node, ScopeKind
from tests.support.invariants import check_store

ROOT = Path(__file__).parents[2]
_drafts: list[Draft] = []
_HOME = {ScopeKind.PIPELINE: PIPELINES_INO, ScopeKind.RUN: RUNS_INO}


class Stores:
    """Opens stores in one directory. Those still open at the end are checked and closed."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "objects.db"
        self._open: list[Store] = []

    def open(self, *, read_only: bool = False, create: bool = True, **settings: Any) -> Store:
        """Open the store with these settings, by default the one at `path`."""
        settings.setdefault("path", str(self.path))
        store = open_store(ObjectStoreSettings(**settings), read_only=read_only, create=create)
        self._open.append(store)
        return store

    def close(self, store: Store) -> None:
        self._open.remove(store)
        store.close()

    def reopen(self, store: Store, **settings: Any) -> Store:
        """Close the store and open it again."""
        self.close(store)
        return self.open(**settings)

    def finish(self) -> None:
        try:
            for store in self._open:
                check_store(store)
        finally:
            while _drafts:
                _drafts.pop().close()
            for store in reversed(self._open):
                store.close()


def directory(store: Store, scope: ScopeName, path: bytes = b"") -> int:
    """The inode of a pipeline's or run's directory, or of the one at `path` in it."""
    ino = _HOME[scope.kind]
    for part in (scope.name, *(part for part in path.split(b"/") if part)):
        found = store.tree.child(ino, part)
        assert found is not None, (scope, path)
        ino = found.ino
    return ino


def node(store: Store, scope: ScopeName, key: bytes) -> Node:
    """What a key stands for, which is there."""
    parent, _, name = key.rpartition(b"/")
    found = store.tree.child(directory(store, scope, parent), name)
    assert found is not None, (scope, key)
    return found


def keys(store: Store, scope: ScopeName) -> list[bytes]:
    return [found.key for found in store.list_objects(scope)]


def value(store: Store, scope: ScopeName, key: bytes) -> bytes:
    return b"".join(store.read_object(scope, key))


def values(store: Store, scope: ScopeName) -> dict[bytes, bytes]:
    return {key: value(store, scope, key) for key in keys(store, scope)}


def names(store: Store, parent: int) -> list[bytes]:
    return [found.name for found in store.tree.children(parent, b"", 1000)]


def rename(
    store: Store, scope: ScopeName, old: bytes, new: bytes, to: ScopeName | None = None
) -> tuple[list[bytes], list[bytes]]:
    """Rename by key, replacing. Returns the paths of what was evicted and of what came back."""
    old_parent, _, old_name = old.rpartition(b"/")
    new_parent, _, new_name = new.rpartition(b"/")
    _, effects = store.tree.rename(
        directory(store, scope, old_parent),
        old_name,
        directory(store, to or scope, new_parent),
        new_name,
        replace=True,
    )
    return [gone.path for gone in effects.evicted], [back.path for back in effects.restored]


def new_put(store: Store, parent: int, name: bytes, how: How = How.REPLACE) -> Put:
    return Put(store.contents.numbers.take(), parent, name, 0o644, 0, 0, how=how)


def new_draft(store: Store, content: bytes, base: int = 0, base_size: int = 0) -> Draft:
    """A draft with this behind its base. It is closed when its test is done."""
    draft = Draft(store.contents, base, base_size)
    _drafts.append(draft)
    if content:
        draft.write(draft.size, content)
    return draft


def reclaim_all(store: Store) -> None:
    """Sweep and delete until a call says that there is nothing more to do now."""
    while store.upkeep.sweep() or store.upkeep.reclaim():
        pass


_PREAMBLE = """
import os, signal, sys
from engine import ScopeName, open_store
from engine.catalog import eviction
from engine.catalog.puts import How, Put
from engine.catalog.transaction import Transaction
from engine.config import ObjectStoreSettings
from engine.drafts import Draft
from tests.support.stores import *

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def wait():
    print("ready", flush=True)
    sys.stdin.readline()
"""


def start_process(program: str, *arguments: str) -> "subprocess.Popen[str]":
    """Run `program` in a process of its own, from the top of the checkout; `wait()` in it waits for a line."""
    return subprocess.Popen(
        [sys.executable, "-c", _PREAMBLE + program, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_process(program: str, *arguments: str, expected: int = 0, seconds: float = 120) -> str:
    """Run `program` to its end, which is to be `expected` (-9 for `die()`), and return what it printed."""
    with start_process(program, *arguments) as process:
        out, err = process.communicate(timeout=seconds)
    assert process.returncode == expected, err
    return out


OpenStore = Callable[..., Store]


def forget_displaced(store: Store) -> None:
    """Give up what was evicted and might come back, as upkeep does on a disk that is nearly full."""
    with store.database.write():
        eviction.forget_old(Transaction(store.database, store.sessions.own), 1000)
