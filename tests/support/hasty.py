"""The command `fusefs` whose upkeep comes at the worst moment: `python -m tests.support.hasty ARGUMENTS`, for tests.

HASTY_FILE names a file. When the thread that deletes values finds it, it takes it away, and waits until the event loop
has committed the next removal or rename; that goes on once the thread has done what it was about to do.
"""

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.tree import Tree
from engine.upkeep import Upkeep

_PATIENCE_S = 20.0


def install(trigger: Path) -> None:
    waits, committed, done = threading.Event(), threading.Event(), threading.Event()
    reclaim = Upkeep.reclaim

    def late(self: Upkeep, *arguments: Any) -> bool:
        if not trigger.exists():
            return reclaim(self, *arguments)
        waits.set()
        trigger.unlink()
        committed.wait(_PATIENCE_S)
        try:
            return reclaim(self, *arguments)
        finally:
            done.set()

    def before_all_else(change: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(change)
        def wrapper(*arguments: Any, **options: Any) -> Any:
            result = change(*arguments, **options)
            if waits.is_set():
                waits.clear()
                committed.set()
                done.wait(_PATIENCE_S)
            return result

        return wrapper

    Upkeep.reclaim = late  # type: ignore[assignment, method-assign]
    Tree.remove = before_all_else(Tree.remove)  # type: ignore[method-assign]
    Tree.rename = before_all_else(Tree.rename)  # type: ignore[method-assign]


if __name__ == "__main__":
    from fusefs.cli import main

    install(Path(os.environ["HASTY_FILE"]))
    main()
