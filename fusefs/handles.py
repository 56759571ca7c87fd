"""Open files and directories: what a file handle of the kernel stands for."""

from collections import deque
from collections.abc import Iterator
from itertools import count

from engine.model import FIRST_FREE_ID, Node
from engine.tree import Tree
from fusefs.callers import Caller
from fusefs.closers import Closing
from fusefs.writers import PrivateCopy, Writers

_PAGE = 512
_REMEMBERED = 2048


class ReadHandle:
    """An object open for reading: one committed value, whole, whatever becomes of its name."""

    def __init__(self, node: Node) -> None:
        self.node = node


class WriteHandle:
    """An object open for writing."""

    def __init__(self, writers: Writers, copy: PrivateCopy, opener: Caller, *, appends: bool, changes: bool) -> None:
        self.writers = writers
        self.copy = copy
        self.opener = opener
        self.appends = appends
        """O_APPEND: every write goes to the end, whatever offset the kernel worked out."""
        self.at_risk: list[int] = []
        """Objects that the Put of this handle would evict; the kernel is not to cache them meanwhile."""
        self.changed = changes
        """Whether the copy was changed through it: by opening it, writing or truncating."""
        self.killed = False
        """Whether a signal killed one who had it open, and nobody wrote through it since."""
        self.closed_before = False
        """Whether one of its descriptors was closed already."""
        self.closing = Closing.PLAIN
        """How it was closed last."""

    def note_change(self) -> None:
        """It is written through: whoever writes lives, and carries on what one who was killed may have left."""
        self.changed = True
        self.killed = False

    def note_close(self, closing: Closing) -> None:
        """One of its descriptors was closed."""
        self.closed_before = True
        self.closing = closing
        self.killed = self.killed or closing is Closing.KILLED

    @property
    def left_unfinished(self) -> bool:
        """Whether those who wrote through it were killed, should nobody have it open any more."""
        return self.killed or self.closing is not Closing.PLAIN


class PeekHandle:
    """A new name open for reading in the process that is writing it: the copy that the process had open then."""

    def __init__(self, writers: Writers, copy: PrivateCopy | None) -> None:
        self.writers = writers
        self.copy = copy


Entry = tuple[Node, int, bool]
"""A name in a listing: what it stands for now, or stood for when it is gone; its position; and whether it is there."""


class DirectoryHandle:
    """A directory being listed, in the order of its names.

    A position (what telldir(3) returns) is the inode number of the entry before it: a listing goes on behind that
    entry's name, so it neither skips nor repeats what stays, whatever comes and goes meanwhile. A directory of up to a
    page is listed as it was at one moment, although the kernel fetches it in pieces: nobody sees an object beside the
    one that took its place.
    """

    SELF, PARENT = FIRST_FREE_ID - 2, FIRST_FREE_ID - 1
    """The positions behind `.` and `..`: numbers that no inode has."""
    _START = (0, SELF, PARENT)

    def __init__(self, tree: Tree, node: Node) -> None:
        self._tree = tree
        self.node = node
        self._whole: list[Node] | None = None
        """All of a small directory, when it was last listed from the start."""
        self._page: list[Node] = []
        """What was read last of a large directory, behind the position `_behind`."""
        self._behind = 0
        self._next = 0
        """Which of the page is to be given out next."""
        self._changes = 0
        """How much had changed in the store when the page was read: it is right while nothing has since."""
        self._pages: deque[list[Node]] = deque(maxlen=_REMEMBERED // _PAGE)
        """What was given out last of a large directory: the names of its positions."""

    def entries(self, position: int) -> Iterator[Entry]:
        """The entries behind a position, 0 for all."""
        if position in self._START:
            page = self._tree.children(self.node.ino, b"", _PAGE)
            self._whole = page if len(page) < _PAGE else None
        if self._whole is not None:
            return self._rest_of_whole(position)
        return self._paged(position)

    def _rest_of_whole(self, position: int) -> Iterator[Entry]:
        assert self._whole is not None
        start = 0
        for index, node in enumerate(self._whole):
            if node.ino == position:
                start = index + 1
        rest = self._whole[start:]
        now = {node.name: node for node in self._tree.children(self.node.ino, b"", _PAGE)} if rest else {}
        for node in rest:
            current = now.get(node.name)
            yield current or node, node.ino, current is not None

    def _paged(self, position: int) -> Iterator[Entry]:
        if not self._goes_on(position):
            self._read_page(position, b"" if position in self._START else self._name_at(position))
        while self._page:
            index = self._next
            try:
                for node in self._page if not index else self._page[index:]:
                    yield node, node[0], True
                    index += 1
            finally:
                # The last one is still to be given out when there was no room for it in this answer.
                self._next = index
            last = self._page[-1]
            self._read_page(last.ino, last.name)

    def _goes_on(self, position: int) -> bool:
        if not self._page or self._changes != self._tree.changes:
            return False
        return position == (self._page[self._next - 1].ino if self._next else self._behind)

    def _read_page(self, position: int, after: bytes) -> None:
        self._changes, self._behind, self._next = self._tree.changes, position, 0
        self._page = self._tree.children(self.node.ino, after, _PAGE)
        self._pages.append(self._page)

    def _name_at(self, position: int) -> bytes:
        for page in reversed(self._pages):
            for listed in page:
                if listed.ino == position:
                    return listed.name
        node = self._tree.node(position)
        # An entry that went long after it was listed: from the start, since repeating is better than skipping.
        return b"" if node is None or node.parent != self.node.ino else node.name


Handle = ReadHandle | WriteHandle | PeekHandle | DirectoryHandle


class HandleTable:
    """File handles by the number that the kernel knows them by."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._handles: dict[int, Handle] = {}

    def add(self, handle: Handle) -> int:
        number = next(self._numbers)
        self._handles[number] = handle
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

    def writers(self) -> Iterator[WriteHandle]:
        """All that is open for writing."""
        return (handle for handle in self._handles.values() if isinstance(handle, WriteHandle))

    def __getitem__(self, number: int) -> Handle:
        return self._handles[number]

    def pop(self, number: int) -> Handle:
        return self._handles.pop(number)

    def values(self) -> list[Handle]:
        return list(self._handles.values())
