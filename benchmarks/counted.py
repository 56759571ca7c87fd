"""Requests, statements and transactions per operation, counted on a mount that counts (`counting_mount`).

`python -m benchmarks.counted [DIRECTORY]` prints the table alone, with what each request is.
"""

import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, sleep

from rich.console import Console
from rich.table import Table

from benchmarks.context import Context
from benchmarks.counting_mount import BACKGROUND
from benchmarks.many import list_attributes, list_names
from benchmarks.mounts import Target, served
from benchmarks.operations import SEQUENCE, put, timed
from benchmarks.report import WIDTH

_OPERATIONS = 64
_WAIT_SECONDS = 10.0
_LISTED = 100


@dataclass(frozen=True, slots=True)
class Counted:
    """What one operation costs, on average."""

    requests: dict[str, float]
    """By the kind of request."""
    statements: float
    """Run before the requests were answered."""
    transactions: float
    """Committed before they were, where they wrote."""
    statements_behind: float
    """Run for no request, or after its answer: upkeep is among them, a little for every second that passes."""
    transactions_behind: float


class CountingMount:
    """The mount that counts, seen from outside."""

    def __init__(self, target: Target, counts: Path) -> None:
        self.directory = target.directory
        self._target = target
        self._counts = counts
        self._before = self._read()

    def skip(self) -> None:
        """Leave out what was done since the last count."""
        self._before = self._read()

    def _read(self) -> dict[str, Counter[str]]:
        # RELEASE is answered after close() has returned, and what it leaves to do is done later still.
        self._target.settle()
        assert self._target.pid is not None
        self._counts.unlink(missing_ok=True)
        os.kill(self._target.pid, signal.SIGUSR1)
        deadline = monotonic() + _WAIT_SECONDS
        while not self._counts.exists():
            if monotonic() > deadline:
                raise RuntimeError("the mount does not tell what it has counted")
            sleep(0.01)
        return {kind: Counter(counts) for kind, counts in json.loads(self._counts.read_text()).items()}

    def count(self, work: Callable[[], object], times: int) -> Counted:
        """Do something that consists of `times` operations, and divide."""
        work()
        before, after = self._before, self._read()
        self._before = after
        more = {kind: {name: after[kind][name] - before[kind][name] for name in after[kind]} for kind in after}
        return Counted(
            {name: count / times for name, count in more["requests"].items() if count},
            sum(count for name, count in more["statements"].items() if name != BACKGROUND) / times,
            sum(count for name, count in more["transactions"].items() if name != BACKGROUND) / times,
            more["statements"].get(BACKGROUND, 0) / times,
            more["transactions"].get(BACKGROUND, 0) / times,
        )


@contextmanager
def counting_mount(scratch: Path) -> Iterator[CountingMount]:
    """Mount a new store that counts."""
    mountpoint, store, counts = scratch / "counted", scratch / "counted.db", scratch / "counted.json"
    command = [sys.executable, "-m", "benchmarks.counting_mount", str(store), str(mountpoint), str(counts)]
    with served("counted", command, mountpoint) as pid:
        run = mountpoint / "run" / "benchmark"
        run.mkdir()
        yield CountingMount(Target("counted", run, pid, store=store), counts)


def count_all(scratch: Path) -> dict[str, Counted]:
    """Every operation on small objects, and listings."""
    counted = {}
    with counting_mount(scratch) as mount:
        paths = [f"{mount.directory}/key-{number}" for number in range(_OPERATIONS)]
        for name, operation in SEQUENCE.items():
            counted[name] = mount.count(partial(timed, operation, paths), len(paths))
        listed = mount.directory / "listed"
        listed.mkdir()
        for number in range(_LISTED):
            put(f"{listed}/key-{number}")
        mount.skip()
        counted[f"ls of {_LISTED}"] = mount.count(partial(list_names, listed), 1)
        counted[f"ls -l of {_LISTED}"] = mount.count(partial(list_attributes, listed), 1)
    return counted


def measure(context: Context) -> None:
    """Add the counts to the figures of a run."""
    context.say("counted: requests and statements")
    for name, counted in count_all(context.scratch).items():
        for what, count in (
            ("requests", sum(counted.requests.values())),
            ("statements", counted.statements),
            ("transactions", counted.transactions),
            ("statements behind", counted.statements_behind),
            ("transactions behind", counted.transactions_behind),
        ):
            context.figures.add("counted", f"{name}: per operation", what, count, "")


def render(counted: dict[str, Counted]) -> Table:
    """The counts as a table."""
    columns = ("requests", "statements", "transactions", "statements behind", "transactions behind", "which requests")
    table = Table("", *columns, title="per operation, counted")
    for name, one in counted.items():
        which = ", ".join(f"{count:.3g} {request}" for request, count in one.requests.items())
        numbers = (one.statements, one.transactions, one.statements_behind, one.transactions_behind)
        cells = [f"{number:.3g}" for number in (sum(one.requests.values()), *numbers)]
        table.add_row(name, *cells, which)
    return table


def main() -> None:
    directory = os.path.realpath(sys.argv[1] if len(sys.argv) > 1 else "/var/tmp")
    with tempfile.TemporaryDirectory(prefix="fusefs-bench-", dir=directory) as scratch:
        Console(width=WIDTH).print(render(count_all(Path(scratch))))


if __name__ == "__main__":
    main()
