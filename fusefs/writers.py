"""The writers of a name: their private inode, their private copies, and how these are published.

While a name is open for writing, its writers have an inode of their own, which nobody else is shown; the published one
is never written to, truncated or invalidated, so what readers have of it stays right. One private inode per name, not
per handle, because the kernel keeps flock and fcntl locks by inode.

What is written goes to a `PrivateCopy`: one for each handle that replaces the value or appends to it, one for all
handles that edit the value in place. A copy is published when its last handle is released.
"""

import os
import time
from dataclasses import dataclass, field

from engine.catalog.puts import How
from engine.errors import StoreError
from engine.model import Attributes, Node
from engine.store import Store
from fusefs.callers import holds
from fusefs.spilling import SpillingDraft

_EXPECTED_S = 10.0
"""How long we wait for a process that was told to look the name up again to open it for writing."""


class PrivateCopy:
    """A value on its way to a name."""

    def __init__(self, number: int, how: How, spool: SpillingDraft) -> None:
        self.number = number
        """Tells the copies of one private inode apart: the handle of their intents."""
        self.how = how
        self.spool = spool
        self.holders = 0
        self.changed = False
        """Whether it has something to publish that is not published yet."""
        self.prepared = False
        """Whether its intent says all that it has to say."""
        self.has_intent = False
        self.exclusive = False
        """Whether it was created with O_EXCL: whoever has it and opens it again works on this one file."""
        self.finished = False
        """Whether somebody changed it and closed it, so that it is to be published."""
        self.unfinished = False
        """Whether somebody was killed while changing it."""
        self.failure: StoreError | None = None
        """Why a write into it was refused: with a part missing it is never published."""
        self.pinned = 0
        """The value that the copy starts from, kept while it may still be read."""

    @property
    def left_by_the_killed(self) -> bool:
        """Whether all who changed it were killed by a signal: then the old value stands."""
        return self.unfinished and not self.finished

    def touch(self) -> None:
        """Note that the value changes."""
        self.changed = True
        self.prepared = False


@dataclass(slots=True, eq=False)
class Writers:
    """All that is open for writing under one name, and the attributes that its Put will have."""

    ino: int
    """The private inode."""
    parent: int
    name: bytes
    base: Node | None
    """What the name stood for when it was opened, or was last published as; None for a new name."""
    mode: int
    uid: int
    gid: int
    xattrs: bytes | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    began_ns: int = field(default_factory=time.time_ns)
    handles: int = 0
    opened_by: dict[int, PrivateCopy] = field(default_factory=dict)
    """The threads that opened it, and the copy that each opened last."""
    expected: dict[int, float] = field(default_factory=dict)
    """The threads that were told to look the name up again in order to write, and until when they are waited for."""
    edit: PrivateCopy | None = None
    last: PrivateCopy | None = None
    """The copy that was opened or written last: what the inode shows as its size."""
    unlinked: bool = False
    """The writers' own process removed the name: nothing is published any more."""
    entry_cached: bool = False
    """The kernel may hold the name for long, as after a rename onto it; to be dropped before a Put is acknowledged."""

    def expect(self, pid: int) -> None:
        self.expected[pid] = time.monotonic() + _EXPECTED_S

    def expects(self, pid: int) -> bool:
        return pid in self.expected

    def held_by(self, pid: int) -> bool:
        """Whether the caller's process has a file of this private inode open."""
        return pid in self.opened_by or holds(pid, self.ino)

    @property
    def idle(self) -> bool:
        """Whether nobody has it open and nobody is on the way to open it."""
        if self.handles:
            return False
        now = time.monotonic()
        self.expected = {pid: until for pid, until in self.expected.items() if until > now}
        return not self.expected

    @property
    def attribute_seconds(self) -> float:
        """For how long the kernel may keep the attributes of the private inode.

        With one writer it counts the size along by itself, and saves a request before the first write. With more it has
        to ask, because each may have a copy of its own.
        """
        return 1.0 if self.handles + len(self.expected) <= 1 else 0.0

    def size_of(self, copy: PrivateCopy | None) -> int:
        base = 0 if self.base is None else self.base.size
        if copy is None:
            return base
        return base + copy.spool.size if copy.how is How.APPEND else copy.spool.size

    def as_node(self, pid: int) -> Node:
        """The private inode as the thread `pid` sees it; as the last writer does where that opened none."""
        now = self.began_ns
        scope = self.base.scope if self.base is not None else 0
        times = (self.atime_ns or now, self.mtime_ns or now, now)
        size = self.size_of(self.opened_by.get(pid, self.last))
        return Node(
            self.ino,
            0 if self.unlinked else self.parent,
            self.name,
            scope,
            1,
            self.mode,
            self.uid,
            self.gid,
            size,
            *times,
            0,
            0,
            None,
            self.xattrs,
        )

    def apply(self, attributes: Attributes) -> None:
        """Set attributes of what will be put."""
        self.mode = self.mode if attributes.mode is None else attributes.mode
        self.uid = self.uid if attributes.uid is None else attributes.uid
        self.gid = self.gid if attributes.gid is None else attributes.gid
        self.atime_ns = self.atime_ns if attributes.atime_ns is None else attributes.atime_ns
        self.mtime_ns = self.mtime_ns if attributes.mtime_ns is None else attributes.mtime_ns
        for copy in (self.last, self.edit):
            if copy is not None:
                copy.prepared = False

    def follow(self, node: Node) -> None:
        """The name stands for `node` now: attributes of the next Put come from it."""
        self.base = node
        self.mode, self.uid, self.gid, self.xattrs = node.mode, node.uid, node.gid, node.xattrs
        self.atime_ns = self.mtime_ns = None


