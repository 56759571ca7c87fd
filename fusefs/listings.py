"""Directories that are being listed, and what all of these listings keep."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import suppress

from engine.errors import StoreError
from engine.model import FIRST_FREE_ID, Node, NodeRow
from engine.tree import Tree

_PAGE = 512
_REMEMBERED = 2048
_KEPT = 65_536
"""How many names all listings keep, some 700 bytes each: whoever opens directories without end gets no more memory."""

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

    def __init__(self, tree: Tree, node: Node, listings: "Listings", opener: int = 0) -> None:
        """`opener`: the thread that opened it."""
        self._tree = tree
        self.node = node
        self.opener = opener
        self._listings = listings
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
        self._listings.note(self, sum(len(page.rows) for page in self._pages))
        return page

    def forget(self) -> None:
        """Keep nothing of what was given out: it is read again, and a small directory listed as it is by then."""
        self._page = self._ahead = None
        self._is_whole = False  # what is read from here on begins in the middle, and may be more than a page by now
        self._pages.clear()

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


class Listings:
    """The directories that are open, those last that were read last."""

    def __init__(self) -> None:
        self._rows: OrderedDict[DirectoryHandle, int] = OrderedDict()
        self._kept = 0

    def note(self, handle: DirectoryHandle, rows: int) -> None:
        """A listing keeps so many names now: others may have to forget theirs."""
        self.drop(handle)
        self._rows[handle] = rows
        self._kept += rows
        while self._kept > _KEPT:
            oldest, rows = self._rows.popitem(last=False)
            self._kept -= rows
            oldest.forget()

    def drop(self, handle: DirectoryHandle) -> None:
        """It keeps nothing, or is closed."""
        self._kept -= self._rows.pop(handle, 0)
