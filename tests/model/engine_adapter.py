"""The engine for the machine, used as a mount uses it; a process is nothing but a name here."""

import errno
import itertools
import shutil
import tempfile
from pathlib import Path as FilePath

from engine import ScopeName
from engine.model import ROOT_INO, Kind, Node
from tests.model.engine_files import EngineFiles, Private
from tests.model.limits import Changes
from tests.model.tree import Listing, Path
from tests.support.invariants import check_nothing_left, check_store
from tests.support.stores import Stores, forget_displaced, reclaim_all


class EngineAdapter(EngineFiles):
    """One store in this process."""

    has_processes = False
    lags = False
    lags_seconds = 0.0

    def __init__(self, engine: str, limit: int, expiry: int) -> None:
        self.can_reopen = engine == "sqlite"
        self._directory = FilePath(tempfile.mkdtemp())
        self._stores = Stores(self._directory)
        super().__init__(self._stores.open(engine=engine, pipeline_object_limit=limit, run_object_expiry=expiry))
        self._lives = itertools.count(1)

    def finish(self) -> None:
        try:
            for fd in list(self.open_files):
                self.close(fd)
            check_nothing_left(self.store)
            self._stores.finish()
        finally:
            shutil.rmtree(self._directory)

    def done(self) -> None:
        """A step is over, and was looked at."""
        self.changes = Changes()

    # Names

    def mkdir(self, process: str, path: Path) -> None:
        parent = self.parent(path)
        if self.creating(None, parent, path[-1]):
            raise FileExistsError(errno.EEXIST, "being created")
        _, effects, _ = self.store.tree.make_directory(parent, path[-1], 0o755, 0, 0)
        self.note(effects)

    def rmdir(self, process: str, path: Path) -> None:
        parent = self.parent(path)
        if self.store.tree.child(parent, path[-1]) is None and self.creating(process, parent, path[-1]):
            raise NotADirectoryError(errno.ENOTDIR, "being created")
        self.store.tree.remove_directory(parent, path[-1])

    def symlink(self, process: str, path: Path) -> None:
        parent = self.parent(path)
        if self.creating(None, parent, path[-1]):
            raise FileExistsError(errno.EEXIST, "being created")
        self.store.tree.make_symlink(parent, path[-1], b"nowhere/at/all", 0, 0)

    def unlink(self, process: str, path: Path) -> None:
        parent, name = self.parent(path), path[-1]
        own = self.written(process, parent, name)
        if self.store.tree.child(parent, name) is not None or not own:
            self.note(self.store.tree.remove(parent, name)[1])
        for private in own:
            private.unlinked = True
            if private.has_intent:
                self.store.publisher.retract(private.put.ino, private.draft, private.number)
                private.has_intent = False

    def move(self, process: str, old: Path, new: Path, replace: bool) -> None:
        parent, new_parent = self.parent(old), self.parent(new)
        own = self.attached(process, parent, old[-1])
        target = self.store.tree.child(new_parent, new[-1])
        if self.store.tree.child(parent, old[-1]) is None and own:
            if (parent, old[-1]) == (new_parent, new[-1]) and replace:
                return
            taken = target is not None or self.creating(process, new_parent, new[-1])
            if taken and not replace:
                raise FileExistsError(errno.EEXIST, "taken")
            self._move_pending(own[0], new_parent, new[-1])
        else:
            if target is None and self.creating(process, new_parent, new[-1]):
                self._check_onto_pending(self.node(old), replace)
            self.note(self.store.tree.rename(parent, old[-1], new_parent, new[-1], replace=replace)[1])
        for private in own:
            private.put.parent, private.put.name = new_parent, new[-1]

    def _check_onto_pending(self, node: Node, replace: bool) -> None:
        if not replace:
            raise FileExistsError(errno.EEXIST, "being created")
        if node.kind == Kind.DIRECTORY:
            raise NotADirectoryError(errno.ENOTDIR, "being created")

    def _move_pending(self, private: Private, parent: int, name: bytes) -> None:
        before = private.put.parent, private.put.name
        private.put.parent, private.put.name = parent, name
        try:
            if private.changed:
                self.publish(private, last=False)
        except BaseException:
            private.put.parent, private.put.name = before
            raise

    def swap(self, process: str, one: Path, other: Path) -> None:
        parent, other_parent = self.parent(one), self.parent(other)
        if one == other and self.creating(process, parent, one[-1]):
            return
        for at in ((parent, one[-1]), (other_parent, other[-1])):
            if self.store.tree.child(*at) is None and self.creating(process, *at):
                raise OSError(errno.EINVAL, "being created")
        self.note(self.store.tree.exchange(parent, one[-1], other_parent, other[-1]))

    def set_note(self, path: Path, note: bytes) -> None:
        self.store.tree.set_xattrs(self.node(path).ino, note)

    # The command

    def set_limit(self, name: bytes, limit: int | None) -> None:
        self.note(self.store.set_limit(name, limit))

    def set_max_bytes(self, name: bytes, max_bytes: int) -> None:
        self.store.set_max_bytes(name, max_bytes)

    def start_run(self, name: bytes, group: bytes | None) -> None:
        self.note(self.store.start_run(name, group))

    def finish_run(self, name: bytes) -> None:
        self.note(self.store.finish_run(name))

    def put_beside(self, path: Path, value: bytes, force: bool) -> None:
        scope = (ScopeName.pipeline if path[0] == b"pipeline" else ScopeName.run)(path[1])
        content = iter([value[:1], value[1:]]) if len(value) % 2 else value
        self.note(self.store.put_object(scope, b"/".join(path[2:]), content, force=force))

    def delete_pipeline(self, name: bytes, force: bool) -> None:
        self.store.delete_pipeline(name, force=force)

    # Behind the scenes

    def tidy_up(self, everything: bool) -> None:
        reclaim_all(self.store)
        if everything:
            forget_displaced(self.store)

    def remount(self, limit: int, expiry: int) -> None:
        self.changes = None
        self.store = self._stores.reopen(self.store, pipeline_object_limit=limit, run_object_expiry=expiry)

    def crash(self, limit: int, expiry: int) -> None:
        """As if the process had been killed: a copy of the files as they are is opened instead of them."""
        directory = self._directory / f"life{next(self._lives)}"
        directory.mkdir()
        self.changes = None
        for file in self._stores.path.parent.glob("objects.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, directory)
        self.open_files.clear()
        self._stores.finish()
        self._stores = Stores(directory)
        self.store = self._stores.open(pipeline_object_limit=limit, run_object_expiry=expiry)

    # Looking

    def check(self, story: list[str]) -> None:
        """Nothing in the store contradicts anything else."""
        try:
            check_store(self.store)
        except AssertionError as error:
            error.add_note("\n".join(story))
            raise

    def listing(self) -> tuple[Listing, dict[bytes, int]]:
        found: Listing = {}
        ages: dict[bytes, int] = {}

        def walk(ino: int, path: bytes) -> None:
            for node in self.store.tree.children(ino, b"", 1000):
                if node.kind == Kind.DIRECTORY:
                    found[path + node.name] = None
                    walk(node.ino, path + node.name + b"/")
                elif node.kind == Kind.SYMLINK:
                    found[path + node.name] = b"-> " + (node.target or b"")
                else:
                    value = self.store.contents.read(node.content, 0, node.size)
                    found[path + node.name] = value + (b" note " + node.xattrs if node.xattrs else b"")
                    ages[path + node.name] = node.mtime_ns

        walk(ROOT_INO, b"")
        return found, ages
