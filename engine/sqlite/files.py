"""Whether the files of a store are still where they were.

A file that was deleted or replaced goes on working for whoever has it open, and is gone with them. What is written to
it is lost.
"""

from pathlib import Path

_SUFFIXES = ("", "-wal", "-shm", "-lock", "-data")


class Files:
    """The files of one store, by the names that they have had since they were first seen."""

    def __init__(self, path: Path | None) -> None:
        self._paths = [] if path is None else [Path(f"{path}{suffix}") for suffix in _SUFFIXES]
        self._seen: dict[Path, tuple[int, int]] = {}

    def lost(self, also: Path | None = None) -> Path | None:
        """A file that is not there any more, or is another one; None while all are there. Costs a stat for each.

        `also`: a further one.
        """
        for path in [*self._paths, *([also] if also is not None else [])]:
            try:
                status = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                if path in self._seen:
                    return path
            except OSError:
                continue  # a disk that fails says nothing about its files
            else:
                now = status.st_dev, status.st_ino
                if self._seen.setdefault(path, now) != now:
                    return path
        return None
