"""Figures, goals and movements as tables."""

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, Figures, Spread
from benchmarks.goals import Outcome
from benchmarks.history import Movement

WIDTH = 180
"""Wide enough for the columns of all targets."""
_PERCENTILES = (50, 95, 99)


def print_report(console: Console, figures: Figures, outcomes: list[Outcome], movements: list[Movement] | None) -> None:
    """Everything that was measured. `movements`: None where there is no run to compare with."""
    parts = list(dict.fromkeys(figure.part for figure in figures.by_name.values()))
    for part in parts:
        console.print(_table(figures, part))
        latencies = _latencies(figures, part)
        if latencies.row_count:
            console.print(latencies)
    console.print(_goals(outcomes))
    if movements is not None:
        console.print(_movements(movements))


def _targets(figures: Figures, part: str) -> list[str]:
    order = {name: at for at, name in enumerate(figures.targets())}
    found = {name for figure in figures.by_name.values() if figure.part == part for name in figure.samples}
    return sorted(found, key=order.__getitem__)


def _table(figures: Figures, part: str) -> Table:
    """One row a figure: its median on each target, and how far the samples lie from it at most."""
    targets = _targets(figures, part)
    table = Table(title=f"{part}: median ± half of the range")
    table.add_column("", no_wrap=True)
    for name in targets:
        table.add_column(name, justify="right", no_wrap=True)
    with_null = "null" in targets and "fusefs" in targets
    if with_null:
        table.add_column("fusefs of null", justify="right")
    for name, figure in figures.by_name.items():
        if figure.part != part or _is_latency(name):
            continue
        cells = [_cell(figure, target) for target in targets]
        if with_null:
            ratio = figures.of_null(name, "fusefs")
            cells.append("" if ratio is None else f"{ratio.median:.2f}")
        table.add_row(f"{name} {figure.unit}".strip(), *cells)
    return table


def _is_latency(name: str) -> bool:
    return name.rpartition(": ")[2] in ("p50", "p95", "p99", "worst")


def _cell(figure: Figure, target: str) -> str:
    samples = figure.samples.get(target)
    if not samples:
        return ""
    spread = Spread.of(samples)
    if len(samples) == 1 or not spread.median:
        return number(spread.median)
    return f"{number(spread.median)} ±{(spread.high - spread.low) / 2 / spread.median:.0%}"


def _latencies(figures: Figures, part: str) -> Table:
    """One row a kind of request: percentiles and the worst, on each target."""
    targets = _targets(figures, part)
    table = Table(title=f"{part}: single requests, p50, p95, p99 and the worst of all, in ms")
    table.add_column("", no_wrap=True)
    for name in targets:
        table.add_column(name, justify="right", no_wrap=True)
    for name, figure in figures.by_name.items():
        if figure.part == part and name.endswith(": p50"):
            what = name.removesuffix(": p50")
            table.add_row(what, *(_latency_cell(figures, what, target) for target in targets))
    return table


def _latency_cell(figures: Figures, what: str, target: str) -> str:
    spreads = [figures.of(f"{what}: p{percent}", target) for percent in _PERCENTILES]
    worst = figures.of(f"{what}: worst", target)
    if worst is None:
        return ""
    milliseconds = [*(spread.median / 1e3 for spread in spreads if spread is not None), worst.high]
    return " ".join(f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in milliseconds)


def _goals(outcomes: list[Outcome]) -> Table:
    table = Table("goal", "bound", "measured", "(min - max)", "", title="goals")
    for outcome in outcomes:
        goal, value, counted = outcome.goal, outcome.value, outcome.counted
        bound = f"{'<=' if goal.at_most else '>='} {number(goal.bound)}"
        if value is None or counted is None:
            table.add_row(goal.what, bound, "", "", "[dim]not measured[/dim]")
            continue
        verdict = "[green]reached[/green]" if outcome.reached else "[red]missed[/red]"
        if goal.stretch:
            verdict += " (a stretch)"
        table.add_row(goal.what, bound, number(counted), f"({number(value.low)} - {number(value.high)})", verdict)
    return table


def _movements(movements: list[Movement]) -> Table:
    table = Table("ratio", "before", "now", title="moved by more than its spread since the last recorded run like this")
    for moved in movements:
        table.add_row(moved.name, number(moved.before.median), number(moved.now.median))
    if not movements:
        table.add_row("nothing", "", "")
    return table


def number(value: float) -> str:
    """A number with as many digits as say something."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
