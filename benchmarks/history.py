"""Runs that were recorded: one line each, and what has moved since the last one of a like machine.

Only ratios are kept. What a machine does in a second says nothing about the next machine.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures, Spread
from benchmarks.goals import Outcome

FILE = Path(__file__).parent / "history.jsonl"

Ratios = dict[str, Spread]


@dataclass(frozen=True, slots=True)
class Movement:
    """A ratio that changed by more than the samples of either run lie apart."""

    name: str
    before: Spread
    now: Spread


def ratios(figures: Figures, outcomes: list[Outcome]) -> Ratios:
    """What is kept of a run: the value of each goal, and each figure of the mounted store as a part of null's."""
    kept = {outcome.goal.what: outcome.value for outcome in outcomes if outcome.value is not None}
    for name in figures.by_name:
        ratio = figures.of_null(name, "fusefs")
        if ratio is not None:
            kept.setdefault(f"{name}, of null", ratio)
    return kept


def line(date: str, commit: str, mode: str, machine: str, kept: Ratios) -> str:
    """A run as a line of the file."""
    numbers = {name: [round(value, 4) for value in (s.median, s.low, s.high)] for name, s in kept.items()}
    return json.dumps({"date": date, "commit": commit, "machine": machine, "mode": mode, "ratios": numbers})


def last_like(path: Path, machine: str, mode: str) -> dict[str, Any] | None:
    """The last recorded run of a like machine that measured as much; None where there is none."""
    if not path.exists():
        return None
    runs = [json.loads(text) for text in path.read_text().splitlines() if text.strip()]
    like: list[dict[str, Any]] = [run for run in runs if (run["machine"], run["mode"]) == (machine, mode)]
    return like[-1] if like else None


def movements(before: dict[str, Any], now: Ratios) -> list[Movement]:
    """What moved since `before`, a recorded run, by more than it spreads: in this run or in that one."""
    moved = []
    for name, spread in now.items():
        if name not in before["ratios"]:
            continue
        old = Spread(*before["ratios"][name])
        if abs(spread.median - old.median) > max(spread.high - spread.low, old.high - old.low):
            moved.append(Movement(name, old, spread))
    return moved


def record(path: Path, text: str) -> None:
    """Add a run to the file."""
    with path.open("a") as file:
        file.write(text + "\n")
