"""The writers of a name: their private inode, their private copies, and how these are published.

While a name is open for writing, its writers have an inode of their own, which nobody else is shown; the published one
is never written to, truncated or invalidated, so what readers have of it stays right. One private inode per name, not
per handle, because the kernel keeps flock and fcntl locks by inode.

What is written goes to private copies (fusefs.copies): one for each handle that replaces the value or appends to it,
one for all handles that edit the value in place.
"""

import time
from dataclasses import dataclass, field
from functools import partial

import trio

from engine.catalog.puts import How, Put
from engine.model import Attributes, Node
from fusefs.copies import File, PrivateCopy
from fusefs.opened import Opened, written
from fusefs.openings import Openings

EXPECTED_S = 10.0
"""How long we wait for a process that was told to look the name up again to open it for writing."""


@dataclass(slots=True, eq=False)
class Writers:
    """All that is open for writing under one name."""

    ino: int
    """The private inode."""
    parent: int
    name: bytes
    base: Node | None
    """What the name stood for when it was opened, or was last published as; None for a new name."""
    file: File
    """What has the name, or is to have it: those who open it from now on write this one."""
    openings: Openings
    handles: int = 0
    changed_ns: int = field(default_factory=time.time_ns)
    """When the value was changed last."""
    touched_ns: int = 0
    """When the attributes were changed last."""
    expected: dict[int, float] = field(default_factory=dict)
    """The threads that were told to look the name up again in order to write, and until when they are waited for."""
    truncating: int = 0
    """The one of them that is going to replace the value (O_TRUNC)."""
    edit: PrivateCopy | None = None
    last: PrivateCopy | None = None
    """The copy that was opened or written last: what the inode shows as its size."""
    overtaken: bool = False
    """Another process put the name while these were making it."""
    renamed: bool = False
    """The new name was renamed by who writes it: what O_EXCL claimed was the old one."""
    several: bool = False
    """The inode stands for several files, or stood: what the kernel checked may be another than the one it is about."""
    given_up: bool = False
    """All of them have removed the name: none of these is put."""
    entry_cached: bool = False
    """The kernel may hold the name for long, as after a rename onto it; to be dropped before a Put is acknowledged."""
    forgetting: list[trio.Event] = field(default_factory=list)
    """What tells when the kernel has dropped it."""

    def expect(self, pid: int, *, truncates: bool = False) -> None:
        self.expected[pid] = time.monotonic() + EXPECTED_S
        self.truncating = pid if truncates else 0

    def expects(self, pid: int) -> bool:
        return pid in self.expected

    def only_reads(self, pid: int) -> bool:
        """Whether all that the caller's process has open of this inode is a value that it has published already."""
        if pid in self.expected or not self.openings.some_published or written(self.openings.of(pid)):
            return False
        files = self.openings.files_of(pid)
        return bool(files) and not any(file.copy for file in files)

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

        With one writer of a new name it counts the size along by itself, and saves a request before the first write.
        One that is about to replace the value is spared a request before it opens, with which the size is forgotten.
        With more it has to ask, because each may have a copy of its own; and where the name stands for a value that is
        edited, to be told the number of that (see `as_shown`).
        """
        if self.openings.parted or len(self.openings) + len(self.expected) > 1:
            return 0.0
        return 1.0 if self.base is None or self.truncating in self.expected else 0.0

    def before(self, copy: PrivateCopy) -> Node | None:
        """What an append is shown behind: what it will be joined with, as it is now."""
        return copy.behind if copy.unlinked or copy.given_up or copy.apart else self.base

    def may_join(self, copy: PrivateCopy, node: Node) -> bool:
        """Whether an append may go to an object: to its own file, or to one that its openers could have opened."""
        own = self.base is not None and node.ino == self.base.ino and copy.file is self.file
        return own or copy.may_join(node)

    def size_of(self, copy: PrivateCopy | None) -> int:
        if copy is None:
            return 0 if self.base is None else self.base.size
        before = self.before(copy) if copy.how is How.APPEND else None
        return copy.spool.size + (0 if before is None else before.size)

    def as_node(self, pid: int) -> Node:
        """The private inode as the thread `pid` sees it; as what is published where nothing tells what that has open.

        Who is only expected to open it may never come, and is shown what it would begin with.
        """
        scope = self.base.scope if self.base is not None else 0
        only_expects = self._only_expects(pid)
        last = self.edit if only_expects else self.last
        copy = self._shown_copy(pid, last if only_expects else None)
        file = self.file_of(pid)
        return Node(
            self.ino,
            0 if copy is not None and copy.unlinked else self.parent,
            self.name,
            scope,
            1,
            *(file.mode, file.uid, file.gid),
            self.size_of(copy),
            *self._times(copy or last, last),
            0,
            0,
            None,
            file.xattrs,
        )

    def _only_expects(self, pid: int) -> bool:
        return pid in self.expected and not written(self.openings.of(pid))

    def _shown_copy(self, pid: int, otherwise: PrivateCopy | None) -> PrivateCopy | None:
        if self._only_expects(pid):
            return otherwise
        # Or what it reads only: nobody writes that any more.
        return self.openings.own_copy(pid) or next(
            (file.copy for file in self.openings.files_of(pid) if file.copy), otherwise
        )

    def file_of(self, pid: int) -> File:
        """What a thread has open, or is about to open; what was opened or written last, if that cannot be told."""
        if pid in self.expected or not self.several:
            return self.file
        copies = self.openings.copies
        if all(copy.file is self.file for copy in copies):
            return self.file
        return (self.openings.own_copy(pid) or self.last or self.edit or copies[-1]).file

    def own_file(self, pid: int) -> File:
        """What a thread changes that names a file by its descriptor: one that it has open, rather than one to come."""
        own = self.openings.own_copy(pid)
        return self.file_of(pid) if own is None else own.file

    def _times(self, copy: PrivateCopy | None, last: PrivateCopy | None) -> tuple[int, int, int]:
        """As of a file that is written where it stands: what was set, or the last change, or else what is published."""
        changed = self.base is None or (last is not None and last.changed)
        atime = mtime = self.changed_ns
        ctime = max(mtime, self.touched_ns)
        if self.base is not None:
            atime = self.base.atime_ns
            mtime = mtime if changed else self.base.mtime_ns
            ctime = max(ctime if changed else self.touched_ns, self.base.ctime_ns)
        return (
            atime if copy is None or copy.atime_ns is None else copy.atime_ns,
            mtime if copy is None or copy.mtime_ns is None else copy.mtime_ns,
            ctime,
        )

    def note_change(self, copy: PrivateCopy) -> None:
        """The value is about to be changed."""
        self.changed_ns = self.touched_ns = time.time_ns()
        copy.mtime_ns = None

    def note_open(self, file: Opened) -> None:
        self.handles += 1
        self.openings.append(file)

    def note_release(self, file: Opened) -> None:
        self.handles -= 1
        self.openings.remove(file)

    def as_shown(self, pid: int) -> Node:
        """The private inode as fstat(2) is to show it: to who edits in place, with the number of the published object.

        Editors compare it with that of the path, to see whether the file was replaced under them. To who replaces the
        value or appends to it the two are two files: `grep x k > k` is right here, and grep would refuse it. The
        kernel knows an inode by the number that a look-up gave, and takes the one to be shown from every answer to
        GETATTR.
        """
        node = self.as_node(pid)
        if self.base is None or self.edit is None:
            return node
        if self._shown_copy(pid, self.edit) is not self.edit:
            return node
        self.openings.note_shown(self.base.ino)
        return node._replace(ino=self.base.ino)

    @property
    def claims_name(self) -> bool:
        """Whether the name is one that these writers are making, although another process may have made it, too."""
        return (self.base is None or self.overtaken) and not self.renamed

    def put(self, copy: PrivateCopy, ino: int) -> Put:
        """What publishes a copy, as the inode `ino`."""
        file = copy.file
        return Put(
            ino,
            self.parent,
            self.name,
            file.mode,
            file.uid,
            file.gid,
            # Nobody on another mount is to have made it meanwhile; the first to close, or to call fsync, has it.
            how=How.CREATE if copy.exclusive and self.claims_name and not copy.has_intent else copy.how,
            atime_ns=copy.atime_ns,
            mtime_ns=copy.mtime_ns,
            xattrs=file.xattrs,
            may_join=partial(self.may_join, copy) if copy.openers else None,
        )

    def apply(self, attributes: Attributes, file: File | None = None) -> None:
        """Set attributes of what will be put: those of a file, or of what has the name."""
        self.touched_ns = time.time_ns()
        (file or self.file).apply(attributes)
        self.outdate_intents()

    def outdate_intents(self) -> None:
        """What will be put has another name or other attributes now: the next close is to say so, whoever wrote."""
        for copy in self.openings.copies:
            copy.prepared = False

    def set_times(self, attributes: Attributes, file: File, pid: int = 0) -> None:
        """Set the times of what the process of a thread will put of a file; 0: of all that will be put of it."""
        own = self.openings.copies_of(pid) if pid else []
        for copy in own or self.openings.copies:
            if copy.file is file:
                copy.set_times(attributes)

    def apply_xattrs(self, packed: bytes | None, file: File | None = None) -> None:
        """Set all extended attributes of what will be put."""
        (file or self.file).xattrs = packed
        self.apply(Attributes())

    def refresh(self, node: Node) -> None:
        """The attributes of `base` are these now. Here they and those of `file` were changed together."""
        self.base = node
        self.take_attributes(node)

    def take_attributes(self, of: Node | File) -> None:
        """What has the name has the attributes of another."""
        self.file.mode, self.file.uid, self.file.gid = of.mode, of.uid, of.gid
        self.apply_xattrs(of.xattrs)

    def follow(self, node: Node, file: File) -> None:
        """The name stands for `node` now, which is of this file: whoever opens it from now on begins with that."""
        self.several = self.several or file is not self.file
        self.base, self.file = node, file
