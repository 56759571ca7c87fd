"""The daemon itself: how soon it answers, what it costs at rest, and how large its file becomes. And the command."""

import os
import random
import resource
import subprocess
import sys
from pathlib import Path
from time import perf_counter, sleep

from benchmarks import peers
from benchmarks.context import KIB, MIB, Context
from benchmarks.mounts import is_mounted
from benchmarks.operations import drop_pages, put, timed, write_large
from benchmarks.stores import GROWN, copy_of, key, open_at

FUSEFS = (sys.executable, "-m", "fusefs")
_CHURNED = (100, 4 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB)
"""Sizes of what is written and removed, most of it small, as in the caches of builds."""
_WEIGHTS = (40, 25, 15, 10, 8, 2)


def measure(context: Context) -> None:
    """All of it, each on a store of its own."""
    for count in (0, context.sizes.grown):
        _measure_start(context, count)
    _measure_command(context)
    _measure_idle(context)
    _measure_file(context)


def start_label(count: int) -> str:
    """The name of a figure: from starting `fusefs mount` to an answer."""
    return f"start, {count:,} objects"


def _measure_start(context: Context, count: int) -> None:
    store, mountpoint = context.scratch / f"start-{count}.db", context.scratch / f"start-{count}"
    mountpoint.mkdir()
    if count:
        copy_of(context, count, store)
    for number in range(context.sizes.rounds):
        context.say(f"daemon: start with {count:,} objects, round {number + 1}")
        before = perf_counter()
        try:
            # It returns when the mount answers.
            subprocess.run([*FUSEFS, "mount", "--store", store, mountpoint], check=True, start_new_session=True)
            os.listdir(mountpoint)
            context.figures.add("daemon", start_label(count), "fusefs", perf_counter() - before, "s")
        finally:
            if is_mounted(mountpoint):
                subprocess.run([*FUSEFS, "umount", mountpoint], check=True)


def _measure_command(context: Context) -> None:
    """The processor time of getting one object without a mount."""
    store = copy_of(context, 1_000, context.scratch / "command.db")
    command = [*FUSEFS, "pipeline", "object", "get", "--store", str(store), GROWN, key(1)]
    context.say("daemon: the command")
    for _ in range(context.sizes.rounds):
        before = _children_cpu()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        context.figures.add("daemon", "object get: CPU", "fusefs", _children_cpu() - before, "s")


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _measure_idle(context: Context) -> None:
    """A mount that nobody uses, some seconds after somebody did."""
    with peers.fusefs(context.scratch, "idle") as target:
        timed(put, [str(target.directory / f"key-{number}") for number in range(10)])
        context.say("daemon: at rest")
        sleep(context.sizes.calm_seconds)
        cpu, before = target.cpu_seconds(), perf_counter()
        sleep(context.sizes.idle_seconds)
        used = (target.cpu_seconds() - cpu) / (perf_counter() - before)
        context.figures.add("daemon", "idle CPU", "fusefs", used * 100, "%")
        context.figures.add("daemon", "idle memory", "fusefs", target.rss_mib(), "MiB")


def _measure_file(context: Context) -> None:
    """The size of the file after objects of all sizes came and went, as a multiple of what is alive."""
    chance = random.Random(1)
    context.say("daemon: churn")
    with peers.fusefs(context.scratch, "churn") as target:
        alive: dict[str, int] = {}
        for number in range(context.sizes.churn):
            size = chance.choices(_CHURNED, _WEIGHTS)[0]
            # Every third name is taken already, and every third object goes: a third of all stays.
            path = chance.choice(list(alive)) if alive and number % 3 == 0 else f"{target.directory}/key-{number}"
            write_large(path, size)
            alive[path] = size
            if number % 3 == 1:
                gone = chance.choice(list(alive))
                os.unlink(gone)
                del alive[gone]
        drop_pages(next(iter(alive)))
        target.settle()
        context.figures.add("daemon", "peak memory", "fusefs", target.peak_rss_mib(), "MiB")
    live = sum(alive.values())
    store = context.scratch / "churn.db"
    context.figures.add("daemon", "file size after churn", "fusefs", _file_bytes(store) / live, "x live")
    subprocess.run([*FUSEFS, "compact", "--store", store], check=True, stdout=subprocess.DEVNULL)
    context.figures.add("daemon", "file size after upkeep", "fusefs", _file_bytes(store) / live, "x live")


def _file_bytes(store: Path) -> int:
    with open_at(store, read_only=True):
        pass  # what a process that died had left is settled first
    # What they take of the disk: the data file has holes.
    return sum(path.stat().st_blocks * 512 for path in store.parent.glob(store.name + "*") if path.suffix != ".log")
