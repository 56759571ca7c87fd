"""Recorded runs of the benchmark, and what has moved since."""

from pathlib import Path
from typing import Any

from benchmarks import history
from benchmarks.figures import Figures, Spread
from benchmarks.goals import Goal, evaluate


def recorded(path: Path, ratios: history.Ratios, machine: str = "m", mode: str = "quick") -> dict[str, Any]:
    history.record(path, history.line("2026-01-02", "abc", mode, machine, ratios))
    found = history.last_like(path, machine, mode)
    assert found is not None
    return found


def test_a_ratio_moves_when_it_changes_by_more_than_its_spread(tmp_path: Path) -> None:
    before = recorded(tmp_path / "history", {"put": Spread(0.50, 0.45, 0.55), "get": Spread(1.0, 0.9, 1.1)})
    now = {"put": Spread(0.70, 0.68, 0.72), "get": Spread(1.1, 1.0, 1.2), "new": Spread(1, 1, 1)}
    assert [movement.name for movement in history.movements(before, now)] == ["put"]


def test_the_wider_of_the_two_spreads_counts(tmp_path: Path) -> None:
    before = recorded(tmp_path / "history", {"put": Spread(0.50, 0.50, 0.50)})
    assert history.movements(before, {"put": Spread(0.70, 0.5, 0.9)}) == []
    assert len(history.movements(before, {"put": Spread(0.70, 0.65, 0.75)})) == 1


def test_only_the_last_run_of_a_like_machine_and_size_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "history"
    recorded(path, {"put": Spread(0.1, 0.1, 0.1)})
    recorded(path, {"put": Spread(0.2, 0.2, 0.2)})
    recorded(path, {"put": Spread(0.3, 0.3, 0.3)}, machine="other")
    recorded(path, {"put": Spread(0.4, 0.4, 0.4)}, mode="full")
    found = history.last_like(path, "m", "quick")
    assert found is not None
    assert found["ratios"]["put"] == [0.2, 0.2, 0.2]


def test_without_a_recorded_run_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert history.last_like(tmp_path / "none", "m", "quick") is None


def test_goals_and_ratios_to_the_null_filesystem_are_kept() -> None:
    figures = Figures()
    for target, value in (("null", 100), ("fusefs", 40), ("rclone", 10)):
        figures.add("small", "put", target, value, "/s")
    outcomes = evaluate([Goal("put of rclone", "put", 4.0, ("put", "rclone"))], figures)
    assert history.ratios(figures, outcomes) == {"put of rclone": Spread(4, 4, 4), "put, of null": Spread.of([0.4])}
