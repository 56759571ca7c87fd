"""The command `fusefs`.

One module per group of commands. What takes long to import (pyfuse3, trio, SQLite, rich) is imported by the command
that needs it, when it runs: `object get` in a script is called thousands of times.
"""

import os
import sys
from contextlib import suppress

import click

from engine.errors import StoreError
from fusefs.cli.backup import backup
from fusefs.cli.check import check
from fusefs.cli.compact import compact
from fusefs.cli.docker_plugin import docker_plugin
from fusefs.cli.exit_codes import OK, OUTPUT_CLOSED, exit_code
from fusefs.cli.mount import mount, umount
from fusefs.cli.output import open_what_is_closed, printable, say, silence_stdout
from fusefs.cli.pipeline import pipeline
from fusefs.cli.run import run
from fusefs.cli.status import status
from fusefs.errors import MountError


class _Command(click.Group):
    """The whole command."""

    def invoke(self, ctx: click.Context) -> object:
        """Run it. When the reader of its output goes away it ends without a word, as if by SIGPIPE."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would make it exit code 1
            silence_stdout()
            raise click.exceptions.Exit(OUTPUT_CLOSED) from None


@click.group(cls=_Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
@click.version_option(None, "--version", package_name="fusefs")
def fusefs(debug: bool) -> None:
    """An object store with two lifetimes, mounted as a filesystem.

    Every command takes --store and --config, and works whether the store is mounted or not. Exit codes: 0 done,
    1 failure, 2 wrong use or configuration, 3 not found, 4 exists.
    """


for _command in (mount, umount, status, pipeline, run, check, backup, compact, docker_plugin):
    fusefs.add_command(_command)


def main() -> None:
    """Run the command with the arguments of the process, and end the process."""
    open_what_is_closed()
    try:
        # The code of an early end (--help, a closed output); commands themselves return nothing.
        code = fusefs.main(prog_name="fusefs", standalone_mode=False) or OK
    except BaseException as error:
        code = exit_code(error)
        with suppress(OSError):  # stderr may be a full disk
            _report(error)
    sys.exit(code)


def _report(error: BaseException) -> None:
    """Say in one line on stderr what went wrong; more only where help was all that was missing."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
    elif isinstance(error, click.UsageError):
        where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        say(f"{error.format_message()}{where}")
    elif isinstance(error, click.ClickException):
        say(error.format_message())
    elif isinstance(error, (click.Abort, KeyboardInterrupt)):
        say("interrupted")
    elif isinstance(error, (StoreError, MountError)):
        say(str(error))
    elif isinstance(error, OSError):
        say(f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else str(error.strerror or error))
        silence_stdout()
    else:
        say(f"unexpected {type(error).__name__}: {error}")
    if _debugging():
        import traceback

        lines = "".join(traceback.format_exception(error)).splitlines()
        print(*map(printable, lines), sep="\n", file=sys.stderr, flush=True)
    elif not isinstance(error, (click.ClickException, click.Abort, StoreError, MountError, OSError, KeyboardInterrupt)):
        say("this is a mistake in fusefs: --debug shows where")


def _debugging() -> bool:
    return "--debug" in sys.argv[1:2] or os.environ.get("FUSEFS_LOG_LEVEL", "").lower() == "debug"
