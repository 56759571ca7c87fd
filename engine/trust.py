"""Whether a store lies where nobody else can put files in the place of its own.

A store is a database with files beside it that are opened by their names. Whoever may write to the directory can
replace them all, so this is looked at before anything is opened.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from engine import disk
from engine.errors import OpenError


def check_place(path: Path) -> None:
    """Raise OpenError where users other than us, root and a directory's group could replace the file at `path`.

    Whoever gives a directory to a group trusts that. Looks at what is there: what is missing will be made as ours.
    """
    if path.is_symlink():
        raise OpenError(f"{path} is a symlink: name the file that it leads to")
    directory = Path(os.path.realpath(path.parent))
    _check(path, sticky=False)
    _check(directory, sticky=False)
    for above in directory.parents:
        _check(above, sticky=True)


def make_directory(path: Path) -> None:
    """Make a directory, and those above it that are missing, for us alone, whatever the umask. Raises OSError.

    They survive a power cut, as what is stored in them does; but for one whose parent may be written to and not read.
    """
    if not path.parent.exists():
        make_directory(path.parent)
    with suppress(FileExistsError):
        path.mkdir(0o700)
        with suppress(PermissionError):
            disk.sync(path.parent)


def _check(path: Path, *, sticky: bool) -> None:
    """`sticky`: others may write there, if they cannot rename and remove what is not theirs."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise OpenError(f"cannot look at {path}: {error.strerror}") from error
    if found.st_uid not in (0, os.geteuid()):
        raise OpenError(f"{path} belongs to user {found.st_uid}, who could replace the store: run this as that user")
    if found.st_mode & stat.S_IWOTH and not (sticky and found.st_mode & stat.S_ISVTX):
        raise OpenError(f"everybody can write to {path}, and could replace the store: chmod o-w {path}")
