"""Percentiles, spreads and ratios of the benchmark."""

import pytest

from benchmarks.figures import Figures, Spread, percentile


def test_a_percentile_is_one_of_the_values() -> None:
    values = list(range(1, 101))
    assert [percentile(values, percent) for percent in (0, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    assert percentile([7.0], 99) == 7.0
    assert percentile([3, 1, 2], 50) == 2


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


def test_a_spread_is_the_median_and_the_range() -> None:
    assert Spread.of([5, 1, 3, 100]) == Spread(4, 1, 100)


def test_ratios_are_formed_within_a_round() -> None:
    figures = Figures()
    # The machine was twice as slow in the second round, which changes no ratio.
    for null, ours in ((100, 50), (50, 25), (90, 45)):
        figures.add("small", "put", "null", null, "/s")
        figures.add("small", "put", "fusefs", ours, "/s")
    assert figures.ratio("put", "fusefs", "put", "null") == Spread(0.5, 0.5, 0.5)


def test_more_is_better_in_every_ratio() -> None:
    figures = Figures()
    figures.add("many", "ls", "null", 10, "ms")
    figures.add("many", "ls", "fusefs", 40, "ms")
    assert figures.ratio("ls", "fusefs", "ls", "null") == Spread.of([0.25])


def test_with_unequal_rounds_the_medians_are_compared() -> None:
    figures = Figures()
    for value in (10, 30, 20):
        figures.add("large", "write", "local", value, "MB/s")
    figures.add("large", "write", "fusefs", 10, "MB/s")
    assert figures.ratio("write", "fusefs", "write", "local") == Spread.of([0.5])


def test_what_was_not_measured_has_no_ratio() -> None:
    figures = Figures()
    figures.add("small", "put", "fusefs", 1, "/s")
    assert figures.ratio("put", "fusefs", "put", "null") is None
    assert figures.of("get", "fusefs") is None


def test_only_speeds_are_compared_with_the_null_filesystem() -> None:
    figures = Figures()
    for target in ("null", "fusefs"):
        figures.add("daemon", "peak memory", target, 30, "MiB")
        figures.add_latencies("small", "put", target, [0.001])
        figures.add("small", "put", target, 1000, "/s")
    assert [name for name in figures.by_name if figures.of_null(name, "fusefs") is not None] == ["put"]


def test_latencies_are_kept_as_percentiles_and_the_worst() -> None:
    figures = Figures()
    figures.add_latencies("small", "put", "fusefs", [0.001, 0.002, 0.5])
    assert figures.samples("put: p50", "fusefs") == [2000]
    assert figures.samples("put: worst", "fusefs") == [500]
