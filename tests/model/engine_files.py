"""Open files for the machine on the engine alone: drafts, prepared at each close, published at the last, as by a mount.

Which handles share a copy is the mount's affair: here the reference says so.
"""

import dataclasses
import errno
from dataclasses import dataclass

from engine import Effects, Store
from engine.catalog import lifetimes
from engine.catalog.puts import How, Put
from engine.drafts import SMALL_BYTES, Draft
from engine.errors import IsDirectoryError, NotDirectoryError, NotFoundError, QuotaError, StoreError
from engine.model import ROOT_INO, Kind, Node
from fusefs.errnos import errno_of
from tests.model.copies import MODES
from tests.model.copies import How as Expected
from tests.model.limits import Changes
from tests.model.processes import Model
from tests.model.tree import Path

_HOW = {Expected.REPLACE: How.REPLACE, Expected.IF_ABSENT: How.IF_ABSENT, Expected.APPEND: How.APPEND}


@dataclass(eq=False)
class Private:
    """A value on its way to a name, as a mount keeps one."""

    number: int
    put: Put
    draft: Draft
    base: Node | None
    changed: bool = True
    prepared: bool = False
    has_intent: bool = False
    unlinked: bool = False
    failed: int = 0


@dataclass(eq=False)
class Open:
    """An open file description."""

    peeks: bool = False
    """It reads what its process is creating."""
    private: Private | None = None
    node: Node | None = None


