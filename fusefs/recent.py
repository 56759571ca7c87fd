"""Objects that the kernel was told of lately, for the open that mostly follows."""

from collections import deque

from engine.model import Kind, Node, NodeRow

_REMEMBERED = 4096
_DIRECTORY = int(Kind.DIRECTORY)


class Recent:
    """The objects that were looked up or listed last; right until they are taken out."""

    def __init__(self) -> None:
        self._last: dict[int, Node] = {}
        self._before: dict[int, Node] = {}
        """Those before: when there are many of the last ones, they take the place of these."""
        self._listed: deque[list[NodeRow]] = deque()
        """What was listed last, as it was read: most of it is never asked for, and the rest is taken in then."""
        self._listed_count = 0

    def add(self, node: Node) -> None:
        self._last[node.ino] = node
        self._limit()

    def add_listed(self, rows: list[NodeRow]) -> None:
        """Directories among them are not kept, nor what is too long to be listed (see catalog.nodes)."""
        self._listed.append(rows)
        self._listed_count += len(rows)
        while self._listed_count > _REMEMBERED:
            self._listed_count -= len(self._listed.popleft())

    def get(self, ino: int) -> Node | None:
        self._take_in_listed()
        return self._last.get(ino) or self._before.get(ino)

    def drop(self, ino: int) -> None:
        self._take_in_listed()
        self._last.pop(ino, None)
        self._before.pop(ino, None)

    def clear(self) -> None:
        self._last, self._before = {}, {}
        self._listed.clear()
        self._listed_count = 0

    def _limit(self) -> None:
        if len(self._last) > _REMEMBERED:
            self._last, self._before = {}, self._last

    def _take_in_listed(self) -> None:
        if self._listed:
            for rows in self._listed:
                whole = (row for row in rows if row[4] != _DIRECTORY and b"" not in row[-2:])
                self._last.update((row[0], Node._make(row)) for row in whole)
            self._listed.clear()
            self._listed_count = 0
            self._limit()
