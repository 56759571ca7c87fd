"""Large objects: written, read with nothing of them in the mount's page cache, and read again."""

import os
import shutil
from functools import partial

from benchmarks.context import MIB, Context, size_name
from benchmarks.mounts import Target
from benchmarks.operations import drop_pages, read_large, write_large

_FEW_ROUNDS_FROM = 64 * MIB
SYNCED = "local fsync"
"""The plain directory, with fsync() before close()."""


def measure(context: Context) -> None:
    """Every size, the small ones as often as the rest of the benchmark."""
    for size, count in context.sizes.large:
        rounds = context.sizes.large_rounds if size >= _FEW_ROUNDS_FROM else context.sizes.rounds
        for number, target in context.turns(f"large: {size_name(size)}", rounds):
            if not _has_room(target, 2 * size * count):
                continue
            # What other targets have left to be written would be written in this one's time.
            os.sync()
            paths = [f"{target.directory}/large-{size}-{number}-{at}" for at in range(count)]
            _measure(context, target, size, paths)
            for path in paths:
                os.unlink(path)


def _has_room(target: Target, size: int) -> bool:
    """Whether what is behind a mount can take that much: tmpfs may be small, and is left out then."""
    return target.backing is None or shutil.disk_usage(target.backing).free > size


def _measure(context: Context, target: Target, size: int, paths: list[str]) -> None:
    megabytes = size * len(paths) / 1e6
    name = size_name(size)

    def add(what: str, target_name: str, seconds: list[float]) -> None:
        context.figures.add("large", f"{what} {name}", target_name, megabytes / sum(seconds), "MB/s")

    if target.name == "local":
        add("write", SYNCED, context.do(partial(write_large, size=size, sync=True), paths))
        for path in paths:
            os.unlink(path)
    add("write", target.name, context.do(partial(write_large, size=size), paths))
    target.settle()
    for path in paths:
        drop_pages(path)
    add("read cold", target.name, context.do(partial(read_large, size=size), paths))
    add("read hot", target.name, context.do(partial(read_large, size=size), paths))
