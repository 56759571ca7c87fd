"""A file of a private inode that is open, and what can be said of several."""

from collections.abc import Iterable, Iterator
from itertools import chain

from fusefs.callers import START_KNOWN_TO_S, started_at
from fusefs.copies import PrivateCopy
from fusefs.glances import in_time
from fusefs.tasks import Opener


class Opened:
    """A file of a private inode that is open."""

    def __init__(self, by: Opener, copy: PrivateCopy | None) -> None:
        self.by = by
        self.copy = copy
        """What it stands for; None for a value that is published, and may be read by this inode."""
        self.closed_before = False
        """Whether one of its descriptors was closed already: then who opened it may have none of the others."""


InOrder = dict[Opened, None]
"""Files in the order in which they were opened."""


def written(files: Iterable[Opened]) -> list[PrivateCopy]:
    """The copies that somebody is writing, of what these files stand for; each as often as it is open."""
    return [file.copy for file in files if file.copy is not None and file.copy.holders]


def first_written(files: Iterable[Opened]) -> PrivateCopy | None:
    return next((file.copy for file in files if file.copy is not None and file.copy.holders), None)


def some(files: Iterator[Opened]) -> Iterator[Opened] | None:
    """The same files; None where there are none."""
    for first in files:
        return chain([first], files)
    return None


def inherited(files: Iterator[Opened], heir: int) -> Iterator[Opened]:
    """Those that the parent of a process had opened when it started that; all where that is unknown.

    Who was adopted by a process has nothing of what that opens. As far as it can be told: what was opened in the same
    hundredth of a second is taken for inherited.
    """
    known = some(files)
    if known is None:
        return files
    # In a thread: /proc/PID/stat waits for a process inside execve(2), which may be waiting for us.
    began = in_time(heir, lambda: started_at(heir), otherwise=0.0)
    return (file for file in known if not began or file.by.at < began + START_KNOWN_TO_S)
