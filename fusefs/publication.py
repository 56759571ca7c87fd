"""From a private copy to a published value: at close, at fsync, at a rename."""

import logging

from engine.catalog import lifetimes
from engine.catalog.puts import How
from engine.errors import IsDirectoryError, StoreError
from engine.model import Kind, Node
from engine.publishing import Published
from fusefs.copies import PrivateCopy
from fusefs.durability import sync
from fusefs.handles import WriteHandle
from fusefs.spilling import SpillingDraft
from fusefs.state import MountState
from fusefs.writers import Writers

log = logging.getLogger(__name__)


class Publication:
    """Preparing and publishing the private copies of one mount."""

    def __init__(self, state: MountState) -> None:
        self._state = state
        self._publisher = state.store.publisher

    async def prepare(self, handle: WriteHandle) -> None:
        """At FLUSH: from here on the Put happens even if the daemon is killed. Raises StoreError.

        What the Put would evict is dropped from the kernel's cache before close() returns, so that nobody is shown it
        afterwards; FLUSH holds no lock of a directory, so here that can be waited for.
        """
        copy, writers = handle.copy, handle.writers
        self._state.writers.look_at_name(writers, copy)
        if not self._is_to_be_put(copy):
            return
        try:
            if copy.prepared:
                # By the close of a duplicate: what it was put into may be gone since.
                lifetimes.require_home(self._state.store.database, writers.parent)
            else:
                await self._prepare(handle, copy)
            await self._uncache(handle)
        except StoreError as error:
            # The writer is told now, so it is not to be published later.
            self.spoil(writers, copy, error)
            raise

    @staticmethod
    def _is_to_be_put(copy: PrivateCopy) -> bool:
        """Whether there is something that whoever calls is waiting for. Raises why it is lost."""
        if copy.loss is not None:
            raise copy.loss
        return copy.changed and not copy.unlinked and not copy.apart

    async def _prepare(self, handle: WriteHandle, copy: PrivateCopy) -> None:
        if copy.spool.draft.large is not None or not self._state.store.contents.shares_catalog:
            await copy.spool.settle()
            if not self._is_to_be_put(copy):  # meanwhile it was removed, say
                return
        writers = handle.writers  # it may have been renamed meanwhile
        self._publisher.prepare(writers.put(copy, writers.ino), copy.spool.draft, copy.number)
        copy.prepared = copy.has_intent = True
        if self._state.store.syncs_closes:
            await sync(self._state)

    async def sync(self, handle: WriteHandle) -> None:
        """At fsync: publish what is written so far. Raises StoreError."""
        if self._is_to_be_put(handle.copy):
            await self._uncache(handle)
            await self.publish_now(handle.writers, handle.copy)
            self._state.coming.arrived(handle)

    async def _uncache(self, handle: WriteHandle) -> None:
        """Have the kernel forget all that a Put is about to change, before it happens; where no directory is locked.

        Raises StoreError.
        """
        writers = handle.writers
        present = self._present(writers)
        if present is not None and present.kind == Kind.DIRECTORY:
            raise IsDirectoryError("a directory has the name by now")
        takes_place = present is None or present.kind != Kind.OBJECT
        if takes_place:
            # The name is new, or has lost the object that it stood for: others may have to make way.
            self._state.kernel.drop_directory(writers.parent)
        home = lifetimes.home(self._state.store.database, writers.parent)
        if home is not None:
            await self._state.coming.announce(handle, home.ino, writers.parent, takes_place=takes_place)
        if writers.entry_cached:
            writers.entry_cached = False
            writers.forgetting = self._state.kernel.ask_to_drop((writers.parent, writers.name, writers.ino))
        await self._state.kernel.wait_for(writers.forgetting)  # which another may have asked for

    def _present(self, writers: Writers) -> Node | None:
        """What a name stands for now: what it stood for, another process may have taken away some milliseconds ago."""
        if writers.base is not None:
            self._state.store.database.writes.read_anew()
        return self._state.store.tree.child(writers.parent, writers.name)

    def leave_unfinished(self, handle: WriteHandle) -> None:
        """At FLUSH, by a signal that killed the closer: what was written up to here is not to come true by a crash."""
        copy = handle.copy
        if handle.killed and copy.has_intent and copy.holders == 1:
            self.withdraw(handle.writers, copy)
            copy.prepared = False

    def before_change(self, writers: Writers, copy: PrivateCopy) -> None:
        """A copy is about to be written: an intent that refers to the same bytes must not come true half-way."""
        copy.touch()
        if copy.spool.draft.large is not None:
            self.withdraw(writers, copy)

    def spoil(self, writers: Writers, copy: PrivateCopy, failure: StoreError) -> None:
        """A write into a copy was refused: from here on nothing of it is published, and the old value stands."""
        copy.failure = copy.failure or failure
        self.withdraw(writers, copy)

    def withdraw(self, writers: Writers, copy: PrivateCopy) -> None:
        """Take back the intent of a copy, if it has one. Raises StoreError."""
        if not copy.has_intent:
            return
        copy.prepared = False  # where it fails as well: from then on the store counts on no intent of it
        self._publisher.retract(writers.ino, copy.spool.draft, copy.number)
        copy.has_intent = False

    def publish(
        self, writers: Writers, copy: PrivateCopy, *, last: bool, later: bool = False, how: How | None = None
    ) -> Published | None:
        """Let a copy that is settled be the value of its name. `last`: nobody has the private inode open any more.

        `later`: as in Publisher.publish; MountState.settle commits it. `how`: other than it was opened.

        Serves RELEASE without yielding, so that a look-up queued behind it sees the value. Raises StoreError.
        """
        if not copy.to_be_published:
            if not copy.holders:
                self.give_up(writers, copy)
            return None
        # The private inode becomes the published one, unless others go on writing to it.
        ino = writers.ino if last else self._state.store.contents.numbers.take()
        put = writers.put(copy, ino)
        put.how = how or put.how
        intent = (writers.ino, copy.number) if copy.has_intent else None
        published = self._publisher.publish(put, copy.spool.draft, intent, later=later)
        copy.changed = copy.prepared = copy.has_intent = False
        copy.atime_ns = copy.mtime_ns = None
        if published.node.ino == ino:  # else another has the name, which a creation of nothing leaves there
            copy.origin = ino
        if published.replaced is None:
            self._state.kernel.drop_directory(writers.parent)
        else:
            self._state.retire(published.replaced)
        if self._state.kernel.knows(ino):
            # Known by the private inode's number, without a look-up of what is published now.
            self._state.remember(published.node)
        self._state.report(published.effects)
        for other in self._state.writers.follow_put(writers, published.node):
            self._state.kernel.drop_attributes(other.ino)
        return published

    async def publish_now(self, writers: Writers, copy: PrivateCopy, how: How | None = None) -> None:
        """At fsync or rename: publish what is written so far; the writers go on with their private inode.

        `how`: what a rename does to what has the new name, whatever one who opened that would do. Raises StoreError.
        """
        if how is None:
            self._state.writers.look_at_name(writers, copy)
        if not self._is_to_be_put(copy):
            return
        # Whoever calls this is alive: what one who was killed may have left in the copy is carried on.
        copy.unfinished = False
        await copy.spool.settle()
        if not self._is_to_be_put(copy):
            return  # meanwhile it was removed, or another fsync was quicker
        writers = self._state.writers.having(copy, writers)  # it may have been renamed meanwhile
        published = self.publish(writers, copy, last=False, how=how)
        if published is None:
            return
        copy.finished = False  # what others had closed is published by this
        if copy.origin != published.node.ino:
            self._state.writers.rebase(writers, published.node, writers.file, seen=True)
            return
        # The draft goes on from what was published, whatever becomes of the name.
        self._state.writers.hold(copy, published.node.content)
        if copy.shared:
            writers.edit = copy  # of what has the name from now on
        self._state.writers.rebase(writers, published.node, copy.file, writers.file)
        self._state.kernel.drop_attributes(writers.ino)
        if copy.how is How.APPEND:
            copy.spool.draft.close()
            copy.spool = SpillingDraft(self._state.store.contents, self._state.background)
        elif copy.how is How.IF_ABSENT:
            copy.how = How.REPLACE

    def discard(self, writers: Writers, copy: PrivateCopy) -> None:
        """Give up a copy that nobody has open, once no thread has it any more."""

        async def when_idle() -> None:
            await copy.spool.idle()
            self.abandon(writers, copy)
            self._state.writers.let_go(copy)

        self._state.background.now_or_later(when_idle(), now=not copy.spool.busy)

    def abandon(self, writers: Writers, copy: PrivateCopy) -> None:
        """Give up a copy that has nothing to publish, and that no thread has."""
        try:
            self._publisher.abandon(copy.spool.draft, writers.ino, copy.number if copy.has_intent else None)
        except StoreError as error:
            log.error("a value that was not published could not be deleted yet: %s", error)
        copy.has_intent = False

    def give_up(self, writers: Writers, copy: PrivateCopy) -> None:
        """Its last writer is gone, and it is not published; who reads it by its name has it for as long as open."""
        if not copy.peeks:
            copy.given_up = True
            self.abandon(writers, copy)
            return
        self._state.writers.give_up(writers, copy)
        copy.given_up = True
        try:
            self.withdraw(writers, copy)
        except StoreError as error:
            log.error("a value that was given up could not be taken back yet: %s", error)
