"""Runs one target, guided by coverage: `python -m tests.fuzz.worker TARGET RESULT LIBFUZZER...`.

Each finding of a new kind is saved to the target's corpus, and the search goes on. What hangs or takes too much memory
ends the process: libFuzzer saves that. RESULT is a file for the number of inputs, and a line for each finding.
"""

import functools
import hashlib
import logging
import sys
import traceback
from pathlib import Path
from unittest import mock

import atheris

with atheris.instrument_imports(include=["engine", "fusefs"]):
    import engine.registry
    from tests.fuzz import registry

    module = registry.target(sys.argv[1])

EVERY = 100


class Worker:
    """Calls the target, and counts."""

    def __init__(self, name: str, run: registry.Run, result: Path) -> None:
        self._name = name
        self._run = run
        self._result = result
        self._inputs = 0
        self._found: dict[str, str] = {}

    def one(self, data: bytes) -> None:
        """Run one input."""
        self._inputs += 1
        if self._inputs % EVERY == 0:
            self.tell()
        try:
            self._run(data)
        except Exception as error:
            kind = kind_of(error)
            if kind not in self._found:
                self._found[kind] = save(self._name, data)
                traceback.print_exc()
                self.tell()

    def tell(self) -> None:
        """Write down how far it is: the process may end at any moment."""
        lines = [str(self._inputs), *(f"{path}: {kind}" for kind, path in self._found.items())]
        self._result.write_text("\n".join(lines))


def kind_of(error: BaseException) -> str:
    """What tells one finding from another: the error, and the last line of ours where it was raised."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    error = error.__cause__ or error
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
    return f"{type(error).__name__} at {where}"


def save(name: str, data: bytes) -> str:
    """Keep an input for the tests; returns its path."""
    path = registry.CORPUS / name / hashlib.sha256(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def main() -> None:
    logging.lastResort = None  # what is logged is looked at by the targets
    # What is installed stays as it is: 30 ms for each name that is no engine's.
    mock.patch.object(engine.registry, "_entry_points", functools.cache(engine.registry._entry_points)).start()
    name, result, *options = sys.argv[1:]
    worker = Worker(name, module.run, Path(result))
    for data in (*module.SEEDS, *(path.read_bytes() for path in registry.corpus(name))):
        worker.one(data)
    atheris.Setup([sys.argv[0], *options], worker.one, enable_python_coverage=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
