"""Open files and directories: what a file handle of the kernel stands for."""

from collections.abc import Iterator
from itertools import count

from engine.model import Node
from fusefs.callers import Caller
from fusefs.closers import Closing
from fusefs.copies import PrivateCopy
from fusefs.listings import DirectoryHandle
from fusefs.opened import Opened
from fusefs.openings import Openings
from fusefs.tasks import Opener
from fusefs.writers import Writers


class ReadHandle:
    """An object open for reading: one committed value, whole, whatever becomes of its name."""

    def __init__(self, node: Node) -> None:
        self.node = node


class WriteHandle(Opened):
    """An object open for writing."""

    copy: PrivateCopy

    def __init__(
        self, writers: Writers, copy: PrivateCopy, by: Opener, opener: Caller, *, appends: bool, changes: bool
    ) -> None:
        super().__init__(by, copy)
        self.writers = writers
        self.opener = opener
        self.appends = appends
        """O_APPEND: every write goes to the end, whatever offset the kernel worked out."""
        self.changed = changes
        """Whether the copy was changed through it: by opening it, writing or truncating."""
        self.killed = False
        """Whether a signal killed one who had it open, and nobody wrote through it since."""
        self.closing = Closing.PLAIN
        """How it was closed last."""

    def note_change(self) -> None:
        """It is written through: whoever writes lives, and carries on what one who was killed may have left."""
        self.changed = True
        self.killed = False

    def note_close(self, closing: Closing) -> None:
        """One of its descriptors was closed."""
        self.closed_before = True
        self.writers.openings.note_closed()
        self.closing = closing
        self.killed = self.killed or closing is Closing.KILLED

    @property
    def left_unfinished(self) -> bool:
        """Whether those who wrote through it were killed, should nobody have it open any more."""
        return self.killed or self.closing is not Closing.PLAIN


class PeekHandle(Opened):
    """A new name open for reading in the process that is writing it: the copy that the process had open then."""

    copy: PrivateCopy

    def __init__(self, writers: Writers, copy: PrivateCopy, by: Opener) -> None:
        super().__init__(by, copy)
        self.writers = writers


class KeptHandle(ReadHandle, Opened):
    """What was a PeekHandle until its copy was published. The kernel knows it by the private inode still."""

    def __init__(self, node: Node, peek: PeekHandle) -> None:
        ReadHandle.__init__(self, node)
        Opened.__init__(self, peek.by, None)
        self.writers = peek.writers


class KeptHandles(dict[int, list[KeptHandle]]):
    """Those that are open, by the private inode, which may stand for several values: to each who reads it for its own.

    Writers who have closed all that they write are no more, but these are there still.
    """

    def add(self, handle: KeptHandle) -> None:
        self.setdefault(handle.node.ino, []).append(handle)

    def remove(self, handle: KeptHandle) -> None:
        self[handle.node.ino].remove(handle)
        if not self[handle.node.ino]:
            del self[handle.node.ino]

    def differ(self, ino: int) -> bool:
        """Whether an inode stands for several values."""
        return len({handle.node.content for handle in self.get(ino, ())}) > 1

    def of(self, ino: int, pid: int) -> KeptHandle | None:
        """What a thread has open: the last that it opened itself, or else its process; of all, if that is unknown."""
        found = self.get(ino)
        if found is None:
            return None
        if self.differ(ino):
            beside = {handle.writers for handle in found}
            for ask in (Openings.of, Openings.files_of):
                opened = {file for writers in beside for file in ask(writers.openings, pid)}
                if own := [handle for handle in found if handle in opened]:
                    return own[-1]
        return found[-1]


Handle = ReadHandle | WriteHandle | PeekHandle | DirectoryHandle


class HandleTable:
    """File handles by the number that the kernel knows them by."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._handles: dict[int, Handle] = {}
        self.open_writers = 0
        """How many of them are open for writing."""

    def add(self, handle: Handle) -> int:
        number = next(self._numbers)
        self._handles[number] = handle
        self.open_writers += isinstance(handle, WriteHandle)
        return number

    def replace(self, number: int, handle: Handle) -> None:
        """Let a number stand for another handle."""
        self._handles[number] = handle

    def peeking(self, copy: PrivateCopy) -> list[tuple[int, PeekHandle]]:
        """The handles that read a copy which is still being written."""
        if not copy.peeks:
            return []
        handles = self._handles.items()
        return [(number, peek) for number, peek in handles if isinstance(peek, PeekHandle) and peek.copy is copy]

    def has_directory(self, ino: int, thread: int) -> bool:
        """Whether a thread has opened a directory, and has it open still."""
        directories = (handle for handle in self._handles.values() if isinstance(handle, DirectoryHandle))
        return any(directory.node.ino == ino and directory.opener == thread for directory in directories)

    def writers(self) -> Iterator[WriteHandle]:
        """All that is open for writing."""
        return (handle for handle in self._handles.values() if isinstance(handle, WriteHandle))

    def __getitem__(self, number: int) -> Handle:
        return self._handles[number]

    def pop(self, number: int) -> Handle:
        handle = self._handles.pop(number)
        self.open_writers -= isinstance(handle, WriteHandle)
        return handle

    def values(self) -> list[Handle]:
        return list(self._handles.values())