class WriterTable:
    """All names that are being written in this mount, by name and by private inode."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_name: dict[tuple[int, bytes], Writers] = {}
        self._by_ino: dict[int, Writers] = {}

    def at(self, parent: int, name: bytes) -> Writers | None:
        return self._by_name.get((parent, name))

    def of(self, ino: int) -> Writers | None:
        return self._by_ino.get(ino)

    def begin(self, parent: int, name: bytes, base: Node | None, mode: int, uid: int, gid: int) -> Writers:
        """Give a name that nobody writes a private inode."""
        ino = self._store.contents.numbers.take()
        xattrs = None if base is None else base.xattrs
        writers = Writers(ino, parent, name, base, mode, uid, gid, xattrs)
        self._by_name[parent, name] = writers
        self._by_ino[ino] = writers
        if base is not None and base.content:
            # Appends and edits read it when they are first written to, whatever becomes of the name until then.
            self._store.contents.pin(base.content)
        return writers

    def edit(self, node: Node) -> Writers:
        """The writers of a published object's name."""
        found = self._by_name.get((node.parent, node.name))
        return found or self.begin(node.parent, node.name, node, node.mode, node.uid, node.gid)

    def rebase(self, writers: Writers, node: Node) -> None:
        """The name stands for another value now."""
        self._unpin(writers)
        writers.follow(node)
        if node.content:
            self._store.contents.pin(node.content)

    def detach(self, writers: Writers) -> None:
        """Let the name go, and keep the inode for those who have it open."""
        if self._by_name.get((writers.parent, writers.name)) is writers:
            del self._by_name[writers.parent, writers.name]

    def move(self, writers: Writers, parent: int, name: bytes) -> None:
        """The name was renamed by those who write it: they go with it."""
        self.detach(writers)
        writers.parent, writers.name = parent, name
        self._by_name.setdefault((parent, name), writers)

    def end(self, writers: Writers) -> None:
        """Nobody writes any more; the number of the private inode is free to be published, or never seen again."""
        self.detach(writers)
        if self._by_ino.pop(writers.ino, None) is not None:
            self._unpin(writers)

    def drop_idle(self) -> None:
        """End those whose expected opener never came."""
        for writers in [writers for writers in self._by_ino.values() if writers.idle]:
            self.end(writers)

    def __bool__(self) -> bool:
        return bool(self._by_ino)

    def _unpin(self, writers: Writers) -> None:
        if writers.base is not None and writers.base.content:
            self._store.contents.unpin(writers.base.content)


def how_to_open(flags: int, *, creates: bool) -> How:
    """What a handle opened with these flags (open(2)) does to the value when it is published."""
    if flags & os.O_TRUNC or flags & os.O_EXCL:
        return How.REPLACE
    if flags & os.O_APPEND:
        return How.APPEND
    return How.IF_ABSENT if creates else How.REPLACE
