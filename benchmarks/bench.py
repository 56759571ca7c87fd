"""Measures a mounted store next to the null filesystem, in the same run.

The rounds of the two alternate, because the same figure swings threefold on a machine that is busy: only the ratios
travel. Both run in this machine's Python, and the store lies on a disk, never on tmpfs.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyfuse3
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.mounts import Target, fusefs, null_filesystem
from benchmarks.workload import measure_large, measure_small

UNITS = {
    "puts": "/s",
    "overwrites": "/s",
    "first gets": "/s",
    "gets": "/s",
    "stats": "/s",
    "write": "MiB/s",
    "read": "MiB/s",
}

Figures = dict[str, dict[str, list[float]]]
"""By operation, then by target: one figure a round."""


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds: fewer rounds, smaller ones, 64 MiB")
    parser.add_argument("--rounds", type=int, help="how often to measure each (5; 3 with --quick)")
    parser.add_argument("--count", type=int, help="small objects a round (3000; 500 with --quick)")
    parser.add_argument("--large", type=int, metavar="MIB", help="size of the large object (1024; 64 with --quick)")
    parser.add_argument("--big", action="store_true", help="also write and read 4 GiB and tell the daemon's memory")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where the store lies (/var/tmp)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    arguments = parser.parse_args(argv)
    defaults = (3, 500, 64) if arguments.quick else (5, 3000, 1024)
    for name, value in zip(("rounds", "count", "large"), defaults, strict=True):
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
        elif getattr(arguments, name) < 1:
            parser.error(f"--{name}: at least 1")
    if filesystem_type(arguments.directory) in ("tmpfs", "ramfs"):
        parser.error(f"--directory: {arguments.directory} is in memory; a store is measured on a disk")
    return arguments


def filesystem_type(directory: Path) -> str:
    """Return the type of the filesystem that `directory` is on."""
    resolved = directory.resolve()
    best, found = -1, "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mountpoint, kind, *_ = line.split()
        if resolved.is_relative_to(mountpoint) and len(mountpoint) >= best:
            best, found = len(mountpoint), kind
    return found


def measure(targets: list[Target], arguments: argparse.Namespace, console: Console) -> Figures:
    """Run all rounds, the targets taking turns at being first."""
    figures: Figures = {operation: {target.name: [] for target in targets} for operation in UNITS}
    for number in track(range(arguments.rounds), description="rounds", console=console, transient=True):
        for target in targets if number % 2 == 0 else reversed(targets):
            small = measure_small(target.directory, number, arguments.count)
            large = measure_large(target.directory, number, arguments.large)
            for operation, figure in {**small, **large}.items():
                figures[operation][target.name].append(figure)
    return figures


def measure_memory(target: Target) -> dict[str, int]:
    """Write and read 4 GiB, and return the daemon's peak before and after, in MiB."""
    before = target.peak_rss_mib()
    measure_large(target.directory, 0, 4096)
    return {"before": before, "after": target.peak_rss_mib()}


def ratios(figures: Figures, name: str) -> dict[str, float]:
    """Return each operation's median as a part of the null filesystem's."""
    return {
        operation: statistics.median(by_target[name]) / statistics.median(by_target["null"])
        for operation, by_target in figures.items()
    }


def render(figures: Figures, names: list[str], arguments: argparse.Namespace) -> Table:
    """Return the figures as a table: median, and in brackets the smallest and the largest."""
    title = f"median (min - max) of {arguments.rounds} rounds of {arguments.count} objects and {arguments.large} MiB"
    table = Table(title=title)
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("of null", justify="right")
    part = ratios(figures, names[-1])
    for operation, by_target in figures.items():
        cells = [
            f"{statistics.median(values):,.0f} ({min(values):,.0f} - {max(values):,.0f})"
            for values in (by_target[name] for name in names)
        ]
        table.add_row(f"{operation} {UNITS[operation]}", *cells, f"{part[operation]:.0%}")
    return table


def machine(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on beside the code."""
    return {
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "pyfuse3": getattr(pyfuse3, "__version__", "unknown"),
        "filesystem": filesystem_type(arguments.directory),
    }


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    console = Console()
    memory: dict[str, int] | None = None
    with tempfile.TemporaryDirectory(prefix="fusefs-bench-", dir=arguments.directory) as name, ExitStack() as mounts:
        targets = [mounts.enter_context(mount(Path(name))) for mount in (null_filesystem, fusefs)]
        figures = measure(targets, arguments, console)
        if arguments.big:
            memory = measure_memory(targets[-1])
    names = [target.name for target in targets]
    console.print(render(figures, names, arguments))
    if memory is not None:
        console.print(f"peak memory of the daemon: {memory['after']} MiB after 4 GiB, {memory['before']} MiB before")
    if arguments.json is not None:
        report = {
            "machine": machine(arguments),
            "rounds": arguments.rounds,
            "count": arguments.count,
            "large_mib": arguments.large,
            "figures": figures,
            "of_null": ratios(figures, names[-1]),
            "peak_rss_mib": memory,
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
