"""What requests cost in a store of very many objects, beside the same in one of 1,000.

Both are mounted anew for each round, so that the kernel knows as little of the one as of the other, and their rounds
alternate.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.context import Context
from benchmarks.mounts import Target
from benchmarks.operations import Operation, get, put, stat
from benchmarks.stores import GROWN, copy_of, key

FEW = 1_000
_AT_ONCE = 500
"""Requests of each kind a round: half of the objects of the small store."""
_WARM = 5
"""The first requests of a kind, which find nothing of the program's own in the processor's caches."""
OPERATIONS = ("put", "get first", "stat first", "evict")


@dataclass(slots=True)
class _Sized:
    """One of the stores."""

    count: int
    evicted: int = 0
    """How many of its objects have made way: the oldest, whose keys are the first."""


def measure(context: Context) -> None:
    """Rounds of both stores, in alternating order."""
    sized = [_Sized(FEW), _Sized(context.sizes.grown)]
    for one in sized:
        copy_of(context, one.count, context.scratch / f"{_name(one.count)}.db")
    at_once = min(_AT_ONCE, context.sizes.small)
    for number in range(context.sizes.rounds):
        for one in sized if number % 2 == 0 else reversed(sized):
            context.say(f"growth: round {number + 1} of {context.sizes.rounds}, {one.count:,} objects")
            with peers.fusefs(context.scratch, _name(one.count)) as target:
                _measure(context, target, one, number, at_once)
                context.figures.add("daemon", "peak memory", "fusefs", target.peak_rss_mib(), "MiB")


def _name(count: int) -> str:
    return f"grown-{count}"


def label(operation: str, count: int) -> str:
    """The name of a figure: what a request costs in a store of `count` objects."""
    return f"{operation}, {count:,} objects"


def _measure(context: Context, target: Target, one: _Sized, number: int, at_once: int) -> None:
    pipeline = target.directory.parents[1] / "pipeline" / GROWN
    # Half of the keys for gets and half for stats, so that each is the first that the kernel hears of its name.
    chosen = random.sample(range(one.evicted, one.evicted + one.count), at_once)
    paths = [str(pipeline / key(at)) for at in chosen]
    gets, stats = paths[: at_once // 2], paths[at_once // 2 :]
    work: dict[str, tuple[Operation, list[str]]] = {
        "put": (put, [str(target.directory / f"put-{number}-{at}") for at in range(at_once)]),
        "get first": (get, gets),
        "stat first": (stat, stats),
        "evict": (put, _next_keys(pipeline, one, at_once)),
    }
    for name, (operation, names) in work.items():
        seconds = context.do(operation, names)[_WARM:]
        context.figures.add("growth", label(name, one.count), "fusefs", sum(seconds) / len(seconds) * 1e6, "µs")
    one.evicted += at_once


def _next_keys(pipeline: Path, one: _Sized, count: int) -> list[str]:
    first = one.evicted + one.count
    return [str(pipeline / key(at)) for at in range(first, first + count)]
