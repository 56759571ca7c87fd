"""What makes way: eviction in a full pipeline, and the expiry of a large run beside requests that go on."""

import os
from contextlib import closing
from pathlib import Path
from time import perf_counter

from benchmarks import peers
from benchmarks.context import Context
from benchmarks.mounts import Target
from benchmarks.operations import get, put, stat, timed
from benchmarks.stores import open_at, put_many
from benchmarks.workers import Job, Workers
from engine.model import ScopeName
from engine.sqlite.database import Database

_LIMIT = 50
"""What a pipeline holds unless somebody says otherwise."""
_ROUNDS_OF_REQUESTS = 20
"""Before the next look at what is left."""
_PAUSE_SECONDS = 0.001
"""Between the requests that are watched: they are to find the daemon at every stage of its work."""
_GIVE_UP_SECONDS = 900.0
_LEFT_TO_SWEEP = "SELECT EXISTS (SELECT 1 FROM doomed) OR EXISTS (SELECT 1 FROM change WHERE content <> 0)"


def measure(context: Context) -> None:
    """Both, on the mounted store alone: no other filesystem does such a thing."""
    target = context.target("fusefs")
    if target is not None:
        _measure_eviction(context, target)
    for count in context.sizes.expiring:
        _measure_expiry(context, count)


def _measure_eviction(context: Context, target: Target) -> None:
    """Puts of new names in a pipeline that is full, each of which evicts one."""
    pipeline = target.directory.parents[1] / "pipeline" / "benchmark"
    pipeline.mkdir()
    timed(put, [f"{pipeline}/first-{number}" for number in range(_LIMIT)])
    for number in range(context.sizes.rounds):
        context.say(f"limits: eviction, round {number + 1}")
        seconds = context.do(put, [f"{pipeline}/key-{number}-{at}" for at in range(context.sizes.small)])
        context.figures.add("limits", "put, evicting", target.name, len(seconds) / sum(seconds), "/s")
        context.figures.add_latencies("limits", "put, evicting", target.name, seconds)
        target.settle()
    if len(os.listdir(pipeline)) != _LIMIT:
        raise RuntimeError("a full pipeline does not hold as many objects as its limit says")


def _measure_expiry(context: Context, count: int) -> None:
    """A run of `count` objects expires when a second one is made."""
    name = f"expiring-{count}"
    context.say(f"limits: making a run of {count:,} objects")
    with open_at(context.scratch / f"{name}.db", run_expiry=1) as store:
        store.start_run(b"old")
        put_many(store, ScopeName.run("old"), count)
        store.finish_run(b"old")
    with peers.fusefs(context.scratch, name, "--run-object-expiry", "2") as target:
        # The mount's own run is the first newer one, and the next one made is the second.
        runs = target.directory.parent
        probe = Probe(context.worker, target.directory)
        context.say("limits: requests while nothing expires")
        calm = perf_counter() + context.sizes.calm_seconds
        while perf_counter() < calm:
            probe.run()
        context.figures.add("limits", "request while nothing expires: worst", "fusefs", probe.worst() * 1e3, "ms")
        context.say(f"limits: {count:,} objects expire")
        start = perf_counter()
        seconds = timed(os.mkdir, [str(runs / "new")])
        _watch(context.scratch / f"{name}.db", probe)
        label = f"expiry of {count:,}"
        context.figures.add("limits", f"{label}: the request", "fusefs", seconds[0] * 1e3, "ms")
        context.figures.add("limits", f"{label}: until swept", "fusefs", perf_counter() - start, "s")
        context.figures.add_latencies("limits", f"request while {count:,} expire", "fusefs", [*probe.seconds, *seconds])
        if (runs / "old").exists():
            raise RuntimeError("the old run has not expired")
        context.figures.add("daemon", "peak memory", "fusefs", target.peak_rss_mib(), "MiB")


def _watch(path: Path, probe: "Probe") -> None:
    """Go on with the requests until nothing is left of what expired."""
    probe.seconds.clear()
    deadline = perf_counter() + _GIVE_UP_SECONDS
    with closing(Database(path, read_only=True)) as database:
        while database.value(_LEFT_TO_SWEEP):
            if perf_counter() > deadline:
                raise RuntimeError("what expired is not swept")
            probe.run()


class Probe:
    """Puts, gets and stats by turns, as somebody else's job would send them."""

    def __init__(self, worker: Workers, directory: Path) -> None:
        self._worker = worker
        self._directory = directory
        self._number = 0
        self.seconds: list[float] = []
        """What each request took."""

    def run(self) -> None:
        """Send some requests."""
        numbers = range(self._number, self._number + _ROUNDS_OF_REQUESTS)
        self._number += _ROUNDS_OF_REQUESTS
        paths = [f"{self._directory}/probe-{number}" for number in numbers]
        steps = [(operation, path) for path in paths for operation in (put, get, stat)]
        (worked,) = self._worker.run([Job(steps, pause=_PAUSE_SECONDS)])
        self.seconds += worked.seconds

    def worst(self) -> float:
        """The longest that any of them took."""
        return max(self.seconds)
