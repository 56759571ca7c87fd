"""At RELEASE: what was closed is published with its last handle, or given up, and the private inode ends.

Nobody waits for the answer: what goes wrong can only be told to the log.
"""

import logging

from engine.catalog.puts import How
from engine.errors import FAULTS, StoreError
from engine.model import Node
from fusefs.copies import PrivateCopy
from fusefs.handles import KeptHandle, PeekHandle, WriteHandle
from fusefs.publication import Publication
from fusefs.state import MountState
from fusefs.writers import Writers

log = logging.getLogger(__name__)


class Releasing:
    """The last that happens to a handle for writing, or for reading what its own process writes."""

    def __init__(self, state: MountState, publication: Publication) -> None:
        self._state = state
        self._publication = publication

    def release(self, handle: WriteHandle) -> None:
        """Publish the copy with its last handle, and end the private inode with its last copy.

        The kernel sends a dozen of these only before it has answers, so it has them at once where a thread is to be
        waited for.
        """
        writers, copy = handle.writers, handle.copy
        writers.note_release(handle)
        copy.holders -= 1
        if handle.changed:
            copy.unfinished |= handle.left_unfinished
            copy.finished |= not handle.left_unfinished
        if not copy.holders:
            if writers.edit is copy:
                writers.edit = None
            # Not prepared: a write after the last FLUSH, as by a process that was handed the descriptor.
            ready = copy.prepared or not copy.to_be_published or copy.spool.settles_at_once
            now = ready and not copy.spool.busy
            self._state.background.now_or_later(self._finish(handle, later=now), now=now)
            return
        self._state.coming.arrived(handle)
        if not writers.handles and not writers.expected:
            self._state.writers.end(writers)

    async def _finish(self, handle: WriteHandle, *, later: bool) -> None:
        """`later`: as in `publish`, which is for requests: behind them nobody settles."""
        writers, copy = handle.writers, handle.copy
        try:
            await copy.spool.idle()
            if copy.to_be_published and not copy.prepared:
                await copy.spool.settle(patiently=True)
            # Only now: somebody may have opened the private inode meanwhile. Who only reads this value there may stay.
            last = writers.handles == copy.peeks and not writers.expected and not self._state.is_open(writers.ino)
            # And the kernel may hold the attributes of another file for it.
            last = last and not writers.several
            self._state.writers.look_at_name(writers, copy)
            published = self._publication.publish(writers, copy, last=last, later=later)
            if published is not None:
                self._keep_for_peeking(copy, published.node)
                if writers.handles or writers.expected:
                    self._state.writers.rebase(writers, published.node, copy.file, writers.file)
        except Exception as error:
            unexpected = not isinstance(error, StoreError)
            if copy.has_intent and (unexpected or isinstance(error, FAULTS)):
                log.error("a value for inode %d is published later: %s", writers.ino, error, exc_info=unexpected)
                self._state.store.publisher.publish_later(writers.put(copy, writers.ino), writers.ino, copy.number)
                copy.has_intent = False
            else:
                said = "a value for inode %d was acknowledged and could not be published: %s"
                log.error(said, writers.ino, error, exc_info=unexpected)
                self._publication.give_up(writers, copy)
        self._state.coming.arrived(handle)
        self._end(writers, copy)
        if not writers.handles and not writers.expected:
            self._state.writers.end(writers)

    def release_peek(self, handle: PeekHandle) -> None:
        """Of who only read what its own process was writing."""
        writers, copy = handle.writers, handle.copy
        writers.note_release(handle)
        copy.peeks -= 1
        if not copy.peeks and not copy.holders:
            if copy.given_up:
                self._publication.abandon(writers, copy)
            self._end(writers, copy)
        if writers.idle:
            self._state.writers.end(writers)

    def _end(self, writers: Writers, copy: PrivateCopy) -> None:
        """Nobody writes or reads a copy any more."""
        if copy.peeks:
            return
        copy.spool.draft.close()
        if writers.last is copy:
            writers.last = None
        self._state.writers.let_go(copy)

    def _keep_for_peeking(self, copy: PrivateCopy, node: Node) -> None:
        """Who reads a new name of its own goes on reading what was published of it."""
        if copy.how is How.IF_ABSENT and node.size:
            return  # nothing was: the name had another value already
        for number, peek in self._state.handles.peeking(copy):
            # The kernel goes on knowing it by the private inode, whatever number the value was published under.
            kept = node._replace(ino=peek.writers.ino)
            handle = KeptHandle(kept, peek)
            self._state.keep(handle)
            self._state.handles.replace(number, handle)
            peek.writers.note_release(peek)
            peek.writers.openings.append(handle)
            copy.peeks -= 1
