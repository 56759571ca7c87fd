"""What a daemon takes of the machine while it works: memory, threads and descriptors, sampled."""

import os
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """At one moment."""

    memory: int
    """In bytes: what is resident."""
    threads: int
    descriptors: int


def usage(pid: int) -> Usage:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    memory = int(status["VmRSS"].split()[0]) * 1024
    return Usage(memory, int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd")))


class Samples:
    """Of one daemon."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.all: list[Usage] = [usage(pid)]

    def take(self) -> None:
        self.all.append(usage(self._pid))

    def summary(self) -> dict[str, dict[str, int]]:
        """First, most and last of each."""
        return {
            name: {"first": series[0], "most": max(series), "last": series[-1]}
            for name, series in zip(Usage._fields, zip(*self.all, strict=True), strict=True)
        }

    def growth(self) -> list[str]:
        """What was more in the last third of the time than in the second, by more than it may vary."""
        third = len(self.all) // 3
        before, after = self.all[third : 2 * third], self.all[2 * third :]
        if not before:
            return []
        allowed = Usage(memory=32 * 1024 * 1024, threads=20, descriptors=100)
        found = []
        for name, room in allowed._asdict().items():
            was, now = (max(getattr(sample, name) for sample in part) for part in (before, after))
            if now > was * 1.2 + room:
                found.append(f"{name} grew from {was} to {now}")
        return found
