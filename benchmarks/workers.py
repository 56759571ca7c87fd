"""Processes that do their operations at the same time, each after the others are ready.

One process measures in a worker, too: what a mount has to find out about a caller depends on its family, and the
benchmark itself has every daemon for a child.
"""

import multiprocessing
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import perf_counter, sleep
from types import TracebackType
from typing import Self

from benchmarks.operations import Operation, random_block

_DEADLINE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Job:
    """What one process is to do, one after the other."""

    steps: Sequence[tuple[Operation, str]]
    """Operations, which are functions of a module or partial ones, and the path that each is done to."""
    pause: float = 0.0
    """Seconds between two of them."""
    children: int = 0
    """How many processes of its own it is to have meanwhile, which do nothing."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What it did: when, by the clock that all processes share, and the seconds of each step."""

    start: float
    end: float
    seconds: list[float]


class Workers:
    """Processes that wait for jobs."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def _start(self) -> None:
        for _ in range(self.count):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            _receive(pipe)  # each says that it is up

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:  # one of them may be in the middle of a long job
            for process in self._processes:
                process.kill()
        self._stop()

    def _stop(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()

    def run(self, jobs: Sequence[Job]) -> list[Worked]:
        """Do the jobs at the same time, one a process. Returns what each came to."""
        busy = self._pipes[: len(jobs)]
        for pipe, job in zip(busy, jobs, strict=True):
            pipe.send(job)
        for pipe in busy:
            _receive(pipe)
        for pipe in busy:
            pipe.send("go")
        worked = []
        for pipe in busy:
            result = _receive(pipe)
            if not isinstance(result, Worked):
                raise RuntimeError(f"a process of the benchmark failed: {result}")
            worked.append(result)
        return worked


def _receive(pipe: Connection) -> object:
    if not pipe.poll(_DEADLINE_SECONDS):
        raise RuntimeError("a process of the benchmark does not answer")
    return pipe.recv()


def serve(pipe: Connection) -> None:
    """The life of one process: jobs until the pipe is closed."""
    # Ctrl-C goes to all processes of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    random_block()
    pipe.send("up")
    while True:
        try:
            job = pipe.recv()
            with _children(job.children):
                pipe.send("ready")
                pipe.recv()
                try:
                    result: object = _work(job)
                except (OSError, RuntimeError) as error:
                    result = repr(error)
            pipe.send(result)
        except (EOFError, OSError):
            return


@contextmanager
def _children(count: int) -> Iterator[None]:
    """Have as many children."""
    children = [subprocess.Popen(["sleep", "infinity"]) for _ in range(count)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def _work(job: Job) -> Worked:
    seconds = []
    start = before = perf_counter()
    for operation, path in job.steps:
        operation(path)
        after = perf_counter()
        seconds.append(after - before)
        if job.pause:
            sleep(job.pause)
            after = perf_counter()
        before = after
    return Worked(start, perf_counter(), seconds)


def each(operation: Operation, paths: Iterable[str]) -> list[tuple[Operation, str]]:
    """The steps of doing the same to every path."""
    return [(operation, path) for path in paths]
