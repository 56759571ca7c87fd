"""Measures a mounted store and the engine beside their peers, all in one run on one machine.

Rounds of all targets alternate, because the same figure swings threefold on a machine that is busy: only ratios within
a run travel. Stores lie on a disk, never on tmpfs.
"""

import argparse
import datetime
import json
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from types import FrameType

from rich.console import Console
from rich.status import Status

from benchmarks import counted, daemon, engines, growth, history, large, limits, machine, many, plot, small
from benchmarks.context import DEFAULT, FULL, QUICK, Context, Sizes
from benchmarks.figures import Figures
from benchmarks.goals import all_goals, evaluate
from benchmarks.peers import PEERS, MissingError
from benchmarks.report import WIDTH, print_report
from benchmarks.workers import Workers

PARTS: dict[str, Callable[[Context], None]] = {
    "small": small.measure_one,
    "processes": small.measure_many,
    "large": large.measure,
    "many": many.measure,
    "limits": limits.measure,
    "engine": engines.measure,
    "counted": counted.measure,
    "daemon": daemon.measure,
    "growth": growth.measure,
}
"""In the order in which they run: what fills the mounts comes last of those that use them."""
_ON_MOUNTS = {"small", "processes", "large", "many", "limits"}
RESULTS = Path(__file__).parent / "results"


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench", description=(__doc__ or "").partition("\n")[0])
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--quick", action="store_true", help="less of everything: under two minutes")
    much.add_argument("--full", action="store_true", help="4 GiB, and a million objects: an hour")
    parser.add_argument("--only", nargs="+", metavar="PART", choices=PARTS, help=f"of {', '.join(PARTS)}")
    parser.add_argument("--peers", metavar="NAME,...", default=",".join(PEERS), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, help="how often to measure each (5; 3 with --quick, 7 with --full)")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where stores lie (/var/tmp)")
    parser.add_argument("--output", type=Path, metavar="DIR", default=RESULTS, help="where the plot is written")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    parser.add_argument("--history", type=Path, metavar="FILE", default=history.FILE, help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help="add the ratios to benchmarks/history.jsonl")
    arguments = parser.parse_args(argv)
    arguments.peers = arguments.peers.split(",")
    if unknown := set(arguments.peers) - PEERS.keys():
        parser.error(f"--peers: nobody knows {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    if machine.filesystem_type(arguments.directory) in ("tmpfs", "ramfs"):
        parser.error(f"--directory: {arguments.directory} is in memory; a store is measured on a disk")
    return arguments


def chosen_sizes(arguments: argparse.Namespace) -> Sizes:
    """How much to measure."""
    sizes = QUICK if arguments.quick else FULL if arguments.full else DEFAULT
    if arguments.rounds is not None:
        sizes = replace(sizes, rounds=arguments.rounds, large_rounds=arguments.rounds)
    return sizes


def measure(
    sizes: Sizes, parts: list[str], peers: list[str], directory: Path, console: Console
) -> tuple[Figures, list[str]]:
    """Mount what is needed, measure, and leave nothing behind, however it ends. Returns also which parts failed."""
    failed = []
    with (
        console.status("starting") as status,
        tempfile.TemporaryDirectory(prefix="fusefs-bench-", dir=directory.resolve()) as scratch,
        ExitStack() as mounts,
    ):
        targets = []
        for name in peers if _ON_MOUNTS.intersection(parts) else []:
            try:
                targets.append(mounts.enter_context(PEERS[name](Path(scratch))))
            except MissingError as error:
                console.print(f"{name} is left out: {error}")
        # Last, so that it ends first: it may have something open on a mount.
        worker = mounts.enter_context(Workers(1))
        context = Context(sizes, Path(scratch), Figures(), _teller(status), worker, targets)
        for part in parts:
            start = monotonic()
            try:
                PARTS[part](context)
            except Exception:
                # What the others find out in a quarter of an hour is not to be lost.
                failed.append(part)
                console.print(f"{part}: failed\n{traceback.format_exc()}", markup=False, highlight=False)
            else:
                console.print(f"{part}: measured in {monotonic() - start:.0f} s")
        for target in context.targets:
            if target.lives:
                context.figures.add("daemon", "peak memory", target.name, target.peak_rss_mib(), "MiB")
        status.update("taking away")
    return context.figures, failed


def _teller(status: Status) -> Callable[[str], None]:
    return lambda text: status.update(text)


@contextmanager
def _ended_once() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, and let nothing interrupt that: everything is to be unmounted."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def leave(number: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in before:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    # Tables that are cut off say nothing: on a narrower terminal the lines go on below.
    console = Console(width=max(Console().width, WIDTH))
    sizes = chosen_sizes(arguments)
    parts = [part for part in PARTS if arguments.only is None or part in arguments.only]
    described = machine.describe(arguments.directory)
    peers = [name for name in PEERS if name in arguments.peers]
    with _ended_once():
        figures, failed = measure(sizes, parts, peers, arguments.directory, console)
    report(arguments, sizes, figures, described, console)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def report(
    arguments: argparse.Namespace, sizes: Sizes, figures: Figures, described: dict[str, str], console: Console
) -> None:
    """Print everything and write the files that were asked for."""
    goals = all_goals(sizes)
    outcomes = evaluate(goals, figures)
    kept = history.ratios(figures, outcomes)
    like = machine.digest(described)
    before = history.last_like(arguments.history, like, sizes.mode)
    print_report(console, figures, outcomes, None if before is None else history.movements(before, kept))
    if before is None:
        console.print(f"no {sizes.mode} run of a machine like this ({like}) is recorded")
    console.print(", ".join(f"{name} {value}" for name, value in described.items()), highlight=False)
    commit, now = machine.commit(), datetime.datetime.now(datetime.UTC)
    picture = arguments.output / f"{sizes.mode}.png"
    if plot.draw(figures, goals, picture, f"fusefs and its peers: {described['processor']}, {now:%Y-%m-%d}, {commit}"):
        console.print(f"plot: {picture}")
    if arguments.json is not None:
        written = {"machine": described, "mode": sizes.mode, "commit": commit, "figures": figures.plain()}
        written["goals"] = {o.goal.what: {"value": o.counted, "reached": o.reached} for o in outcomes}
        arguments.json.write_text(json.dumps(written, indent=2) + "\n")
    if arguments.record:
        history.record(arguments.history, history.line(f"{now:%Y-%m-%d}", commit, sizes.mode, like, kept))
