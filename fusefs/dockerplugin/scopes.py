"""The directories of pipelines and runs, made and removed through the mount. All of it blocks: call it in a thread."""

import contextlib
import os
from threading import Event

from fusefs.dockerplugin.errors import VolumeError
from fusefs.dockerplugin.options import Options
from fusefs.dockerplugin.trees import remove_tree

_MODE = 0o755
"""Of a directory for which no mode was asked. The mount makes of it what its --umask says, if it has one."""
_CLOSED = 0o700
"""Of one that gets another mode in the next step."""


def path_of(top: str, options: Options) -> str:
    """Where the directory is in the mount `top`."""
    return os.path.join(top, options.kind, options.scope)


def make(top: str, options: Options, *, set_limit: bool) -> bool:
    """Make the directory when it is missing, and return whether it was. Raises VolumeError, and then nothing is made.

    With `set_limit` the limit is set also when the pipeline is there.
    """
    path = path_of(top, options)
    try:
        os.mkdir(path, _MODE if options.mode is None else _CLOSED)
        made = True
    except FileExistsError:
        made = False
    except OSError as error:
        raise _error("made", options, error) from error
    try:
        if options.limit is not None and (made or set_limit):
            os.setxattr(path, "fusefs.limit", b"%d" % options.limit)
        if made:
            os.chown(path, *(-1 if number is None else number for number in (options.uid, options.gid)))
            if options.mode is not None:
                os.chmod(path, options.mode)
    except OSError as error:
        if made:
            undo(top, options)
        raise _error("made", options, error) from error
    return made


def undo(top: str, options: Options) -> None:
    """Take back what `make` has made, unless somebody has put something there."""
    with contextlib.suppress(OSError):
        os.rmdir(path_of(top, options))


def remove(top: str, options: Options, stop: Event) -> None:
    """Remove the directory with all that is in it; one that has gone is removed. Raises VolumeError.

    Nothing more is removed once `stop` is set.
    """
    try:
        remove_tree(path_of(top, options), stop)
    except FileNotFoundError:
        # Also where an expiry, or a removal that was given up on, took away something while we did.
        if os.path.lexists(path_of(top, options)):
            raise VolumeError(f"{options.kind} {options.scope} changes while it is removed: try again") from None
    except OSError as error:
        raise _error("removed", options, error) from error


def _error(what: str, options: Options, error: OSError) -> VolumeError:
    return VolumeError(f"{options.kind} {options.scope} cannot be {what}: {error.strerror}")
