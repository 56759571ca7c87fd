"""The directory in which targets keep what they need as files; it goes when the process ends."""

import functools
import os
import shutil
import tempfile
from pathlib import Path


@functools.cache
def directory() -> str:
    """Made when it is first needed."""
    made = tempfile.TemporaryDirectory(prefix="fusefs-fuzz-")
    _kept.append(made)
    return os.path.realpath(made.name)


_kept: list["tempfile.TemporaryDirectory[str]"] = []


def empty(name: str) -> Path:
    """A directory in it with nothing in it."""
    path = Path(directory(), name)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path
