"""What a kernel knows of a mount, and which of it the next request is about."""

from typing import cast

import pyfuse3
from pyfuse3 import EntryAttributes

from fusefs.listings import DirectoryHandle
from tests.fuzz.mounts import PIDS, Context, FakedMount
from tests.fuzz.source import Source


class Knowing:
    """The inodes and handles that were told to the kernel. Mostly these are asked about, now and then any number."""

    def __init__(self, source: Source, mount: FakedMount) -> None:
        self.handles: list[int] = []
        self._source = source
        self._mount = mount
        self._operations = mount.operations
        self._inos = [1, 2, 3]

    def _ino(self) -> int:
        kind = self._source.byte()
        known = kind < 240
        return self._inos[kind % len(self._inos)] if known else self._source.number()

    def _directory(self) -> int:
        """One in which there can be something, mostly."""
        return self._ino() if self._source.below(4) == 0 else self._inos[-1 - self._source.below(2)]

    def _handle(self, *kinds: type) -> tuple[int, bool]:
        """A handle, and whether it is one that the kernel may use so."""
        kind = self._source.byte()
        if kind >= 250 or not self.handles:
            return self._source.number(), False
        number = self.handles[kind % len(self.handles)]
        handle = self._mount.state.handles[number]
        return number, not isinstance(handle, DirectoryHandle) and (not kinds or isinstance(handle, kinds))

    def _context(self) -> pyfuse3.RequestContext:
        pid, owner = self._source.byte(), self._source.byte()
        # Mostly one process; what is dead is looked for in all of /proc.
        context = Context(PIDS[0] if pid < 200 else PIDS[pid % len(PIDS)], owner % 3, owner % 2, owner & 0o77)
        return cast(pyfuse3.RequestContext, context)

    def _learn(self, entry: EntryAttributes | None) -> None:
        if entry is not None and entry.st_ino not in self._inos:
            self._inos.append(entry.st_ino)
