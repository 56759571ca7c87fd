"""Figures of a run: samples by name and target, and what is computed from them.

A figure has one sample a round. Ratios are formed within a round before their median is taken: rounds of all targets
alternate, so that a machine that is busy for a while slows both sides of a ratio.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

RATES = ("/s", "MB/s")
"""Units of which more is better; of all others less is."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and how far the samples lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> "Spread":
        """The median of `samples`, and the smallest and the largest: rounds are too few for quartiles."""
        values = sorted(samples)
        return cls(statistics.median(values), values[0], values[-1])


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that at least `percent` of them do not exceed."""
    if not values:
        raise ValueError("a percentile of nothing")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


@dataclass(slots=True)
class Figure:
    """One thing that was measured, on each target."""

    part: str
    unit: str
    samples: dict[str, list[float]] = field(default_factory=dict)

    @property
    def more_is_better(self) -> bool:
        return self.unit in RATES

    @property
    def is_speed(self) -> bool:
        """Whether it says how fast something is, so that targets can be compared by it."""
        return self.unit in (*RATES, "ms", "µs", "s")


class Figures:
    """All figures of a run, in the order in which they were measured first."""

    def __init__(self) -> None:
        self.by_name: dict[str, Figure] = {}

    def add(self, part: str, name: str, target: str, value: float, unit: str) -> None:
        """Add a sample. `part`: which part of the benchmark it belongs to."""
        figure = self.by_name.setdefault(name, Figure(part, unit))
        figure.samples.setdefault(target, []).append(value)

    def add_latencies(self, part: str, name: str, target: str, seconds: Sequence[float]) -> None:
        """Add what single requests of one round took: three percentiles and the worst."""
        for percent in (50, 95, 99):
            self.add(part, f"{name}: p{percent}", target, percentile(seconds, percent) * 1e6, "µs")
        self.add(part, f"{name}: worst", target, max(seconds) * 1e3, "ms")

    def samples(self, name: str, target: str) -> list[float]:
        """The samples of a figure on a target; none where it was not measured."""
        figure = self.by_name.get(name)
        return [] if figure is None else figure.samples.get(target, [])

    def of(self, name: str, target: str) -> Spread | None:
        """A figure on a target; None where it was not measured."""
        samples = self.samples(name, target)
        return Spread.of(samples) if samples else None

    def ratio(self, name: str, target: str, of_name: str, of_target: str) -> Spread | None:
        """How one figure compares to another: 2 is twice as good, whatever the unit. None where one is missing."""
        own, other = self.samples(name, target), self.samples(of_name, of_target)
        if not own or not other:
            return None
        if len(own) != len(other):
            own, other = [statistics.median(own)], [statistics.median(other)]
        better = self.by_name[name].more_is_better
        return Spread.of(a / b if better else b / a for a, b in zip(own, other, strict=True))

    def of_null(self, name: str, target: str) -> Spread | None:
        """A speed as a part of the null filesystem's; None where there is none, and for single requests' latencies."""
        if ":" in name or not self.by_name[name].is_speed:
            return None
        return self.ratio(name, target, name, "null")

    def targets(self) -> list[str]:
        """Every target that has a figure, in the order in which they appeared."""
        return list(dict.fromkeys(target for figure in self.by_name.values() for target in figure.samples))

    def plain(self) -> dict[str, dict[str, object]]:
        """All of it, to be written as JSON."""
        return {
            name: {"part": figure.part, "unit": figure.unit, "samples": figure.samples}
            for name, figure in self.by_name.items()
        }
