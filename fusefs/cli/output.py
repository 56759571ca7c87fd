"""What the command prints: tables where people read, plain lines and JSON where programs do.

Names are bytes, and a terminal must not obey them: in tables and messages, control characters and what is not UTF-8
are shown escaped. Into a pipe or file goes what the name is, followed by a newline, as ls does; a name with a newline
in it can only be told apart with --null or --json.
"""

import os
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

import click
import msgspec

from engine.model import Effects
from fusefs.printable import printable, shown

__all__ = ["printable", "shown"]


def json_name(field: str, name: bytes) -> dict[str, Any]:
    """Return the members of a JSON object that tell a name: what is not UTF-8 is null, and base64 beside it."""
    try:
        return {field: name.decode("utf-8")}
    except UnicodeDecodeError:
        return {field: None, f"{field}_base64": b64encode(name).decode("ascii")}


def json_time(time_ns: int) -> str:
    """Return a time as ISO 8601 in UTC with all its nanoseconds."""
    import datetime

    seconds, nanoseconds = divmod(time_ns, 10**9)
    moment = datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def local_time(time_ns: int) -> str:
    """Return a time for people: local, to the second."""
    import datetime

    return f"{datetime.datetime.fromtimestamp(time_ns // 10**9):%Y-%m-%d %H:%M:%S}"


@contextmanager
def stdout() -> Iterator[IO[bytes]]:
    """Give standard output for bytes. All of it has been written when the block ends."""
    if sys.stdout is None:
        raise click.ClickException("standard output is closed")
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_stdout()
        raise click.ClickException(f"standard output: {error.strerror}") from error


def is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def print_json(rows: Iterable[dict[str, Any]]) -> None:
    """Print a JSON array, one element a line, as the rows come."""
    with stdout() as out:
        separator = b"[\n"
        for row in rows:
            out.write(separator + msgspec.json.encode(row))
            separator = b",\n"
        out.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def print_names(names: Iterable[bytes], end: bytes = b"\n") -> None:
    """Print one name a line: as it is."""
    with stdout() as out:
        for name in names:
            out.write(name + end)


def print_lines(lines: Iterable[str]) -> None:
    """Print text for people, one line each, whatever names are in it."""
    print_names(printable(line).encode() for line in lines)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print a table for people. `right` names the columns of numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        # Folded, never cut: a name that is not whole is no name.
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def say(message: str) -> None:
    """Say something on stderr in one line, whatever names are in it."""
    with _heard_or_not():
        print(f"fusefs: {printable(' '.join(message.split(chr(10))))}", file=sys.stderr, flush=True)


def tell_effects(*changes: Effects) -> None:
    """Tell on stderr, one line each, what changes did beside what they were asked to do."""
    with _heard_or_not():
        for effects in changes:
            for removed in effects.evicted:
                click.echo(f"evicted {shown(_key(removed.path))}", err=True)
            for removed in effects.expired:
                click.echo(f"expired {shown(removed.path.partition(b'/')[2])}", err=True)
            for removed in effects.restored:
                click.echo(f"restored {shown(_key(removed.path))}", err=True)


def _heard_or_not() -> suppress:
    """Stderr may be a full disk, or nobody reads it: what is told of has been done, or has failed, all the same."""
    return suppress(OSError)


def _key(path: bytes) -> bytes:
    """Return the key in pipeline/NAME/KEY."""
    return path.split(b"/", 2)[-1]


def silence_stdout() -> None:
    """Send what is still buffered for standard output nowhere: its reader is gone, or its disk is full."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def open_what_is_closed() -> None:
    """Have those of the descriptors 0 to 2 that are closed lead nowhere. Before anything is opened.

    Else a store would take their place, and be sent what is meant for stderr. sys.stdin and sys.stdout stay None, which
    tells that they are closed; sys.stderr may not, as print() takes that for standard output.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free, which is this one
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 (to the end)
