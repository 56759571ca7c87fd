"""What everything that writes files of its own beside SQLite needs of the disk."""

import errno
import os
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says when there is no room."""


def sync(path: str | Path) -> None:
    """Return once a file survives a power cut, or the names in a directory do. Waits for the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
