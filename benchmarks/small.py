"""Objects of 100 B: by one process, by many, and puts and gets mixed."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.context import Context
from benchmarks.operations import SEQUENCE, get, put
from benchmarks.workers import Job, Worked, Workers, each

MIXED = "puts and gets"
_SHARED_KEYS = 64
"""Objects that everybody gets while everybody puts new ones."""
_CHILDREN = 8
"""Children of a process such as `make -j8` or a shell with jobs: it is asked about at each close."""


def measure_one(context: Context) -> None:
    """One process, each kind of request in turn."""
    for number, target in context.turns("small", context.sizes.rounds):
        paths = [f"{target.directory}/key-{number}-{at}" for at in range(context.sizes.small)]
        for name, operation in SEQUENCE.items():
            seconds = context.do(operation, paths)
            context.figures.add("small", name, target.name, len(seconds) / sum(seconds), "/s")
            context.figures.add_latencies("small", name, target.name, seconds)
        seconds = context.do(put, paths, children=_CHILDREN)
        name = f"put, from among {_CHILDREN} children"
        context.figures.add("small", name, target.name, len(seconds) / sum(seconds), "/s")
        for path in paths:
            Path(path).unlink()


def measure_many(context: Context) -> None:
    """As many processes as the sizes say at once, each with names of its own; and one, with the same mixture."""
    with Workers(context.sizes.processes) as workers:
        for number, target in context.turns("processes", context.sizes.rounds):
            directory = f"{target.directory}/processes-{number}"
            Path(directory).mkdir()
            paths = [
                [f"{directory}/{worker}-{at}" for at in range(context.sizes.shared // workers.count)]
                for worker in range(workers.count)
            ]
            for name, operation in SEQUENCE.items():
                worked = workers.run([Job(each(operation, own)) for own in paths])
                _add(context, f"{name}, {workers.count} processes", target.name, worked)
            _measure_mixed(context, workers, directory, target.name)


def _measure_mixed(context: Context, workers: Workers, directory: str, target: str) -> None:
    shared = [f"{directory}/shared-{at}" for at in range(_SHARED_KEYS)]
    for path in shared:
        put(path)
    for count in (1, workers.count):
        jobs = []
        for worker in range(count):
            paths = [f"{directory}/mixed-{count}-{worker}-{at}" for at in range(context.sizes.shared // count)]
            pairs = [((put, path), (get, shared[at % len(shared)])) for at, path in enumerate(paths)]
            jobs.append(Job([step for pair in pairs for step in pair]))
        _add(context, MIXED if count == 1 else f"{MIXED}, {count} processes", target, workers.run(jobs))


def _add(context: Context, name: str, target: str, worked: Sequence[Worked]) -> None:
    seconds = [second for one in worked for second in one.seconds]
    whole = max(one.end for one in worked) - min(one.start for one in worked)
    context.figures.add("processes", name, target, len(seconds) / whole, "/s")
    context.figures.add_latencies("processes", name, target, seconds)
