"""What the mount is to reach, each goal as a comparison of figures of the same run.

Goals are ratios wherever they can be: the same figure swings threefold with what else a machine does.
"""

from dataclasses import dataclass

from benchmarks.context import GIB, Sizes, size_name
from benchmarks.daemon import start_label
from benchmarks.figures import Figures, Spread
from benchmarks.growth import FEW, OPERATIONS, label
from benchmarks.large import SYNCED
from benchmarks.small import MIXED


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for a figure of the mounted store, or for how it compares to another figure."""

    what: str
    figure: str
    bound: float
    of: tuple[str, str] | None = None
    """Another figure and its target: what the figure is divided by, so that more is better. None: the figure counts."""
    at_most: bool = False
    worst: bool = False
    """The largest sample counts, not the median: one request that waits is one too many."""
    stretch: bool = False
    """Nobody is sure that it can be reached: how near is what is asked."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A goal, and what was measured."""

    goal: Goal
    value: Spread | None
    """None: not measured in this run."""

    @property
    def counted(self) -> float | None:
        """The value that decides."""
        if self.value is None:
            return None
        return self.value.high if self.goal.worst else self.value.median

    @property
    def reached(self) -> bool | None:
        """Whether it is; None where it was not measured."""
        counted = self.counted
        if counted is None:
            return None
        return counted <= self.goal.bound if self.goal.at_most else counted >= self.goal.bound


def evaluate(goals: list[Goal], figures: Figures) -> list[Outcome]:
    """Look at what was measured."""
    outcomes = []
    for goal in goals:
        if goal.of is None:
            value = figures.of(goal.figure, "fusefs")
        else:
            value = figures.ratio(goal.figure, "fusefs", *goal.of)
        outcomes.append(Outcome(goal, value))
    return outcomes


def all_goals(sizes: Sizes) -> list[Goal]:
    """Every goal, for the sizes that are measured."""
    return [*_small(), *_many(sizes), *_large(sizes), *_engine(), *_growth(sizes), *_daemon(sizes)]


def _small() -> list[Goal]:
    return [
        Goal("put 100 B, of null", "put", 0.70, ("put", "null")),
        Goal("put 100 B, of gocryptfs", "put", 1.0, ("put", "gocryptfs")),
        Goal("put 100 B, of rclone", "put", 4.0, ("put", "rclone")),
        Goal("overwrite 100 B, of null's put", "overwrite", 0.50, ("put", "null")),
        Goal("get 100 B hot, of null", "get", 0.95, ("get", "null")),
        Goal("get 100 B hot, of gocryptfs", "get", 1.0, ("get", "gocryptfs"), stretch=True),
        Goal("get 100 B hot, of rclone", "get", 8.0, ("get", "rclone")),
        Goal("stat hot, of null", "stat", 0.90, ("stat", "null")),
    ]


def _many(sizes: Sizes) -> list[Goal]:
    mixed = f"{MIXED}, {sizes.processes} processes"
    return [
        Goal("ls -l of 10,000, of null", "ls -l of 10,000", 0.60, ("ls -l of 10,000", "null")),
        Goal(f"{mixed}, of one's", mixed, 0.90, (MIXED, "fusefs")),
        Goal(f"{mixed}, worst request, ms", f"{mixed}: worst", 100, at_most=True, worst=True),
    ]


def _large(sizes: Sizes) -> list[Goal]:
    size = size_name(max([size for size, _ in sizes.large if size <= GIB]))
    return [
        Goal(f"write {size}, of a plain file with fsync", f"write {size}", 0.375, (f"write {size}", SYNCED)),
        Goal(f"read {size} cold, of passthrough", f"read cold {size}", 0.7, (f"read cold {size}", "passthrough")),
        # All of it comes from the kernel's pages: slower would mean that some of it does not.
        Goal(f"read {size} hot, of null", f"read hot {size}", 0.9, (f"read hot {size}", "null")),
    ]


def _engine() -> list[Goal]:
    return [
        Goal("engine put, of diskcache", "engine put", 2.0, ("engine put", "diskcache")),
        Goal("engine get, of diskcache", "engine get", 1.0, ("engine get", "diskcache")),
        Goal("engine put, of its statements in bare apsw", "engine put", 0.5, ("engine put", "apsw")),
        Goal("engine get, of its statements in bare apsw", "engine get", 0.5, ("engine get", "apsw")),
    ]


def _growth(sizes: Sizes) -> list[Goal]:
    grown = sizes.grown
    return [
        # Time of the one over time of the other: the small store is the one that is divided.
        *(
            Goal(
                f"{name}, time at {grown:,} over at {FEW:,} objects",
                label(name, FEW),
                1.3,
                (label(name, grown), "fusefs"),
                at_most=True,
            )
            for name in OPERATIONS
        ),
        *(
            Goal(
                f"worst request while {count:,} objects expire, ms",
                f"request while {count:,} expire: worst",
                100,
                at_most=True,
                worst=True,
            )
            for count in sizes.expiring
        ),
    ]


def _daemon(sizes: Sizes) -> list[Goal]:
    return [
        Goal("memory at most, MiB", "peak memory", 200, at_most=True, worst=True),
        Goal("memory idle, MiB", "idle memory", 60, at_most=True),
        Goal(f"start with {sizes.grown:,} objects, s", start_label(sizes.grown), 0.5, at_most=True),
        Goal("`fusefs pipeline object get`, s of CPU", "object get: CPU", 0.15, at_most=True),
        Goal("file after churn and upkeep, of live bytes", "file size after upkeep", 1.1, at_most=True),
    ]
