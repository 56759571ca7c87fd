"""The targets by name, and what each was found to stumble over."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

TARGETS = (
    "cli",
    "config",
    "journal",
    "operations",
    "proc",
    "urls",
    "volume_options",
    "volume_protocol",
    "volume_state",
    "xattrs",
)
CORPUS = Path(__file__).parent / "corpus"
"""A directory for each target, with the inputs that once were findings."""

Run = Callable[[bytes], None]


def target(name: str) -> ModuleType:
    """A module with `run`, which raises for what must not be; SEEDS, inputs to begin with; WORDS, parts of inputs."""
    return importlib.import_module(f"tests.fuzz.targets.{name}")


def corpus(name: str) -> list[Path]:
    """What is kept of a target's findings."""
    directory = CORPUS / name
    return sorted(directory.iterdir()) if directory.is_dir() else []
