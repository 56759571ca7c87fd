"""What one mount knows beside its store, shared by the parts of the filesystem."""

import logging
import time
from pathlib import Path

import trio

from engine.errors import StoreError
from engine.model import PIPELINES_INO, RUNS_INO, Attributes, Effects, Kind, Node, NodeRow
from engine.store import Store
from engine.upkeep import News
from fusefs.background import Background
from fusefs.coming import Coming
from fusefs.effects import log_effects
from fusefs.handles import HandleTable, KeptHandle, KeptHandles
from fusefs.kernel import KernelCache
from fusefs.pulse import Pulse
from fusefs.recent import Recent
from fusefs.scope import Scope
from fusefs.writers import Writers
from fusefs.writertable import WriterTable

_SWEPT_AT_MOST = 4096
_GONE_S = 10.0
_IDLE_AFTER_S = 2.0
_DIRECTORY = int(Kind.DIRECTORY)

log = logging.getLogger(__name__)


class StaleError(Exception):
    """The inode is not what the caller should work on (ESTALE): the kernel looks the name up again, once."""


class MountState:
    """One mount. Everything in it belongs to the event loop."""

    def __init__(self, store: Store, scope: Scope, pulse: Pulse, max_open_writers: int = 0) -> None:
        self.store = store
        self.scope = scope
        self.pulse = pulse
        self.max_open_writers = max_open_writers
        """How many files may be open for writing at once; 0: no limit."""
        self.kernel = KernelCache(pulse)
        self.writers = WriterTable(store)
        self.handles = HandleTable()
        self.nursery: trio.Nursery
        """What goes on behind requests, and is waited for at the end; set by the session before the first request."""
        self.background: Background
        """What threads do for requests; set at the same time."""
        self.coming = Coming(store, self.kernel)
        self.directories: dict[int, Node] = {}
        """The directories that the kernel knows, as they were last looked up: still there for who works in them."""
        self.max_object_size = store.max_object_size
        self.sweep_now = trio.Event()
        """Set when something large was taken out of the tree."""
        self._lost_file: Path | None = None
        self._used = time.monotonic()
        self._open: dict[int, tuple[Node, int]] = {}
        """Objects open for reading and how often: still there for those who have them open when their name is gone."""
        self.kept = KeptHandles()
        self._gone: dict[int, tuple[Node, float]] = {}
        """Objects that lost their name a moment ago, and until when their values are kept.

        A path was looked up and is about to be opened: with the name overwritten in between, and again in the one retry
        that the kernel makes after ESTALE, the caller would see that error.
        """
        self.recent = Recent()
        """For the open that follows a look-up; right until `retire` or news take them out."""
        self._swept: set[int] = set()
        """Runs and pipelines that were taken away as a whole: a thread deletes what was in them, piece by piece."""

    def note_use(self) -> None:
        """Somebody uses the mount, or changes the store elsewhere."""
        now = time.monotonic()
        if now - self._used > _IDLE_AFTER_S:
            self.look_at_files()  # which nobody did meanwhile
        self._used = now

    @property
    def idle(self) -> bool:
        """Whether nobody has used the mount for a while."""
        return time.monotonic() - self._used > _IDLE_AFTER_S

    def begin_turn(self) -> None:
        """Requests are served from here to `settle`."""
        self.store.database.writes.begin_turn()

    @property
    def unsettled(self) -> bool:
        """Whether something is published and not committed yet."""
        return self.store.database.writes.open

    def settle(self) -> None:
        """Commit what was published and is not committed yet, before the mount does anything else than serve."""
        try:
            self.store.publisher.settle()
        except StoreError as error:
            log.error("what was published last could not be committed, and is published again: %s", error)

    def look_at_files(self) -> None:
        """Tell the log when a file of the store is gone: until it is back, nothing is written, and reading goes on."""
        lost = self.store.look_at_files()
        if lost is not None and lost != self._lost_file:
            log.error("%s was deleted or replaced: changes are refused, and the last ones may be lost", lost)
        elif lost is None and self._lost_file is not None:
            log.warning("%s is back: changes are accepted again", self._lost_file)
        self._lost_file = lost

    # Inodes

    def remember(self, node: Node) -> None:
        """The kernel has looked up what is published."""
        if node.kind == Kind.DIRECTORY:
            self._remember_directory(node)
            return
        self.recent.add(node)

    def remember_listed(self, rows: list[NodeRow], *, cached: bool) -> None:
        """The kernel was told of these in the answer to a READDIR; `cached`: under names that it keeps."""
        self.kernel.listed([row[0] for row in rows], cached=cached)
        for row in [row for row in rows if row[4] == _DIRECTORY]:
            # Attributes that are too long to be listed count as none: only those of a directory that is gone are used.
            self._remember_directory(Node._make((*row[:-1], row[-1] or None)))
        if cached:  # else they may be gone, listed as they were
            self.recent.add_listed(rows)

    def _remember_directory(self, node: Node) -> None:
        self.directories[node.ino] = node
        self.kernel.told_of_directory(node.ino)

    def directory(self, ino: int) -> Node | None:
        """A directory; one that was removed while the kernel knows it has no parent."""
        node = self.store.tree.node(ino)
        if node is None and (known := self.directories.get(ino)) is not None:
            return known._replace(parent=0)
        return node

    def value(self, ino: int, pid: int = 0) -> Node | None:
        """The object of an inode, for its value and size: those never change. Also of one that has lost its name.

        `pid`: the thread that asks, which may have another value open by the same private inode than others have.
        """
        node = self.recent.get(ino)
        if node is None:
            node = self.store.tree.node(ino)
        elif self.is_swept(node):
            self.store.database.writes.read_anew()  # a thread of ours sweeps
            node = self.store.tree.node(ino)
        return node if node is not None else self.lost(ino, pid)

    def lost(self, ino: int, pid: int = 0) -> Node | None:
        """An object that has no name any more, while it is open or was a moment ago. `pid`: as in `value`."""
        kept = self.kept.of(ino, pid)
        if kept is not None:
            return kept.node
        known = self._open.get(ino) or self._gone.get(ino)
        return None if known is None else known[0]

    def change_lost(self, node: Node) -> None:
        """Attributes of an object that has no name any more, as they are from now on: for those who have it open."""
        known = self._open.get(node.ino)
        if known is not None:
            self._open[node.ino] = node, known[1]
        for kept in self.kept.get(node.ino, ()):
            if kept.node.content == node.content:
                kept.node = node

    def _sweep(self, parent: int, name: bytes, ino: int) -> None:
        """A run or a pipeline is taken away, with all that is in it."""
        self.kernel.drop_tree_soon(parent, name, ino)
        self._swept.add(ino)
        if len(self._swept) > _SWEPT_AT_MOST:
            self._swept = {ino}
            self.recent.clear()

    def is_swept(self, node: Node) -> bool:
        """Whether a node was in a run or a pipeline that was taken away as a whole, whatever is left of that."""
        return node.scope in self._swept

    def retire(self, node: Node) -> None:
        """An object lost its name: keep it for a moment for those who have just looked it up."""
        self.recent.drop(node.ino)
        self.change_lost(node)
        if self.kernel.knows(node.ino):
            if node.ino not in self._gone:
                self.store.contents.pin(node.content)
            self._gone[node.ino] = node, time.monotonic() + _GONE_S

    def moved(self, node: Node) -> None:
        """An object has another name: it is the one by which it would be looked for, should it be lost elsewhere."""
        if self.recent.get(node.ino) is not None:
            self.recent.add(node)
        self.change_lost(node)

    def hear(self, news: News) -> None:
        """Another process took a name away, or changed attributes."""
        if not news.parent:
            self.kernel.drop_attributes(news.ino)
            if self.writers and (node := self.store.tree.node(news.ino)) is not None:
                self.writers.refresh(node)
        elif news.ino:
            if news.parent in (PIPELINES_INO, RUNS_INO):
                self._sweep(news.parent, news.name, news.ino)
            elif self.kernel.knows(news.ino):
                # Else there is nothing in its cache: whatever it holds under this name, it was told of by that number.
                self.kernel.drop_name_soon(news.parent, news.name)
            known = self.recent.get(news.ino) or self.lost(news.ino)
            if known is not None:
                # It may have been renamed since it was looked up.
                self.retire(known._replace(parent=news.parent, name=news.name))
            self.note_gone(news.parent, news.name)

    def note_gone(self, parent: int, name: bytes) -> None:
        """A name lost what it stood for; those who are writing it are told."""
        if self.writers and self.writers.at(parent, name) is not None:
            self.writers.let_go_if_gone(parent, name, self.store.tree.child(parent, name))

    def set_private(self, writers: Writers, attributes: Attributes, owner: int | None = None) -> None:
        """Set attributes of what is published under a writers' name, which is no Put, and of what they will put.

        `owner`: as in Tree.set_attributes. Raises StoreError.
        """
        if writers.base is not None and self.store.tree.node(writers.base.ino) is not None:
            self.store.tree.set_attributes(writers.base.ino, attributes, owner)
            self.kernel.drop_attributes(writers.base.ino)
        writers.apply(attributes)  # only now: what was refused is not to come true by the close
        self.writers.pass_on(writers)

    def forget(self, ino: int, count: int) -> None:
        """The kernel dropped references to an inode."""
        if self.kernel.forget(ino, count):
            self.recent.drop(ino)
            self.directories.pop(ino, None)
            self._drop_gone(ino)

    def drop_gone(self) -> None:
        """Let go of what lost its name a while ago."""
        now = time.monotonic()
        for ino in [ino for ino, (_, until) in self._gone.items() if until < now]:
            self._drop_gone(ino)

    def _drop_gone(self, ino: int) -> None:
        known = self._gone.pop(ino, None)
        if known is not None:
            self._unpin(known[0].content)

    def _unpin(self, content: int) -> None:
        self.store.contents.unpin(content)
        self.store.upkeep.unpin(content)

    # Objects open for reading

    def opened(self, node: Node) -> None:
        self.store.contents.pin(node.content)
        known = self._open.get(node.ino)
        self._open[node.ino] = (node, 1 if known is None else known[1] + 1)

    def is_open(self, ino: int) -> bool:
        return ino in self._open or ino in self.kept

    def keep(self, handle: KeptHandle) -> None:
        self.store.contents.pin(handle.node.content)
        self.kept.add(handle)

    def let_go(self, handle: KeptHandle) -> None:
        self.kept.remove(handle)
        self._unpin(handle.node.content)

    def closed(self, node: Node) -> None:
        known, opens = self._open[node.ino]
        if opens > 1:
            self._open[node.ino] = (known, opens - 1)
        else:
            del self._open[node.ino]
        self._unpin(node.content)

    # What a change did beside what it was asked to do

    def report(self, effects: Effects) -> None:
        """Tell the log and the kernel."""
        log_effects(effects)
        for gone in effects.evicted:
            if gone.node is None:
                self.recent.drop(gone.ino)
            else:
                self.retire(gone.node)
            self.note_gone(gone.parent, gone.name)
            self.kernel.drop_soon(gone)
        if effects.restored:
            self.coming.note_returned()
        for gone in effects.expired:
            self._sweep(gone.parent, gone.name, gone.ino)
            self.sweep_now.set()
