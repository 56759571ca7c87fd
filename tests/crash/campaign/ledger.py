"""The ledger of a worker: what it is about to do, written before, and what it was told, written after.

A file outside of everything that is killed or cut, a JSON array a line. `Ledger` is the worker's end of it, `Reader`
that of the campaign.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.campaign.edited import Edited
from tests.crash.campaign.values import Record, Value


@dataclass(slots=True)
class Step:
    """Something a worker does to the mount, which happens as a whole or not at all."""

    number: int
    what: str
    path: str
    """Below the mountpoint, as all paths here."""
    changes: Mapping[str, Value | None] = field(default_factory=dict)
    """What keys stand for afterwards."""
    edited: Edited | None = None
    """The same for the worker's own full pipeline, where the step changes that."""
    began: float = 0.0
    """By the clock that all processes share, before the first system call."""
    ended: float = math.inf
    """When it was acknowledged; never for one that was not."""
    synced: bool = False
    """Whether fsync() acknowledged it."""
    refused: int = 0
    """The errno with which it was refused, so that it did not happen."""

    def acknowledged_by(self, moment: float) -> bool:
        """Whether it was acknowledged before that."""
        return self.ended < moment and not self.refused

    def __str__(self) -> str:
        told = "fsync" if self.synced else "close" if self.acknowledged_by(math.inf) else "nobody"
        return f"step {self.number}, {self.what} {self.path}, acknowledged by {told} at {self.ended:.4f}"


class Ledger:
    """Written by one worker."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _note(self, *entry: object) -> None:
        os.write(self._fd, json.dumps(entry).encode() + b"\n")

    def begin(self, step: Step) -> None:
        edited = None if step.edited is None else [step.edited.objects, step.edited.aside]
        self._note("begin", step.number, time.monotonic(), step.what, step.path, step.changes, edited)

    def acknowledged(self, number: int, *, synced: bool = False) -> None:
        """A call has returned, with which the step is acknowledged; again where another does it better."""
        self._note("done", number, time.monotonic(), synced)

    def refused(self, number: int, errno: int) -> None:
        self._note("refused", number, time.monotonic(), errno)

    def died(self, errno: int) -> None:
        """The mount or its disk is gone."""
        self._note("died", errno, time.monotonic())


@dataclass(slots=True)
class Round:
    """What a worker did between two strikes."""

    steps: list[Step] = field(default_factory=list)
    acknowledgements: int = 0
    died: int = 0
    """The errno that told it of the strike."""
    died_at: float = 0.0


class Reader:
    """Reads what a ledger holds since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._unread = b""
        self._waiting = 0

    def waiting(self) -> int:
        """How many acknowledgements `read` would find by now."""
        self._waiting += self._look().count(b'["done"')
        return self._waiting

    def read(self) -> Round:
        """Everything since the last time."""
        self._look()
        found = Round()
        for line in self._unread.splitlines():
            self._take(found, *json.loads(line))
        self._unread, self._waiting = b"", 0
        return found

    def _look(self) -> bytes:
        if not self._path.exists():
            return b""  # the worker has not begun
        with self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        self._offset += len(new)
        self._unread += new
        return new

    @staticmethod
    def _take(found: Round, what: str, *rest: Any) -> None:
        if what == "begin":
            found.steps.append(_step(*rest))
        elif what == "died":
            found.died, found.died_at = rest
        else:
            number, ended, how = rest
            step = found.steps[-1]
            assert step.number == number, "a worker does one step after the other"
            step.ended = min(step.ended, ended)
            if what == "done":
                step.synced = step.synced or how
                found.acknowledgements += 1
            else:
                step.refused = how


def _step(number: int, began: float, what: str, path: str, changes: dict[str, Any], edited: Any) -> Step:
    return Step(
        number,
        what,
        path,
        {name: None if value is None else value_of(value) for name, value in changes.items()},
        None if edited is None else edited_of(edited),
        began,
    )


def value_of(listed: list[list[int]]) -> Value:
    """A value as JSON has it."""
    return tuple(Record(*record) for record in listed)


def edited_of(listed: list[Any]) -> Edited:
    """The same of a worker's own full pipeline."""
    objects, aside = listed
    return Edited(
        tuple((name, value_of(value)) for name, value in objects),
        None if aside is None else (aside[0], value_of(aside[1])),
    )
