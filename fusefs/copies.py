"""What is being written to a name: a private copy of its value, and the file whose attributes the copy will have.

A copy is published when its last handle is released.
"""

import stat
from dataclasses import dataclass

from engine.catalog.puts import How
from engine.errors import StoreError
from engine.model import Attributes, Node
from fusefs.callers import Caller
from fusefs.rights import READ, WRITE, Attributed, Rights
from fusefs.spilling import SpillingDraft


@dataclass(slots=True, eq=False)
class File:
    """The attributes of what some have open under a name, and will put. What is renamed to the name is another file."""

    mode: int
    uid: int
    gid: int
    xattrs: bytes | None = None

    def is_like(self, node: Node) -> bool:
        """Whether a published object has the same attributes; the times aside, which every Put moves."""
        return (self.mode, self.uid, self.gid, self.xattrs) == (node.mode, node.uid, node.gid, node.xattrs)

    def apply(self, attributes: Attributes) -> None:
        """The times aside: those are of one copy."""
        for name in ("mode", "uid", "gid"):
            value = getattr(attributes, name)
            if value is not None:
                setattr(self, name, value)

    def mode_after_write(self, caller: Caller) -> int:
        """The mode that a write leaves: set-user-ID and set-group-ID go with it, unless root writes (inode(7))."""
        mode = self.mode
        if caller.uid and mode & (stat.S_ISUID | stat.S_ISGID):
            mode &= ~stat.S_ISUID
            if mode & stat.S_IXGRP or (mode & stat.S_ISGID and not caller.in_group(self.gid)):
                mode &= ~stat.S_ISGID
        return mode


class PrivateCopy:
    """A value on its way to a name."""

    def __init__(self, number: int, how: How, spool: SpillingDraft, file: File) -> None:
        self.number = number
        """Tells the copies of one private inode apart: the handle of their intents."""
        self.identity = object()
        """Stands for the file that its openers have open, whichever copy that is by now."""
        self.how = how
        self.spool = spool
        self.file = file
        self.atime_ns: int | None = None
        self.mtime_ns: int | None = None
        """What was set and is to be put, whatever others put under the name meanwhile; None: nothing."""
        self.holders = 0
        self.peeks = 0
        """How many handles of its own process read it by its name; while there are any, it is kept."""
        self.given_up = False
        """Its last writer is gone, and nothing of it is published."""
        self.changed = False
        """Whether it has something to publish that is not published yet."""
        self.prepared = False
        """Whether its intent says all that it has to say."""
        self.has_intent = False
        self.exclusive = False
        """Whether it was created with O_EXCL: whoever has it and opens it again works on this one file."""
        self.shared = False
        """Whether all who edit the object that it started from work on it."""
        self.origin = 0
        """The inode of the object that it started from, or was last published as."""
        self.unlinked = False
        """Its own process removed the name: it is never published."""
        self.finished = False
        """Whether somebody changed it and closed it, so that it is to be published."""
        self.unfinished = False
        """Whether somebody was killed while changing it."""
        self.failure: StoreError | None = None
        """Why a write into it was refused: with a part missing it is never published."""
        self.pinned = 0
        """The value that the copy starts from, kept while it may still be read."""
        self.behind: Node | None = None
        """What an append that is never published was shown behind when that was decided: pinned."""
        self.openers: set[Rights] = set()
        """Who has opened it to append; not root."""
        self.read = False
        """Whether what it appends to is read through it, too."""
        self.apart = False
        """An append whose name is that of an object by now which its openers could not have opened: never published."""

    @property
    def left_by_the_killed(self) -> bool:
        """Whether all who changed it were killed by a signal: then the old value stands."""
        return self.unfinished and not self.finished

    def may_join(self, node: Attributed) -> bool:
        """Whether its openers could have opened another object as they did this one."""
        wanted = WRITE | (READ if self.read or self.peeks else 0)
        return all(opener.may_open(node, wanted) for opener in self.openers)

    @property
    def loss(self) -> StoreError | None:
        """Why nothing of what was written will be published; none where nothing was to be appended."""
        return None if self.apart and not self.spool.size else self.failure

    @property
    def to_be_published(self) -> bool:
        """Whether its last close has something to publish, and nothing speaks against that."""
        return self.changed and not self.unlinked and self.failure is None and not self.left_by_the_killed

    def take_over(self, old: "PrivateCopy") -> None:
        """Stand for another copy from now on: for who has it open, and what was decided about it."""
        self.identity, self.file = old.identity, old.file
        self.holders, self.peeks = old.holders, old.peeks
        self.unlinked, self.exclusive, self.failure = old.unlinked, old.exclusive, old.failure
        self.finished, self.unfinished, self.changed = old.finished, old.unfinished, old.changed
        self.atime_ns, self.mtime_ns = old.atime_ns, old.mtime_ns

    def set_times(self, attributes: Attributes) -> None:
        """Set those that `attributes` names."""
        self.atime_ns = self.atime_ns if attributes.atime_ns is None else attributes.atime_ns
        self.mtime_ns = self.mtime_ns if attributes.mtime_ns is None else attributes.mtime_ns
        self.prepared = False

    def touch(self) -> None:
        """Note that the value changes."""
        self.changed = True
        self.prepared = False
