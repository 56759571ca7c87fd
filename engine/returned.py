"""What came back into a directory while somebody was emptying it: `rm -r` could not know of it."""

import time
from collections.abc import Iterable

from engine.catalog import lifetimes, nodes
from engine.catalog.transaction import Transaction
from engine.model import Kind, Node, Removed

_FORGIVEN_S = 60
"""How long an object that came back does not keep its directory from being removed."""

_AT_MOST = 64


class Returned:
    """The objects that came back because of a deletion in this process."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        """When each did, by inode."""

    def note(self, objects: Iterable[Removed]) -> None:
        """These came back."""
        now = time.monotonic()
        for back in objects:
            self._since[back.ino] = now

    def clear_from(self, tx: Transaction, directory: Node) -> None:
        """Remove them from a directory that holds nothing else."""
        since = time.monotonic() - _FORGIVEN_S
        self._since = {ino: moment for ino, moment in self._since.items() if moment > since}
        left = nodes.after_name(tx.database, directory.ino, b"", _AT_MOST) if self._since else []
        if all(node.ino in self._since for node in left):
            for node in left:
                nodes.delete(tx, node)
                lifetimes.count(tx, node.scope, -1, -node.size if node.kind == Kind.OBJECT else 0)
                tx.evicted.append(nodes.removed(tx.database, node))
