"""The processes of a load: forked, watched while they work, and what they report in the end."""

import errno
import json
import mmap
import os
import signal
import struct
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.load.operations import Worker

_SLOT = struct.Struct("<dQ")
"""When the operation that a process is at began, and how many it has done."""


class Crowd:
    """Processes that work on a mount for a while."""

    def __init__(self, mount: Path, scratch: Path, processes: int, seed: int, *, faults: bool = False) -> None:
        """`faults`: operations may fail with EIO."""
        self._faults = faults
        self._mount = mount
        self._scratch = scratch
        self._seed = seed
        self._slots = mmap.mmap(-1, _SLOT.size * processes)  # shared with those who are forked
        self._pids: dict[int, int] = {}
        self.numbers = range(processes)
        self._until = 0.0

    def start(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        for number in self.numbers:
            pid = os.fork()
            if pid == 0:
                self._become(number)
            self._pids[pid] = number

    def _become(self, number: int) -> None:
        code = 1
        try:
            report = self._work(Worker(number, self._mount, self._seed), number)
            (self._scratch / f"report{number}").write_text(json.dumps(report))
            code = 0
        finally:
            os._exit(code)

    def _work(self, worker: Worker, number: int) -> dict[str, Any]:
        operations = worker.operations()
        names = list(operations)
        weights = [weight for _, weight in operations.values()]
        done, failed, worst, errors = 0, 0, (0.0, ""), []
        while (begun := time.monotonic()) < self._until and len(errors) < 5:
            name = worker.chance.choices(names, weights)[0]
            _SLOT.pack_into(self._slots, _SLOT.size * number, begun, done)
            try:
                operations[name][0]()
            except Exception as error:
                if self._faults and isinstance(error, OSError) and error.errno == errno.EIO:
                    failed += 1
                else:
                    errors.append(f"{name}: {traceback.format_exc()}")
            worst = max(worst, (time.monotonic() - begun, name))
            done += 1
        _SLOT.pack_into(self._slots, _SLOT.size * number, 0.0, done)
        appended = [[log, count] for log, count in worker.appended.items()]
        return {
            "done": done,
            "failed": failed,
            "worst": worst,
            "errors": errors,
            "appended": appended,
            "increments": worker.increments,
        }

    def hanging(self, seconds: float) -> list[int]:
        """Those who have been at one operation for longer than that."""
        now = time.monotonic()
        began = [_SLOT.unpack_from(self._slots, _SLOT.size * number)[0] for number in self.numbers]
        return [number for number, since in zip(self.numbers, began, strict=True) if since and now - since > seconds]

    def reap(self) -> bool:
        """Whether all have ended."""
        while self._pids:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return False
            self._pids.pop(pid, None)
        return True

    def kill(self) -> None:
        """End all of them, and wait for that."""
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids:
            os.waitpid(pid, 0)
        self._pids.clear()

    def reports(self) -> Sequence[dict[str, Any]]:
        found = []
        for number in self.numbers:
            path = self._scratch / f"report{number}"
            assert path.exists(), f"process {number} has ended without a report"
            found.append(json.loads(path.read_text()))
        return found


def total(reports: Sequence[dict[str, Any]]) -> tuple[Counter[tuple[str, int]], int]:
    """The lines that were acknowledged by log and writer, and how many edits were."""
    appended: Counter[tuple[str, int]] = Counter()
    for number, report in enumerate(reports):
        for log, count in report["appended"]:
            appended[log, number] += count
    return appended, sum(report["increments"] for report in reports)
