"""Bytes in and out of the command in chunks, with a bar on the terminal when it takes long."""

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from fusefs.cli.output import is_terminal

CHUNK_BYTES = 1024 * 1024
PROGRESS_BYTES = 32 * 1024 * 1024
"""Less than this is over before anybody could read a bar."""


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    """Read `file` to its end."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def size_of(file: IO[bytes]) -> int | None:
    """Return how much `file` holds, None for a pipe or a terminal."""
    import stat

    found = os.fstat(file.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def with_progress(chunks: Iterable[bytes], total: int | None, what: str) -> Generator[bytes]:
    """Pass `chunks` on, and show how far they are where somebody watches and there is something to watch."""
    if total is None or total < PROGRESS_BYTES or not is_terminal(sys.stderr):
        yield from chunks
    else:
        yield from _shown(chunks, total, what)


def _shown(chunks: Iterable[bytes], total: int, what: str) -> Iterator[bytes]:
    with progress(what) as tell:
        done = 0
        for chunk in chunks:
            yield chunk
            done += len(chunk)
            tell(done, total)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give what is to be told how many bytes are done, and of how many: a bar on the terminal, where there is one."""
    if not is_terminal(sys.stderr):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(what), total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=total >= PROGRESS_BYTES)
