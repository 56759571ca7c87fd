"""Which pages of a damaged file count, and the rows on them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from engine.salvage.pages import Page, Pages
from engine.salvage.records import LEAF_TABLE, Malformed, Record, cells, children, decode, kind_of, whole
from engine.salvage.tables import recognise

_FIRST = 1


class Row(NamedTuple):
    """A row that was found."""

    table: str
    values: Record
    sure: bool
    """Whether it is certainly a row of the store. Else it is from a damaged page, or may have been deleted before."""


class Scan:
    """The rows of a damaged file."""

    def __init__(self, pages: Pages, tell: Callable[[int, int], None]) -> None:
        """`tell` is called with the number of pages that were looked at, and how many there are."""
        self._pages = pages
        self._tell = tell
        self.free, self.free_is_known = pages.free()
        self._reached = set() if self.free_is_known else self._walk()

    def rows(self) -> Iterator[Row]:
        """All rows, those that are sure first."""
        doubtful: list[int] = []
        for number in range(1, self._pages.count + 1):
            self._tell(number, self._pages.count)
            if number in self.free:
                continue
            page = self._pages.read(number)
            assert page is not None
            if page.sure and (self.free_is_known or number in self._reached):
                yield from self._on(page, sure=True)
            else:
                doubtful.append(number)
        for number in doubtful:
            page = self._pages.read(number)
            assert page is not None
            yield from self._on(page, sure=False)

    def _on(self, page: Page, *, sure: bool) -> Iterator[Row]:
        overflow_is_sure = True

        def read(number: int) -> bytes | None:
            nonlocal overflow_is_sure
            found = self._pages.read(number)
            overflow_is_sure = overflow_is_sure and found is not None and found.sure
            return None if found is None else found.data

        kind = kind_of(page.data, page.number)
        for cell in cells(page.data, page.number, self._pages.usable):
            overflow_is_sure = True
            try:
                found = recognise(kind, decode(whole(cell, self._pages.usable, read)), cell.rowid)
            except Malformed:
                continue
            if found is not None:
                yield Row(*found, sure and overflow_is_sure)

    def _walk(self) -> set[int]:
        """The pages that can be reached from the roots of the tables."""
        waiting = [_FIRST, *self._roots()]
        reached: set[int] = set()
        while waiting:
            number = waiting.pop()
            page = None if number in reached else self._pages.read(number)
            if page is not None:
                reached.add(number)
                waiting.extend(children(page.data, page.number))
        return reached

    def _roots(self) -> Iterator[int]:
        """Where the tables begin, wherever that stands: the way to it may be lost too."""
        for number in range(1, self._pages.count + 1):
            page = self._pages.read(number)
            if page is not None and kind_of(page.data, number) == LEAF_TABLE:
                for row in self._on(page, sure=False):
                    if row.table != "sqlite_schema":
                        break
                    assert isinstance(row.values[3], int)
                    yield row.values[3]
