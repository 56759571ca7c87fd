"""What of the store a mount shows: all of it, or some pipelines and runs alone.

In a mount of the second kind the directories above those are fixed: nobody can make, remove, rename or change anything
in them, nor read there what the store tells of others. What is inside the pipelines and runs is as in any mount. The
kernel can ask by number for an inode that this mount never showed it (open_by_handle_at(2)), so numbers are checked too
where they may come from outside: in a look-up of "." or "..".
"""

import contextlib
import os
from collections.abc import Collection

from engine.catalog.lifetimes import HOME, KIND_OF_HOME
from engine.errors import ExistsError, NotFoundError, NotPermittedError
from engine.model import ROOT_INO, Effects, Node, ScopeKind, ScopeName
from engine.store import Store

_NAMES_OF_HOMES = {b"pipeline": ScopeKind.PIPELINE, b"run": ScopeKind.RUN}
_FIXED = {ROOT_INO, *KIND_OF_HOME}


class Scope:
    """The pipelines and runs that a mount shows. Without any, it shows the whole store."""

    def __init__(self, names: Collection[ScopeName] = ()) -> None:
        self.names = frozenset(names)
        """Empty for the whole store."""
        self._kinds = {name.kind for name in names}

    def __bool__(self) -> bool:
        """Whether it shows less than the whole store."""
        return bool(self.names)

    def shows(self, parent: int, name: bytes) -> bool:
        """Whether a name in a directory that was shown is shown, too, should it exist."""
        if not self.names or parent not in _FIXED:
            return True
        if parent == ROOT_INO:
            return _NAMES_OF_HOMES.get(name) in self._kinds
        return ScopeName(KIND_OF_HOME[parent], name) in self.names

    def holds(self, node: Node, store: Store) -> bool:
        """Whether an inode is one that can be reached by the names that are shown."""
        if not self.names or node.ino == ROOT_INO:
            return True
        if node.ino in KIND_OF_HOME:
            return KIND_OF_HOME[node.ino] in self._kinds
        top = store.tree.node(node.scope)
        return top is not None and top.parent in KIND_OF_HOME and self.shows(top.parent, top.name)

    def fixes(self, ino: int) -> bool:
        """Whether a directory is not to be changed through this mount, nor asked for what the store tells of it."""
        return bool(self.names) and ino in _FIXED

    def check_change(self, *parents: int) -> None:
        """Raise NotPermittedError where names in one of these directories are not to be made, removed or renamed."""
        if any(map(self.fixes, parents)):
            raise NotPermittedError("this mount shows some pipelines and runs alone, and they are fixed")

    def make_missing(self, store: Store, mode: int) -> list[Effects]:
        """Make those that are not there, with these permissions, for the user of this process.

        Returns what that did beside: a run that starts may make others expire. Raises StoreError.
        """
        effects = []
        for name in self._missing(store):
            with contextlib.suppress(ExistsError):  # another process was quicker
                made = store.tree.make_directory(HOME[name.kind], name.name, mode, os.geteuid(), os.getegid())
                effects.append(made[1])
        return effects

    def require(self, store: Store) -> None:
        """Raise NotFoundError where one of them is not there."""
        for name in self._missing(store):
            raise NotFoundError(f"there is no {name}, and a read-only mount makes none: make it first")

    def _missing(self, store: Store) -> list[ScopeName]:
        wanted = sorted(self.names, key=lambda name: (name.kind, name.name))
        return [name for name in wanted if store.tree.child(HOME[name.kind], name.name) is None]
