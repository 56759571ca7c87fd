"""The store: opening one, and its objects by pipeline or run and key, as Gofer had them.

What a filesystem needs is in `Store.tree`, `Store.publisher`, `Store.contents` and `Store.upkeep`. A store belongs to
the thread that opened it.
"""

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from engine import listing, reading
from engine.catalog import lifetimes, lowering, nodes, summaries
from engine.catalog.puts import How, Put
from engine.catalog.transaction import Transaction
from engine.contents import Contents
from engine.drafts import SMALL_BYTES, Draft
from engine.errors import (
    DamagedError,
    ExistsError,
    InvalidError,
    IsDirectoryError,
    NotEmptyError,
    NotFoundError,
    StoreError,
    TooLargeError,
)
from engine.model import Effects, Kind, Node, ObjectInfo, PipelineInfo, RunInfo, ScopeKind, ScopeName
from engine.names import check_scope_name, quoted, split_key
from engine.publishing import Publisher
from engine.sessions import Sessions
from engine.sqlite.database import Database
from engine.sqlite.files import Files
from engine.sqlite.fullness import require_space
from engine.sqlite.small import read_small
from engine.tree import Tree
from engine.upkeep import Upkeep

if TYPE_CHECKING:
    from engine.interface import ObjectEngine

_STORE_BYTES = 4 * 1024 * 1024
_CLOSING_S = 0.25
"""How long closing a store goes on with its upkeep: what is left is for the next process."""


