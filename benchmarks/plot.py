"""The ratios of a run at a glance: a picture with one row an operation and one mark a filesystem."""

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Figures
from benchmarks.goals import Goal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKS = {"fusefs": "o", "passthrough": "s", "rclone": "^", "gocryptfs": "v", "local": "x"}
_SHARE_OF_ROW = 0.32
"""Inches of height for an operation."""


def rows(figures: Figures) -> list[str]:
    """The operations of the picture: every speed that was measured on the null filesystem too."""
    return [name for name in figures.by_name if figures.of_null(name, "null") is not None]


def draw(figures: Figures, goals: list[Goal], path: Path, title: str) -> bool:
    """Write the picture to a PNG. Returns whether there was anything to draw."""
    names = rows(figures)
    if not names:
        return False
    import matplotlib

    matplotlib.use("Agg")  # no window: a file is all that is wanted
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(11, 1.6 + _SHARE_OF_ROW * len(names)), layout="constrained")
    positions = {name: len(names) - at for at, name in enumerate(names)}
    for target in [name for name in figures.targets() if name not in ("null", "local fsync")]:
        points = [
            (ratio.median, position)
            for name, position in positions.items()
            if (ratio := figures.of_null(name, target)) is not None
        ]
        if points:
            ours = target == "fusefs"
            axes.scatter(
                [x for x, _ in points],
                [y for _, y in points],
                s=70 if ours else 34,
                marker=_MARKS.get(target, "d"),
                zorder=3 if ours else 2,
                label=target,
            )
    _draw_goals(axes, goals, positions)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(list(positions.values()), list(positions))
    axes.grid(axis="both", alpha=0.3)
    axes.set_xlabel("slower   <   speed as a multiple of the null filesystem's (log scale)   >   faster")
    axes.set_title(title)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True


def _draw_goals(axes: "Axes", goals: list[Goal], positions: dict[str, int]) -> None:
    """A tick where a goal is, for those that are ratios to the same operation of the null filesystem."""
    marks = [
        (goal.bound, positions[goal.figure])
        for goal in goals
        if goal.figure in positions and goal.of == (goal.figure, "null")
    ]
    if marks:
        xs, ys = [x for x, _ in marks], [y for _, y in marks]
        axes.scatter(xs, ys, s=180, marker="|", color="black", linewidths=2, zorder=4, label="goal of fusefs")
