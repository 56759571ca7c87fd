"""A mount that counts: which requests the kernel sends, and which statements the daemon runs for each.

The product is not changed for it. pyfuse3 is handed the mount's own operations with every handler wrapped, and apsw
tells of the statements of every connection that is opened.

Run as `python -m benchmarks.counting_mount STORE MOUNTPOINT COUNTS`: at SIGUSR1 it writes what it has counted since
it started to the file COUNTS, as JSON. Unmounting ends it.
"""

import contextvars
import functools
import inspect
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pyfuse3

from engine.config import ObjectStoreSettings
from fusefs import session
from fusefs.options import MountOptions

BACKGROUND = "background"
"""What runs for no request: upkeep, news from other processes."""

_request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default=BACKGROUND)
"""The request that is being served. Threads and tasks that it starts see it too."""


class Counts:
    """Requests, and the statements and the transactions that wrote, by the request that they were for."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.statements: Counter[str] = Counter()
        self.transactions: Counter[str] = Counter()

    def watch(self, connection: apsw.Connection) -> None:
        """Count what a connection runs from now on."""
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, self._ran, id=self)
        connection.set_commit_hook(self._commits, id=self)

    def _ran(self, event: dict[str, Any]) -> None:
        if not event["trigger"]:
            self.statements[_request.get()] += 1

    def _commits(self) -> bool:
        """Called for each transaction that wrote, before it is committed, which returning False lets happen."""
        self.transactions[_request.get()] += 1
        return False

    def wrap(self, operations: pyfuse3.Operations) -> None:
        """Count the requests that `operations` is handed from now on."""
        for name, _ in inspect.getmembers(pyfuse3.Operations, inspect.iscoroutinefunction):
            setattr(operations, name, self._counted(name, getattr(operations, name)))

    def _counted(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(method)
        async def counted(*arguments: Any) -> Any:
            self.requests[name] += 1
            token = _request.set(name)
            try:
                return await method(*arguments)
            finally:
                _request.reset(token)

        return counted

    def write(self, path: Path) -> None:
        """Write everything to a file, which appears whole."""
        counts = {
            "requests": dict(self.requests),
            "statements": dict(self.statements),
            "transactions": dict(self.transactions),
        }
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(counts))
        os.replace(aside, path)


def main() -> None:
    store, mountpoint, path = sys.argv[1:]
    counts = Counts()
    apsw.connection_hooks.append(counts.watch)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: counts.write(Path(path)))
    init = pyfuse3.init

    def counting_init(ops: pyfuse3.Operations, mountpoint: str, options: set[str]) -> None:
        counts.wrap(ops)
        init(ops, mountpoint, options)

    pyfuse3.init = counting_init  # type: ignore[assignment]  # the session gives options always
    settings = ObjectStoreSettings(path=os.path.abspath(store))
    session.run(settings, os.path.abspath(mountpoint), options=MountOptions(), ready=lambda: None)


if __name__ == "__main__":
    main()
