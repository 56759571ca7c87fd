"""The exit codes of the command, and which error has which.

0    done
1    it failed: the store, the mount, a file or the disk said no
2    wrong use: an option, a name, a number or the configuration can never be accepted
3    there is no such pipeline, run or object
4    it exists already, and --force was not given
5    `fusefs check` found damage
130  interrupted (Ctrl-C)
141  whoever read the output stopped reading, as for any command that SIGPIPE ends
"""

import click

from engine.errors import ExistsError, InvalidError, NotFoundError, OpenError

OK = 0
FAILURE = 1
USAGE = 2
NOT_FOUND = 3
EXISTS = 4
DAMAGED = 5
INTERRUPTED = 130
OUTPUT_CLOSED = 141

_CODES: list[tuple[type[BaseException], int]] = [
    # The first that fits: a class stands before the one that it is derived from.
    (OpenError, FAILURE),
    (NotFoundError, NOT_FOUND),
    (ExistsError, EXISTS),
    (InvalidError, USAGE),
    (click.UsageError, USAGE),
    (click.Abort, INTERRUPTED),
    (KeyboardInterrupt, INTERRUPTED),
]


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error: FAILURE for all that the table does not name."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILURE)