class Store:
    """An open store. Made by `engine.open_store`."""

    def __init__(self, database: Database, engine: "ObjectEngine", *, syncs_closes: bool = False) -> None:
        """`syncs_closes`: what is acknowledged survives a power cut from then on, and not only once it is synced."""
        self.syncs_closes = syncs_closes and database.path is not None
        self.database = database
        self.engine = engine
        self.sessions = Sessions(database)
        self.contents = Contents(database, engine, self.sessions)
        self.publisher = Publisher(database, self.contents, journaled=not self.syncs_closes)
        self.tree = Tree(database, self.contents, self.publisher.waiting, self.publisher.first)
        self.upkeep = Upkeep(database, self.contents)
        self.opening_effects: list[Effects] = []
        """What opening it did beside: for whoever opened it to tell."""
        self._files = Files(database.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish what can be finished now and let go of the store."""
        try:
            if not self.database.read_only:
                until = time.monotonic() + _CLOSING_S
                with suppress(DamagedError):  # a damaged store can be closed as well
                    while (self.upkeep.sweep() or self.upkeep.reclaim()) and time.monotonic() < until:
                        pass
                self.publisher.close()
                self.sessions.end()
        finally:
            self.sessions.close()
            self.engine.close()
            self.database.close()

    def look_at_files(self) -> Path | None:
        """Refuse to write, with InternalError, as long as a file of the store is gone or replaced; returns that one."""
        lost = self._files.lost(self.publisher.journal_path)
        self.database.writes.refused = f"{lost} was deleted or replaced while the store is open" if lost else ""
        return lost

    def sync(self) -> None:
        """Return once everything done so far survives a power cut. Waits for the disk."""
        if not self.contents.shares_catalog:
            self.engine.sync()
        self.database.log.sync()
        self.look_at_files()
        self.database.writes.require_allowed()

    @property
    def max_object_size(self) -> int:
        """The most bytes that an object may have; 0: no limit."""
        return int(self.database.value("SELECT max_object_size FROM store"))

    def _transaction(self) -> Transaction:
        return Transaction(self.database, self.sessions.own)

    # Pipelines

    def create_pipeline(
        self, name: bytes, limit: int | None = None, max_bytes: int | None = None, *, uid: int = 0, gid: int = 0
    ) -> None:
        """Make a pipeline, with limits as in `set_limit` and `set_max_bytes`. Raises ExistsError and InvalidError."""
        summaries.check_limit(limit)
        summaries.check_max_bytes(max_bytes)
        require_space(self.database, len(name))
        ino, scope = self.contents.numbers.take(), ScopeName.pipeline(name)
        with self.database.write():
            tx = self._transaction()
            lifetimes.make(tx, ino, scope, 0o755, uid, gid, object_limit=limit, max_bytes=max_bytes)

    def delete_pipeline(self, name: bytes, force: bool = False) -> None:
        """Remove a pipeline, with `force` also one that holds something. Raises NotFoundError and NotEmptyError."""
        self.publisher.first(*([] if force else [(lifetimes.HOME[ScopeKind.PIPELINE], name)]))
        with self.database.write():
            ino = lifetimes.find(self.database, ScopeName.pipeline(name))
            if not force and not nodes.is_empty(self.database, ino):
                raise NotEmptyError(f"the pipeline {name.decode()} is not empty: --force deletes it with its objects")
            lifetimes.doom(self._transaction(), ino, lifetimes.HOME[ScopeKind.PIPELINE], name)

    def list_pipelines(self) -> list[PipelineInfo]:
        """All pipelines, by name."""
        return summaries.pipelines(self.database)

    def set_limit(self, name: bytes, limit: int | None) -> Effects:
        """Let a pipeline hold at most `limit` objects, evicting at once. 0: no limit; None: what the store says.

        Raises NotFoundError and InvalidError.
        """
        summaries.check_limit(limit)
        self.publisher.first()
        with self.database.write():
            ino = lifetimes.find(self.database, ScopeName.pipeline(name))
            tx = self._transaction()
            tx.rows("UPDATE scope SET object_limit = ? WHERE ino = ?", (limit, ino))
            lowering.lower(tx, ino, lifetimes.count(tx, ino, 0, 0).too_many)
            return tx.effects()

    def set_max_bytes(self, name: bytes, max_bytes: int | None) -> None:
        """As `set_limit`, for the bytes of all its values. Evicts nothing: what would add to too many is refused."""
        summaries.check_max_bytes(max_bytes)
        with self.database.write():
            ino = lifetimes.find(self.database, ScopeName.pipeline(name))
            self.database.rows("UPDATE scope SET max_bytes = ? WHERE ino = ?", (max_bytes, ino))

    # Runs

    def start_run(self, name: bytes, pipeline: bytes | None = None, *, uid: int = 0, gid: int = 0) -> Effects:
        """Start a run, which does not expire before `finish_run`; older ones may. Raises ExistsError, InvalidError."""
        require_space(self.database, len(name))
        ino = self.contents.numbers.take()
        with self.database.write():
            tx = self._transaction()
            scope = ScopeName.run(name)
            lifetimes.make(tx, ino, scope, 0o755, uid, gid, pipeline=pipeline, protected=True)
            self.tree.note_change()
            return tx.effects()

    def finish_run(self, name: bytes) -> Effects:
        """Let a run expire once its time has come, which may be now. Raises NotFoundError."""
        with self.database.write():
            ino = lifetimes.find(self.database, ScopeName.run(name))
            tx = self._transaction()
            row = tx.rows("UPDATE scope SET protected = 0 WHERE ino = ? RETURNING pipeline", (ino,))[0]
            lifetimes.expire(tx, row[0])
            self.tree.note_change()
            return tx.effects()

    def list_runs(self) -> list[RunInfo]:
        """All runs that have not expired, oldest first."""
        return summaries.runs(self.database)

    # Objects

    def put_object(
        self,
        scope: ScopeName,
        key: bytes,
        content: bytes | Iterable[bytes],
        force: bool = False,
        *,
        uid: int = 0,
        gid: int = 0,
    ) -> Effects:
        """Put a value under a key, making the directories that it needs. The value is there whole, or not at all.

        Raises ExistsError without `force` when the key has a value, NotFoundError for an unknown pipeline or run,
        IsDirectoryError, NotDirectoryError, InvalidError, NameTooLongError, TooLargeError, QuotaError, StoreFullError
        and OutOfSpaceError.
        """
        *directories, name = split_key(key)
        home = lifetimes.find(self.database, scope)
        draft = Draft(self.contents)
        try:
            if isinstance(content, bytes) and len(content) <= SMALL_BYTES:
                draft.write(0, content)
            else:
                # What can be known before the value is read, which may take long.
                replaced = self._require_replaceable(self._find(home, split_key(key)), scope, key, force)
                self._fill(draft, [content] if isinstance(content, bytes) else content, home, replaced)
            parent = self.tree.make_directories(home, directories, uid, gid)
            how = How.REPLACE if force else How.CREATE
            put = Put(self.contents.numbers.take(), parent, name, 0o644, uid, gid, how=how, keeps_attributes=True)
            try:
                effects = self.publisher.publish(put, draft).effects
            except (ExistsError, IsDirectoryError):
                self._require_replaceable(self.tree.child(parent, name), scope, key, force)
                raise
        finally:
            self.publisher.abandon(draft)
        if self.syncs_closes:
            self.sync()
        with suppress(StoreError):  # a program that puts a lot may do nothing else, and its value is put
            self.upkeep.checkpoint()
        return effects

    def _require_replaceable(self, old: Node | None, scope: ScopeName, key: bytes, force: bool) -> int:
        """Returns the size of what a Put of a key is going to replace. Raises IsDirectoryError and ExistsError."""
        if old is not None and old.kind == Kind.DIRECTORY:
            raise IsDirectoryError(f"{quoted(key)} is a directory in {scope}")
        if old is not None and not force:
            raise ExistsError(f"{scope} has an object {quoted(key)} already: --force replaces it")
        return old.size if old is not None and old.kind == Kind.OBJECT else 0

    def _fill(self, draft: Draft, pieces: Iterable[bytes], home: int, replaced: int) -> None:
        most = self.max_object_size
        for piece in pieces:
            size = draft.size + len(piece)
            if most and size > most:
                raise TooLargeError(f"the value is larger than max_object_size, {most} bytes")
            if size > SMALL_BYTES:
                self.tree.require_possible(home, size, replaced)
            draft.write(draft.size, piece)
            if draft.large is not None and draft.large.unstored_bytes >= _STORE_BYTES:
                draft.large.store(draft.large.take(whole=True))

    def read_object(self, scope: ScopeName, key: bytes) -> Generator[bytes]:
        """The value of a key, in pieces: one value, whatever is put meanwhile.

        Raises NotFoundError and IsDirectoryError. To be read to its end, or closed, before the store is.
        """
        if self.contents.shares_catalog:
            check_scope_name(scope.kind.name.lower(), scope.name)
            home = lifetimes.HOME[scope.kind]
            small = read_small(self.database, home, scope.name, split_key(key))
            if small is not None:
                return reading.whole(small)
        return reading.of_one_moment(self, scope, key)

    def list_objects(self, scope: ScopeName, prefix: bytes = b"") -> Iterator[ObjectInfo]:
        """The objects of a pipeline or run whose keys begin with `prefix`, literally, in the order of their bytes."""
        return listing.objects(self.tree, lifetimes.find(self.database, scope), prefix)

    def object_info(self, scope: ScopeName, key: bytes) -> ObjectInfo:
        """One object as a listing shows it. Raises NotFoundError and IsDirectoryError."""
        return listing.info(self.find_object(scope, key), key)

    def delete_object(self, scope: ScopeName, key: bytes) -> Effects:
        """Delete an object. Raises NotFoundError and IsDirectoryError."""
        node = self.find_object(scope, key)
        return self.tree.remove(node.parent, node.name)[1]

    def find_object(self, scope: ScopeName, key: bytes) -> Node:
        """Raises NotFoundError, IsDirectoryError, and InvalidError for a symlink."""
        node = self._find(lifetimes.find(self.database, scope), split_key(key))
        if node is None:
            raise NotFoundError(f"{scope} has no object {quoted(key)}")
        if node.kind == Kind.DIRECTORY:
            raise IsDirectoryError(f"{quoted(key)} is a directory in {scope}")
        if node.kind == Kind.SYMLINK:
            raise InvalidError(f"{quoted(key)} is a symlink in {scope}: read it through a mount")
        return node

    def _find(self, ino: int, parts: list[bytes]) -> Node | None:
        node: Node | None = None
        for part in parts:
            node = self.tree.child(ino if node is None else node.ino, part)
            if node is None:
                return None
        return node
