"""Directories of many names: `ls`, which needs the names, and `ls -l`, which needs the attributes of each as well."""

import os
from pathlib import Path
from time import perf_counter

from benchmarks.context import Context
from benchmarks.stores import fill

_AT_LEAST = 2_000
"""A small directory is listed so often that this many names come together."""


def measure(context: Context) -> None:
    """List directories of each size on each target. What was made stays: removing it would take longer still."""
    for count in context.sizes.listings:
        directories = {}
        for target in context.targets:
            context.say(f"many: making {count:,} names, {target.name}")
            directories[target.name] = fill(target, f"many-{count}", count)
            target.settle()
        times = max(1, _AT_LEAST // count)
        for _, target in context.turns(f"many: {count:,} names", context.sizes.rounds):
            directory = directories[target.name]
            for name, function in (("ls", list_names), ("ls -l", list_attributes)):
                before = perf_counter()
                for _ in range(times):
                    if function(directory) != count:
                        raise RuntimeError(f"{directory} does not list {count} names")
                seconds = (perf_counter() - before) / times
                context.figures.add("many", f"{name} of {count:,}", target.name, seconds * 1e3, "ms")


def list_names(directory: Path) -> int:
    """What `ls` does. Returns how many names there are."""
    with os.scandir(directory) as entries:
        return sum(1 for _ in entries)


def list_attributes(directory: Path) -> int:
    """What `ls -l` does. Returns how many names there are."""
    count = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)
            count += 1
    return count
