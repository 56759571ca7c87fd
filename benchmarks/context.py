"""What every part of the benchmark is given: how much to do, where, on what, and where the figures go."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.mounts import Target
from benchmarks.operations import Operation
from benchmarks.workers import Job, Workers, each

KIB, MIB, GIB = 1024, 1024**2, 1024**3


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    mode: str
    """What history calls it: only like is compared with like."""
    rounds: int
    small: int
    """Small objects a round, by one process."""
    shared: int
    """Small objects a round, by all processes together."""
    processes: int
    large: tuple[tuple[int, int], ...]
    """Sizes of large objects, ascending, and how many of each a round."""
    large_rounds: int
    """Rounds with the objects of 64 MiB and more."""
    listings: tuple[int, ...]
    """Names in the directories that are listed."""
    expiring: tuple[int, ...]
    """Objects in the runs that expire."""
    engine: int
    """Objects a round, for the engine alone."""
    grown: int
    """Objects in the store that is compared with one of 1,000."""
    calm_seconds: float
    """How long a daemon is left alone before it counts as idle; it takes two seconds itself."""
    idle_seconds: float
    churn: int
    """Objects that are written, replaced and removed before the file is measured."""


_LARGE = ((64 * KIB, 256), (MIB, 64), (64 * MIB, 2), (GIB, 1))

TINY = Sizes(
    "tiny",
    rounds=1,
    small=12,
    shared=16,
    processes=2,
    large=((64 * KIB, 2), (MIB, 1)),
    large_rounds=1,
    listings=(10,),
    expiring=(50,),
    engine=20,
    grown=60,
    calm_seconds=0.1,
    idle_seconds=0.1,
    churn=20,
)
"""For the test of the benchmark itself."""
QUICK = Sizes(
    "quick",
    rounds=3,
    small=200,
    shared=240,
    processes=16,
    large=((64 * KIB, 16), (MIB, 8), (128 * MIB, 1)),
    large_rounds=2,
    listings=(10, 10_000),
    expiring=(10_000,),
    engine=1_000,
    grown=20_000,
    calm_seconds=3.0,
    idle_seconds=2.0,
    churn=300,
)
DEFAULT = Sizes(
    "default",
    rounds=5,
    small=2_000,
    shared=3_200,
    processes=16,
    large=_LARGE,
    large_rounds=3,
    listings=(10, 10_000, 100_000),
    expiring=(100_000,),
    engine=10_000,
    grown=100_000,
    calm_seconds=3.0,
    idle_seconds=10.0,
    churn=3_000,
)
FULL = Sizes(
    "full",
    rounds=7,
    small=3_000,
    shared=6_400,
    processes=16,
    large=(*_LARGE, (4 * GIB, 1)),
    large_rounds=3,
    listings=(10, 10_000, 100_000),
    expiring=(100_000, 1_000_000),
    engine=20_000,
    grown=1_000_000,
    calm_seconds=3.0,
    idle_seconds=30.0,
    churn=10_000,
)


@dataclass(slots=True)
class Context:
    """One run of the benchmark."""

    sizes: Sizes
    scratch: Path
    """A directory of this run on the disk that stores lie on."""
    figures: Figures
    say: Callable[[str], None]
    """Tells whoever waits what is being measured."""
    worker: Workers
    """One process, to measure in."""
    targets: list[Target] = field(default_factory=list)
    templates: dict[int, Path] = field(default_factory=dict)
    """Stores made once, by the number of their objects: see `benchmarks.stores`."""

    def target(self, name: str) -> Target | None:
        """A target by name; None where it takes no part."""
        return next((target for target in self.targets if target.name == name), None)

    def do(self, operation: Operation, paths: Iterable[str], children: int = 0) -> list[float]:
        """Do it to each path, in the worker. Returns the seconds of each."""
        (worked,) = self.worker.run([Job(each(operation, paths), children=children)])
        return worked.seconds

    def turns(self, part: str, rounds: int) -> Iterator[tuple[int, Target]]:
        """All rounds: their number and whose turn it is. Targets alternate at being first, each on a quiet machine."""
        for number in range(rounds):
            for target in self.targets if number % 2 == 0 else reversed(self.targets):
                self.say(f"{part}: round {number + 1} of {rounds}, {target.name}")
                yield number, target
                target.settle()


def size_name(size: int) -> str:
    """A size as people write it, such as 64 KiB."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"
