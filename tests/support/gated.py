"""The command `fusefs` on a disk that does not answer: `python -m tests.support.gated ARGUMENTS`, for tests' daemons.

GATE_FILE names a file. While it holds the name of one of the methods below, calls of that method wait: those of
`IN_THREADS` in threads, where requests wait for them; those of `ON_THE_LOOP` on the event loop, which serves nobody.
"""

import functools
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.support.mounting import MountedStore

READ = "engine.contents:Contents.read"
SETTLE = "engine.contents:Contents.settle"
STORE = "engine.sqlite.chunks:ChunkedDraft.store"
SYNC = "engine.store:Store.sync"
SPACE = "engine.tree:Tree.space"

IN_THREADS = [READ, SETTLE, STORE, SYNC]
ON_THE_LOOP = [SPACE]


def shut(gate: Path, method: str) -> bool:
    try:
        return method in gate.read_text()
    except FileNotFoundError:
        return False


def gated(method: str, original: Callable[..., Any], gate: Path) -> Callable[..., Any]:
    """Return `original` with the gate in front of it."""
    on_the_loop = method in ON_THE_LOOP

    @functools.wraps(original)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        if (threading.current_thread() is threading.main_thread()) == on_the_loop:
            while shut(gate, method):
                time.sleep(0.01)
        return original(*arguments, **options)

    return wrapper


def install(gate: Path) -> None:
    """Put a gate before every method."""
    for method in [*IN_THREADS, *ON_THE_LOOP]:
        module, _, path = method.partition(":")
        kind, name = path.split(".")
        owner = getattr(importlib.import_module(module), kind)
        setattr(owner, name, gated(method, getattr(owner, name), gate))


class Gated:
    """A mount whose disk does not answer while a gate is shut, with a run to work in."""

    def __init__(self, store: MountedStore, gate: Path) -> None:
        self.store = store
        self._gate = gate
        self.directory = store.run / "r"

    def shut(self, *methods: str) -> None:
        new = self._gate.with_suffix(".new")
        new.write_text(" ".join(methods))
        new.rename(self._gate)

    def open(self) -> None:
        self._gate.unlink(missing_ok=True)


@contextmanager
def gated_mount(scratch: Path, **options: Any) -> Iterator[Gated]:
    """A new store, mounted by this command. `options` are those of MountedStore."""
    gate = scratch / "gate"
    program = (sys.executable, "-m", "tests.support.gated")
    with closing(MountedStore(program=program, environment={"GATE_FILE": str(gate)}, **options)) as store:
        store.mount()
        (store.run / "r").mkdir()
        try:
            yield Gated(store, gate)
        finally:
            gate.unlink(missing_ok=True)


if __name__ == "__main__":
    from fusefs.cli import main

    install(Path(os.environ["GATE_FILE"]))
    main()