class EngineFiles:
    """The files of one store that processes have open; a process is nothing but a name."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.changes: Changes | None = Changes()
        """What the store said of evictions and the like; None where nobody said anything."""
        self.open_files: dict[int, tuple[str, Open]] = {}
        self._model: Model
        self._new: set[int] = set()
        self._detached: set[int] = set()
        self._notes: dict[int, bytes | None] = {}

    def before(self, model: Model) -> None:
        """Whose copies are of new names, or of lost ones, and of which file: as with `after`."""
        copies = [handle.copy for handle in model.handles() if handle.copy is not None]
        self._new = {copy.number for copy in copies if copy.creates}
        self._detached = {copy.number for copy in copies if not copy.attached}
        self._notes = {copy.number: copy.file.note or None for copy in copies}

    def after(self, model: Model) -> None:
        """Who shares a copy with whom is the mount's affair: the reference says so."""
        self._model = model

    # Finding

    def node(self, path: Path) -> Node:
        node = self.store.tree.node(ROOT_INO)
        assert node is not None
        for name in path:
            if node.kind == Kind.SYMLINK:
                raise NotFoundError("it leads nowhere")
            if node.kind != Kind.DIRECTORY:
                raise NotDirectoryError("this is no directory")
            node = self.store.tree.child(node.ino, name)
            if node is None:
                raise NotFoundError("there is no such name")
        return node

    def parent(self, path: Path) -> int:
        node = self.node(path[:-1])
        if node.kind == Kind.SYMLINK:
            raise NotFoundError("it leads nowhere")
        if node.kind != Kind.DIRECTORY:
            raise NotDirectoryError("this is no directory")
        return node.ino

    def creating(self, process: str | None, parent: int, name: bytes) -> list[Private]:
        return [found for found in self.written(process, parent, name) if found.number in self._new]

    def attached(self, process: str | None, parent: int, name: bytes) -> list[Private]:
        """What is open for writing under a name, and goes where it goes."""
        return [found for found in self.written(process, parent, name) if found.number not in self._detached]

    def written(self, process: str | None, parent: int, name: bytes) -> list[Private]:
        """What is open for writing under a name."""
        found = [
            opened.private
            for who, opened in self.open_files.values()
            if opened.private is not None
            and not opened.peeks
            and not opened.private.unlinked
            and process in (None, who)
            and (opened.private.put.parent, opened.private.put.name) == (parent, name)
        ]
        return list(dict.fromkeys(found))

    def note(self, effects: Effects) -> None:
        assert self.changes is not None
        self.changes.evicted += [gone.path for gone in effects.evicted]
        self.changes.expired += [gone.path for gone in effects.expired]
        self.changes.restored += [back.path for back in effects.restored]

    # Files

    def start(self, process: str) -> None:
        """A process is nothing but a name here."""

    def open(self, fd: int, process: str, path: Path, mode: str) -> None:
        how, parent, name = MODES[mode], self.parent(path), path[-1]
        node = self.store.tree.child(parent, name)
        pending = self.creating(None, parent, name)
        if how.exclusive and (node is not None or pending):
            raise FileExistsError(errno.EEXIST, "taken")
        if node is not None and node.kind != Kind.OBJECT:
            raise OSError(errno.ENOENT if node.kind == Kind.SYMLINK else errno.EISDIR, "no object")
        if node is None and not self.creating(process, parent, name) and not how.create:
            raise FileNotFoundError(errno.ENOENT, "no such name")
        opened = Open(how.read_only)
        expected = self._model.descriptors[fd].handle.copy
        if expected is None:
            opened.node = self._read(parent, name, node)
        else:
            same = [found.private for _, found in self.open_files.values() if found.private is not None]
            opened.private = next((found for found in same if found.number == expected.number), None)
            if opened.private is None:
                opened.private = self._begin(expected.number, _HOW[expected.how], parent, name, node, how.replaces)
            elif how.truncate:
                if opened.private.failed and opened.private.draft.size:
                    raise OSError(opened.private.failed, "refused before")
                self._change(opened.private)
                opened.private.draft.truncate(0)
        self.open_files[fd] = process, opened

    def _read(self, parent: int, name: bytes, node: Node | None) -> Node:
        if node is None:
            put = Put(self.store.contents.numbers.take(), parent, name, 0o644, 0, 0, how=How.IF_ABSENT)
            published = self.store.publisher.publish(put, Draft(self.store.contents))
            self.note(published.effects)
            node = published.node
        self.store.contents.pin(node.content)
        return node

    def _begin(self, number: int, how: How, parent: int, name: bytes, node: Node | None, replaces: bool) -> Private:
        contents = self.store.contents
        put = Put(contents.numbers.take(), parent, name, 0o644, 0, 0, how=how)
        edits = node is not None and not replaces and how is not How.APPEND
        draft = Draft(contents, node.content, node.size) if edits and node is not None else Draft(contents)
        if node is not None:
            contents.pin(node.content)
        return Private(number, put, draft, node, changed=node is None or replaces)

    def duplicate(self, fd: int, new: int) -> None:
        self.open_files[new] = self.open_files[fd]

    def write(self, fd: int, offset: int, data: bytes) -> None:
        private = self._writable(fd)
        size = offset + len(data) + (private.base.size if private.base is not None and self._appends(private) else 0)
        if size > SMALL_BYTES and not private.unlinked:
            try:
                self.store.tree.require_possible(private.put.parent, size, 0)
            except QuotaError:
                self._spoil(private, errno.EDQUOT)
                raise
        self._change(private)
        private.draft.write(offset, data)

    def _appends(self, private: Private) -> bool:
        return private.put.how is How.APPEND

    def _spoil(self, private: Private, number: int) -> None:
        """As a mount does: with a part missing it is never published."""
        private.failed = number
        if private.has_intent:
            self.store.publisher.retract(private.put.ino, private.draft, private.number)
            private.has_intent = False

    def append(self, fd: int, data: bytes) -> None:
        self.write(fd, self._writable(fd).draft.size, data)

    def truncate(self, fd: int, size: int) -> None:
        private = self._writable(fd)
        if private.put.how is How.APPEND:
            # As a mount does: it becomes an edit of what it showed.
            whole = self._value(private)
            self.store.publisher.abandon(private.draft, private.put.ino, private.number if private.has_intent else None)
            private.put.how, private.has_intent = How.REPLACE, False
            private.draft = Draft(self.store.contents)
            private.draft.write(0, whole)
        self._change(private)
        private.draft.truncate(size)

    def _writable(self, fd: int) -> Private:
        private = self.open_files[fd][1].private
        assert private is not None
        if private.failed:
            raise OSError(private.failed, "refused before")
        return private

    def _change(self, private: Private) -> None:
        if private.has_intent and private.draft.large is not None:
            self.store.publisher.retract(private.put.ino, private.draft, private.number)
            private.has_intent = False
        private.changed, private.prepared = True, False
        if private.put.how is How.IF_ABSENT:
            private.put.how = How.REPLACE

    def fsync(self, fd: int) -> None:
        private = self.open_files[fd][1].private
        if private is None or self.open_files[fd][1].peeks:
            return
        if private.failed:
            raise OSError(private.failed, "refused before")
        if private.changed and not private.unlinked:
            self.publish(private, last=False)

    def publish(self, private: Private, *, last: bool) -> None:
        put = private.put
        intent = (put.ino, private.number) if private.has_intent else None
        if not last:
            put = dataclasses.replace(put, ino=self.store.contents.numbers.take())
        put.xattrs = self._notes.get(private.number)
        published = self.store.publisher.publish(put, private.draft, intent)
        private.changed = private.prepared = private.has_intent = False
        self.note(published.effects)
        self._rebase(private, published.node)
        if put.how is How.APPEND:
            private.draft.close()
            private.draft = Draft(self.store.contents)
        elif put.how is How.IF_ABSENT:
            private.put.how = How.REPLACE

    def _rebase(self, private: Private, node: Node) -> None:
        if private.base is not None:
            self.store.contents.unpin(private.base.content)
        private.base = node
        self.store.contents.pin(node.content)

    def close(self, fd: int) -> int:
        _, opened = self.open_files.pop(fd)
        private = opened.private
        still_open = [found for _, found in self.open_files.values()]
        if private is None:
            assert opened.node is not None
            if opened not in still_open:
                self.store.contents.unpin(opened.node.content)
            return 0
        if opened.peeks:
            return 0
        result = self._flush(private)
        if all(found.private is not private or found.peeks for found in still_open):
            self._finish(private)
        return result

    def _flush(self, private: Private) -> int:
        note = self._notes.get(private.number)
        as_kept = private.prepared and private.put.xattrs == note
        if private.failed or not private.changed or private.unlinked:
            return private.failed
        try:
            self._require_place(private.put)
            if as_kept:
                return 0
            private.put.xattrs = note
            self.store.publisher.prepare(private.put, private.draft, private.number)
        except (IsDirectoryError, NotFoundError, QuotaError) as error:
            self._spoil(private, errno_of(error))
            return private.failed
        private.prepared = private.has_intent = True
        return 0

    def _require_place(self, put: Put) -> None:
        lifetimes.require_home(self.store.database, put.parent)
        present = self.store.tree.child(put.parent, put.name)
        if present is not None and present.kind == Kind.DIRECTORY:
            raise IsDirectoryError("a directory has the name by now")

    def _finish(self, private: Private) -> None:
        if private.changed and not private.unlinked and not private.failed:
            try:
                self.publish(private, last=True)
                self._keep_for_peeking(private)
            except StoreError:
                private.failed = errno.EIO
        self.store.publisher.abandon(private.draft, private.put.ino, private.number if private.has_intent else None)
        if private.base is not None:
            self.store.contents.unpin(private.base.content)

    def _keep_for_peeking(self, private: Private) -> None:
        """Who reads what its process has published goes on reading that, whatever becomes of the name."""
        node = private.base
        assert node is not None
        if private.draft.size == node.size:  # else the name had another value already
            for _, opened in self.open_files.values():
                if opened.private is private:
                    opened.private, opened.node = None, node
                    self.store.contents.pin(node.content)

    def end(self, process: str) -> None:
        """Its files are closed one by one before."""

    # Looking

    def look(self, model: Model, paths: list[Path]) -> tuple[dict[int, bytes], dict[str, set[Path]]]:
        """What the handles read. Who sees a name that is new is the mount's affair."""
        values = {}
        for fd, (_, opened) in self.open_files.items():
            if opened.private is not None:
                values[fd] = self._value(opened.private)
            elif opened.node is not None:
                values[fd] = self.store.contents.read(opened.node.content, 0, opened.node.size)
        return values, {process: {path for path in paths if model.sees(process, path)} for process in model.processes}

    def _value(self, private: Private) -> bytes:
        value = private.draft.read(0, private.draft.size)
        if private.put.how is How.APPEND and private.base is not None:
            return self.store.contents.read(private.base.content, 0, private.base.size) + value
        return value
