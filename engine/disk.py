"""What everything that writes files of its own beside SQLite needs of the disk."""

import errno
import os
import shutil
from pathlib import Path

from engine.errors import InternalError, OutOfSpaceError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says when there is no room."""


def free_bytes(place: str | Path | int) -> int:
    """How much more the disk of a path or descriptor takes from who is not root. Raises OSError."""
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def failure(error: OSError, full: str, otherwise: str) -> OutOfSpaceError | InternalError:
    """What the store raises for an error of the disk, with what to say where it is full, and otherwise."""
    if error.errno in FULL:
        return OutOfSpaceError(f"{full}: {error.strerror}")
    return InternalError(f"{otherwise}: {error}")


def sync(path: str | Path) -> None:
    """Return once a file survives a power cut, or the names in a directory do. Waits for the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def keep(source: Path, target: Path) -> None:
    """Have what is in a file under another name as well: all of it or, with OSError, nothing of it.

    Raises FileExistsError where links are possible and the name is taken. The file is not written to any more.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a filesystem without links
        part = target.with_name(f"{target.name}.partial")
        try:
            shutil.copyfile(source, part)
            os.chmod(part, 0o600)
            sync(part)
            os.rename(part, target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
