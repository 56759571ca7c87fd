"""What is in the mount now, read through it."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.campaign import layout
from tests.crash.campaign.values import Torn, Value, decode

Found = Value | Torn


@dataclass(slots=True)
class Observed:
    """Everything that the load can have made."""

    own: list[dict[str, Found]] = field(default_factory=list)
    """By worker, what is in its directory and its runs, by path."""
    edited: list[list[tuple[str, Found]]] = field(default_factory=list)
    """By worker, what is in its full pipeline, in the order of eviction."""
    limited: list[tuple[str, Found]] = field(default_factory=list)
    """The same of the full pipeline of all."""
    logs: dict[str, Found] = field(default_factory=dict)
    """What all of them append to, by path."""
    runs: list[str] = field(default_factory=list)
    """In the order of their starts."""
    missing: list[str] = field(default_factory=list)
    """Directories that were there before the load."""

    def torn(self) -> list[tuple[str, Torn]]:
        """What is no value, by path."""
        places: list[tuple[str, Found]] = [item for own in self.own for item in own.items()]
        for worker, objects in enumerate(self.edited):
            places += [(f"{layout.edited_pipeline(worker)}/{name}", value) for name, value in objects]
        places += [(f"{layout.LIMITED}/{name}", value) for name, value in self.limited]
        places += self.logs.items()
        return [(path, value) for path, value in places if isinstance(value, Torn)]


def look(mount: Path, workers: int) -> Observed:
    """Read all of it. Nobody writes meanwhile."""
    seen = Observed(missing=[path for path in layout.directories(workers) if not (mount / path).is_dir()])
    seen.runs = _in_order(mount, layout.RUNS)
    for worker in range(workers):
        own = _values(mount, layout.own_directory(worker))
        for run in seen.runs:
            if layout.worker_of_run(run) == worker:
                own |= _values(mount, f"{layout.RUNS}/{run}")
        seen.own.append(own)
        seen.edited.append(_ordered_values(mount, layout.edited_pipeline(worker)))
    seen.limited = _ordered_values(mount, layout.LIMITED)
    seen.logs = {path: () for path in layout.LOGS} | _values(mount, layout.SHARED)
    return seen


def _values(mount: Path, directory: str) -> dict[str, Found]:
    return {f"{directory}/{name}": _value(mount, f"{directory}/{name}") for name in _names(mount, directory)}


def _ordered_values(mount: Path, directory: str) -> list[tuple[str, Found]]:
    return [(name, _value(mount, f"{directory}/{name}")) for name in _in_order(mount, directory)]


def _in_order(mount: Path, directory: str) -> list[str]:
    """Names in the order of the Puts or starts that made them."""
    return sorted(_names(mount, directory), key=lambda name: int(os.getxattr(mount / directory / name, "fusefs.order")))


def _names(mount: Path, directory: str) -> list[str]:
    path = mount / directory
    return os.listdir(path) if path.exists() else []


def _value(mount: Path, path: str) -> Found:
    try:
        return decode((mount / path).read_bytes())
    except OSError as error:
        return Torn(f"it cannot be read: {error}")
