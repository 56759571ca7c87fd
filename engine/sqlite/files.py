"""What the files of a store are, and whether they are still where they were.

A file that was deleted or replaced goes on working for whoever has it open, and is gone with them. What is written to
it is lost.
"""

import os
from pathlib import Path

PAGE_BYTES = 4096
"""Of the database: every store is made with pages of this size."""

_SUFFIXES = ("", "-wal", "-shm", "-lock", "-data")


def is_of_store(path: str, store: str) -> bool:
    """Whether a path is one of those that a store has for its files, be they there or not."""
    path, store = os.path.realpath(path), os.path.realpath(store)
    ending = path.removeprefix(store)
    return path.startswith(store) and (ending in (*_SUFFIXES, "-journal") or ending.startswith("-puts-"))


class Files:
    """The files of one store, by the names that they have had since they were first seen."""

    def __init__(self, path: Path | None) -> None:
        # Looked at many times a second, so these are strings: a stat of a Path takes three times as long.
        self._paths = [] if path is None else [f"{path}{suffix}" for suffix in _SUFFIXES]
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
