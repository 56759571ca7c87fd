"""Runs the command: in a process of its own, or quicker in this one."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fusefs.cli import main

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How the command ended."""

    code: int
    out: bytes
    err: str

    def ok(self) -> bytes:
        """Return its output. It must have succeeded without a word on stderr."""
        assert (self.code, self.err) == (0, "")
        return self.out


Fusefs = Callable[..., Ended]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with a store of its own, also for this process."""
    for name in list(os.environ):
        if name.startswith("FUSEFS_"):
            monkeypatch.delenv(name)
    (tmp_path / "empty.toml").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FUSEFS_CONFIG", str(tmp_path / "empty.toml"))
    monkeypatch.setenv("FUSEFS_STORE", str(tmp_path / "objects.db"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("COLUMNS", raising=False)
    return dict(os.environ)


@pytest.fixture
def fusefs(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Fusefs:
    """Runs `fusefs ARGUMENTS` in this process."""

    def run(*arguments: str, stdin: bytes = b"") -> Ended:
        capfdbinary.readouterr()
        monkeypatch.setattr(sys, "argv", ["fusefs", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(_File(stdin)))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfdbinary.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else -1, out, err.decode())

    return run


class _File(io.BytesIO):
    """Standard input from memory, which has a descriptor as any other."""

    def fileno(self) -> int:
        return self._null.fileno()

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._null = open(os.devnull)

    def close(self) -> None:
        self._null.close()
        super().close()


@pytest.fixture
def process(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs `python -m fusefs ARGUMENTS` in a process of its own."""

    def run(*arguments: str | bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "fusefs", *arguments]
        return subprocess.run(
            command, **{"env": environment, "capture_output": True, "timeout": 120, "check": False, **options}
        )

    return run
