"""Other processes for tests: a shell, and a Python process that does what it is told, step by step."""

import os
import pickle
import select
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

SECONDS = 60.0
"""How long a step of another process may take, unless told otherwise."""

_LOOP = """
import ctypes, errno, fcntl, io, mmap, os, pathlib, pickle, signal, stat, struct, subprocess, sys, time
orders, answers = os.fdopen(int(sys.argv[1]), "rb"), os.fdopen(int(sys.argv[2]), "wb")
while True:
    try:
        code, names = pickle.load(orders)
    except EOFError:
        break
    globals().update(names)
    try:
        try:
            program = compile(code, "<told>", "eval")
        except SyntaxError:
            program = compile(code, "<told>", "exec")
        result = eval(program)
        result = (True, tuple(result) if isinstance(result, os.stat_result) else result)
    except BaseException as error:
        result = (False, error)
    message = pickle.dumps(result)
    answers.write(struct.pack("<Q", len(message)) + message)
    answers.flush()
"""


def sh(script: str, directory: Path | str, *, seconds: float = SECONDS, **variables: object) -> str:
    """Run a shell script that has to succeed, with `directory` as its working directory, and return its output."""
    done = run_sh(script, directory, seconds=seconds, **variables)
    assert done.returncode == 0, f"{script!r} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def run_sh(
    script: str, directory: Path | str, *, seconds: float = SECONDS, **variables: object
) -> subprocess.CompletedProcess[str]:
    """Run a shell script and return how it ended."""
    environment = {**os.environ, "LC_ALL": "C", **{name: str(value) for name, value in variables.items()}}
    return subprocess.run(
        ["bash", "-c", script],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=seconds,
        check=False,
    )


def start_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python process; `end` waits for it."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(processes: Sequence[subprocess.Popen[str]], seconds: float = SECONDS) -> list[str]:
    """Wait until all have succeeded, and return their outputs."""
    outputs = []
    try:
        for process in processes:
            output, trouble = process.communicate(timeout=seconds)
            assert process.returncode == 0, f"ended with {process.returncode}: {output}{trouble}"
            outputs.append(output)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return outputs


class Other:
    """Another process. Called with Python code, it evaluates or runs it, and answers with the value or the error.

    It keeps its names from call to call; keyword arguments are further names. What it imported at its start:
    os, fcntl, mmap, time and the like. `pass_fds` are descriptors that it inherits, under the same numbers.
    """

    def __init__(self, pass_fds: Sequence[int] = ()) -> None:
        orders_in, orders_out = os.pipe()
        answers_in, answers_out = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LOOP, str(orders_in), str(answers_out)],
            stdin=subprocess.DEVNULL,
            pass_fds=[orders_in, answers_out, *pass_fds],
        )
        os.close(orders_in)
        os.close(answers_out)
        self._orders = os.fdopen(orders_out, "wb")
        self._answers = answers_in

    @property
    def pid(self) -> int:
        return self.process.pid

    def __call__(self, code: str, **names: Any) -> Any:
        self.begin(code, **names)
        return self.answer()

    def begin(self, code: str, **names: Any) -> None:
        """Tell it what to do and do not wait; `answer` does."""
        self._orders.write(pickle.dumps((code, names)))
        self._orders.flush()

    def answered(self, seconds: float) -> bool:
        """Whether it has an answer within so many seconds."""
        return bool(select.select([self._answers], [], [], seconds)[0])

    def answer(self, seconds: float = SECONDS) -> Any:
        assert self.answered(seconds), "the other process does not answer"
        (length,) = struct.unpack("<Q", self._read(8))
        succeeded, result = pickle.loads(self._read(length))
        if not succeeded:
            raise result
        return result

    def _read(self, length: int) -> bytes:
        result = b""
        while len(result) < length:
            block = os.read(self._answers, length - len(result))
            assert block, "the other process has ended"
            result += block
        return result

    def stop(self) -> None:
        """End it as a process ends that has nothing left to do: its descriptors are closed at its exit."""
        if not self._orders.closed:
            self._orders.close()
            os.close(self._answers)
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self) -> "Other":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
