"""Open files and directories: what a file handle of the kernel stands for."""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import count

from engine.errors import StoreError
from engine.model import FIRST_FREE_ID, Node, NodeRow
from engine.tree import Tree
from fusefs.callers import Caller
from fusefs.closers import Closing
from fusefs.copies import PrivateCopy
from fusefs.writers import Writers

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


Entries = tuple[list[NodeRow], int, bool]
"""Names in a listing: what they stand for now, or stood for when they are gone; the position behind them, or 0 where
that is the inode number of each; and whether they are there."""


class _Page:
    """Some names of a directory, as they are at one moment."""

    def __init__(self, tree: Tree, directory: int, position: int, after: bytes) -> None:
        """Read those behind the name `after`, whose position is given. Raises StoreError."""
        self.changes = tree.changes
        """How much had changed in the store by then: the page is right while nothing has since."""
        self.rows = tree.rows(directory, after, _PAGE)
        self.positions = [position, *[row[0] for row in self.rows]]
        """The position before each name, and the one behind the last."""

    @property
    def is_full(self) -> bool:
        """Whether there may be more names behind it."""
        return len(self.rows) == _PAGE

    def behind(self, position: int) -> list[NodeRow]:
        """The names behind a position that is among those of the page."""
        return self.rows[self.positions.index(position) :]


class DirectoryHandle:
    """A directory being listed, in the order of its names.

    A position (what telldir(3) returns) is the inode number of the entry before it: a listing goes on behind that
    entry's name, so it neither skips nor repeats what stays, whatever comes and goes meanwhile. A directory of up to a
    page is listed as it was at one moment, although the kernel fetches it in pieces: nobody sees an object beside the
    one that took its place.
    """

    SELF, PARENT = FIRST_FREE_ID - 2, FIRST_FREE_ID - 1
    """The positions behind `.` and `..`: numbers that no inode has."""
    DOTS = (SELF, PARENT)
    _START = (0, SELF, PARENT)

    def __init__(self, tree: Tree, node: Node) -> None:
        self._tree = tree
        self.node = node
        self._page: _Page | None = None
        """What was given out last; all of a small directory, as it was when it was last listed from the start."""
        self._is_whole = False
        self._ahead: _Page | None = None
        """What was read for when the page is given out."""
        self._pages: deque[_Page] = deque(maxlen=_REMEMBERED // _PAGE)
        """What was given out last of a large directory: the names of its positions."""

    def entries(self, position: int) -> Iterator[Entries]:
        """The entries behind a position, 0 for all. Raises StoreError."""
        if position in self._START:
            self._is_whole = not self._turn_to(position, b"").is_full
        page = self._page
        if page is None or not self._is_whole:
            return self._paged(page, position)
        rest = page.behind(position) if position in page.positions else page.rows
        return self._as_it_was(rest) if page.changes != self._tree.changes else iter([(rest, 0, True)])

    def _as_it_was(self, rows: list[NodeRow]) -> Iterator[Entries]:
        now = {row[2]: row for row in self._tree.rows(self.node.ino, b"", _PAGE)} if rows else {}
        for row in rows:
            current = now.get(row[2])
            yield [row if current is None else current], row[0], current is not None

    def _paged(self, page: _Page | None, position: int) -> Iterator[Entries]:
        if page is None or page.changes != self._tree.changes or position not in page.positions:
            page = self._turn_to(position, self._name_at(position))
        yield page.behind(position), 0, True
        while page.is_full:
            last = page.rows[-1]
            page = self._turn_to(last[0], last[2])
            yield page.rows, 0, True

    def _turn_to(self, position: int, after: bytes) -> _Page:
        page, self._ahead = self._ahead, None
        if page is None or page.changes != self._tree.changes or page.positions[0] != position:
            page = _Page(self._tree, self.node.ino, position, after)
        self._page = page
        self._pages.append(page)
        return page

    @property
    def goes_on(self) -> bool:
        """Whether a next page is to be read ahead: where nothing changes, so that it will still be right."""
        page = self._page
        return self._ahead is None and page is not None and page.is_full and page.changes == self._tree.changes

    async def read_ahead(self) -> None:
        """Read the next page while the kernel and its caller are busy with what they have got of this one."""
        if self.goes_on:
            assert self._page is not None
            last = self._page.rows[-1]
            with suppress(StoreError):  # whoever asks for it is told
                self._ahead = _Page(self._tree, self.node.ino, last[0], last[2])

    def _name_at(self, position: int) -> bytes:
        for page in reversed(self._pages):
            for row in page.rows:
                if row[0] == position:
                    return row[2]
        node = self._tree.node(position)
        # An entry that went long after it was listed: from the start, since repeating is better than skipping.
        return b"" if node is None or node.parent != self.node.ino else node.name


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
