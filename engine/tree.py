"""The store as a tree of inodes: what a filesystem calls. Each method but one is one transaction. For one thread."""

import os
from collections.abc import Collection
from contextlib import suppress
from typing import Protocol

from engine.catalog import eviction, facts, lifetimes, nodes, puts, renames, room, summaries
from engine.catalog.facts import Searches
from engine.catalog.room import Waiting
from engine.catalog.transaction import Transaction
from engine.contents import Contents
from engine.errors import (
    ExistsError,
    IsDirectoryError,
    NotDirectoryError,
    NotEmptyError,
    NotFoundError,
    NotPermittedError,
)
from engine.model import (
    NO_EFFECTS,
    Attributes,
    Effects,
    Kind,
    Node,
    NodeRow,
    Removed,
    ScopeKind,
    ScopeName,
    Space,
)
from engine.names import check_part, quoted
from engine.returned import Returned
from engine.sqlite.database import Database
from engine.sqlite.fullness import again_when_full, require_space


class First(Protocol):
    """Publishes what waits, before names are changed, or a node is (see Publisher.first).

    The last thing before the transaction: to ask for space may undo what was left open.
    """

    def __call__(self, *names: tuple[int, bytes], ino: int = 0) -> None: ...


class Tree:
    """Names and attributes. Names are bytes; a number `parent` is the inode of a directory."""

    def __init__(self, database: Database, contents: Contents, waiting: Waiting, first: First) -> None:
        self._database = database
        self._contents = contents
        self._waiting = waiting
        self._first = first
        self._expiring = lifetimes.Expiring(database)
        self._elsewhere = 0
        self._returned = Returned()

    @property
    def changes(self) -> int:
        """A number that is another after every change by this process, and every one that `note_change` tells of."""
        return self._database.writes.count + self._elsewhere

    def note_change(self) -> None:
        """Another process has changed something, or a run has come or gone other than by this tree."""
        self._elsewhere += 1
        self._expiring.forget()

    def node(self, ino: int) -> Node | None:
        return nodes.by_ino(self._database, ino)

    def child(self, parent: int, name: bytes) -> Node | None:
        return nodes.by_name(self._database, parent, name)

    def children(self, parent: int, after: bytes, limit: int) -> list[Node]:
        """Up to `limit` names of a directory in the order of their bytes, behind the name `after`."""
        return nodes.after_name(self._database, parent, after, limit)

    def rows(self, parent: int, after: bytes, limit: int) -> list[NodeRow]:
        """The same without making nodes of them, which is felt where there are many."""
        return nodes.rows_after_name(self._database, parent, after, limit)

    def expires_next(self, ino: int) -> bool:
        """Whether `ino` is a run that the start of one more would make expire, as far as `note_change` was told."""
        return self._expiring.is_next(ino)

    def next_victims(self, parent: int, puts: int = 1) -> list[Node]:
        """What so many Puts of new names in the directory `parent` would evict if they came now, the oldest first."""
        home, number = self._to_be_evicted(parent, puts)
        if number <= 0:
            return []
        return [Node._make(found) for found in self._database.rows(eviction.VICTIMS, (home, 0, number))]

    def last_victim_ns(self, parent: int, puts: int = 1) -> int:
        """When the last of these was put; 0 where there are none."""
        home, number = self._to_be_evicted(parent, puts)
        return eviction.put_ns_of(self._database, home, number) if number > 0 else 0

    def _to_be_evicted(self, parent: int, puts: int) -> tuple[int, int]:
        """The pipeline that a directory is in, and how many of its objects would have to make way for so many more."""
        home = lifetimes.home(self._database, parent)
        if home is None or home.kind != ScopeKind.PIPELINE or not home.object_limit:
            return 0, 0
        return home.ino, min(home.objects, home.objects + puts - home.object_limit)

    def require_possible(self, parent: int, size: int, replaced: int) -> None:
        """Raise QuotaError or StoreFullError where a value of so many bytes cannot fit (see catalog.room)."""
        room.require_possible(self._database, parent, size, replaced)

    def make_directory(
        self, parent: int, name: bytes, mode: int, uid: int, gid: int
    ) -> tuple[Node, Effects, list[Removed]]:
        """Make a directory; in /pipeline a pipeline, in /run a run.

        Returns it, what that did beside, and the runs that the next start will make expire.
        Raises ExistsError, NotFoundError, NotPermittedError in the root, InvalidError, NameTooLongError and
        OutOfSpaceError.
        """
        require_space(self._database, len(name))
        ino = self._contents.numbers.take()
        self._first((parent, name))
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            if parent in lifetimes.KIND_OF_HOME:
                scope = ScopeName(lifetimes.KIND_OF_HOME[parent], name)
                node = lifetimes.make(tx, ino, scope, mode, uid, gid)
                self._expiring.forget()
                return node, tx.effects(), lifetimes.next_to_expire(tx, ino)
            check_part(name)
            home = nodes.touch_directory(tx, parent)
            if nodes.by_name(self._database, parent, name) is not None:
                raise ExistsError("the name is taken")
            return nodes.new_directory(tx, ino, parent, name, home, mode, uid, gid), NO_EFFECTS, []

    def make_directories(self, ino: int, names: list[bytes], uid: int, gid: int) -> int:
        """Make directories one in the other, as far as they are missing: a transaction each. Returns the last of them.

        Raises as `make_directory`, and NotDirectoryError where something else has one of the names.
        """
        for name in names:
            while (found := self.child(ino, name)) is None:
                with suppress(ExistsError):  # another process was quicker
                    self.make_directory(ino, name, 0o755, uid, gid)
            if found.kind != Kind.DIRECTORY:
                raise NotDirectoryError(f"{quoted(name)} is an object: it cannot be a part of a longer key")
            ino = found.ino
        return ino

    def make_symlink(self, parent: int, name: bytes, target: bytes, uid: int, gid: int) -> Node:
        """Make a symlink. Raises as `make_directory`, and NotPermittedError outside pipelines and runs."""
        check_part(name)
        require_space(self._database, len(name) + len(target))
        ino = self._contents.numbers.take()
        self._first((parent, name))
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            scope = nodes.touch_directory(tx, parent)
            if nodes.by_name(self._database, parent, name) is not None:
                raise ExistsError("the name is taken")
            now = tx.now_ns
            node = Node(
                ino, parent, name, scope, Kind.SYMLINK, 0o777, uid, gid, len(target), now, now, now, 0, 0, target, None
            )
            nodes.insert(tx, node)
            return node

    @again_when_full
    def remove(self, parent: int, name: bytes) -> tuple[Node, Effects]:
        """Remove an object or a symlink. What it had displaced comes back.

        Returns what the name stood for. Raises NotFoundError and IsDirectoryError.
        """
        self._first((parent, name))
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            node = self._existing(parent, name)
            if node.kind == Kind.DIRECTORY:
                raise IsDirectoryError("this is a directory: rmdir removes it when it is empty")
            if node.kind == Kind.OBJECT:
                puts.remove(tx, node)
            else:
                nodes.touch_directory(tx, parent)
                nodes.delete(tx, node)
        self._returned.note(tx.restored)
        return node, tx.effects()

    @again_when_full
    def remove_directory(self, parent: int, name: bytes) -> Node:
        """Remove an empty directory, pipeline or run.

        Raises NotFoundError, NotDirectoryError, NotEmptyError, and NotPermittedError for the fixed ones.
        """
        self._first((parent, name))
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            node = self._existing(parent, name)
            if node.kind != Kind.DIRECTORY:
                raise NotDirectoryError("this is not a directory")
            if not node.scope:
                raise NotPermittedError("/pipeline and /run cannot be removed")
            self._returned.clear_from(tx, node)
            if not nodes.is_empty(self._database, node.ino):
                raise NotEmptyError("the directory is not empty")
            nodes.delete(tx, node)
            if node.scope == node.ino:
                lifetimes.drop(tx, node.ino)
                self._expiring.forget()
            tx.rows("UPDATE node SET mtime_ns = ?1, ctime_ns = ?1 WHERE ino = ?2", (tx.now_ns, parent))
            return node

    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, *, replace: bool
    ) -> tuple[Node | None, Effects]:
        """Rename, replacing what is there where `replace` says so. Returns what was replaced.

        Raises as renames.rename, and OutOfSpaceError for a longer name.
        """
        check_part(new_name)
        if len(new_name) > len(name):
            require_space(self._database, len(new_name))
        self._first((parent, name), (new_parent, new_name))
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            target = renames.rename(tx, parent, name, new_parent, new_name, self._waiting, replace=replace)
            return target, tx.effects()

    def exchange(self, parent: int, name: bytes, other_parent: int, other_name: bytes) -> Effects:
        """Swap two names. Raises as renames.exchange."""
        self._first((parent, name), (other_parent, other_name))
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            renames.exchange(tx, parent, name, other_parent, other_name, self._waiting)
            return tx.effects()

    def set_attributes(self, ino: int, attributes: Attributes, owner: int | None = None) -> Node:
        """Set what `attributes` names; no Put.

        Raises NotFoundError, and NotPermittedError where it is not the `owner`'s, who may have had it a moment ago.
        """
        self._first(ino=ino)
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            return nodes.set_attributes(tx, ino, attributes, owner)

    @again_when_full
    def set_xattrs(self, ino: int, packed: bytes | None) -> None:
        """Replace all extended attributes of a node (see engine.xattrs). Raises NotFoundError and OutOfSpaceError."""
        before = self.node(ino)
        if packed and before is not None and len(packed) > len(before.xattrs or b""):
            require_space(self._database, len(packed))
        self._first(ino=ino)
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            tx.rows("UPDATE node SET xattrs = ? WHERE ino = ?", (packed, ino))
            nodes.set_attributes(tx, ino, Attributes())

    def fact(self, node: Node, name: str, searches: Searches | None = None) -> bytes:
        """What the store knows of a node beside its attributes (see facts.get). Raises NoAttributeError."""
        return facts.get(self._database, node, name, searches)

    def space(self, scopes: Collection[ScopeName] = ()) -> Space:
        """How full the store is: the disk that it is on, and in the file what can be used again.

        Where there are limits in bytes, no more than they leave: that of the store, and of the pipeline that is all of
        `scopes`. With those, no more is told of names than how many objects these pipelines and runs hold.
        """
        path = self._database.path
        if scopes:
            names = summaries.objects_in(self._database, scopes)
        else:
            names = self._database.value("SELECT max(rowid) FROM node")
        disk = os.statvfs(path.parent if path is not None else "/")
        again = self._database.unused_bytes
        total = disk.f_blocks * disk.f_frsize
        free = disk.f_bfree * disk.f_frsize + again
        available = disk.f_bavail * disk.f_frsize + again
        only = next(iter(scopes)) if len(scopes) == 1 else None
        pipeline = only.name if only is not None and only.kind is ScopeKind.PIPELINE else None
        for used, most in summaries.limits_in_bytes(self._database, pipeline):
            total = min(total, most)
            free = min(free, max(0, most - used))
            available = min(available, free)
        return Space(total, free, available, names)

    def _existing(self, parent: int, name: bytes) -> Node:
        node = nodes.by_name(self._database, parent, name)
        if node is None:
            raise NotFoundError("there is no such name")
        return node
