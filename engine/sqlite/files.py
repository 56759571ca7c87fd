"""What the files of a store are, and whether they are still where they were.

A file that was deleted or replaced goes on working for whoever has it open, and is gone with them. What is written to
it is lost.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from engine.sqlite.names import SUFFIXES, name_for_sqlite

PAGE_BYTES = 4096
"""Of the database: every store is made with pages of this size."""


@contextmanager
def database_file(path: Path, flags: int) -> Iterator[apsw.VFSFile]:
    """The bytes of a database, by a descriptor of SQLite's. Raises OpenError and apsw.Error.

    To close one of ours would let go of every lock that the connections of this process have on the file (fcntl(2));
    SQLite keeps its own open until none of them needs a lock.
    """
    # Not the layer for checksums, which is the default: what is read here may be no database.
    file = apsw.VFSFile("unix", name_for_sqlite(path), [flags | apsw.SQLITE_OPEN_MAIN_DB, 0])
    try:
        yield file
    finally:
        file.xClose()


def is_open_here(path: Path) -> bool:
    """Whether this process has a file open. Raises OSError."""
    status = os.stat(path)
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that listed them, and what other threads have closed
            if os.path.samestat(os.fstat(int(name)), status):
                return True
    return False


class Files:
    """The files of one store, by the names that they have had since they were first seen."""

    def __init__(self, path: Path | None) -> None:
        # Looked at many times a second, so these are strings: a stat of a Path takes three times as long.
        self._paths = [] if path is None else [f"{path}{suffix}" for suffix in SUFFIXES]
        self._seen: dict[str, tuple[int, int]] = {}

    def lost(self, also: Path | None = None) -> Path | None:
        """A file that is not there any more, or is another one; None while all are there. Costs a stat for each.

        `also`: a further one.
        """
        seen = self._seen
        for path in self._paths if also is None else [*self._paths, str(also)]:
            try:
                status = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                if path in seen:
                    return Path(path)
            except OSError:
                continue  # a disk that fails says nothing about its files
            else:
                now = status.st_dev, status.st_ino
                if seen.setdefault(path, now) != now:
                    return Path(path)
        return None
