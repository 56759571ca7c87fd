"""All names that are being written in one mount, and the threads that are about to write."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain

from engine.catalog.puts import How
from engine.errors import ReplacedError, StoreError
from engine.model import Kind, Node
from engine.store import Store
from fusefs.callers import ancestry
from fusefs.copies import File, PrivateCopy
from fusefs.openings import Openings
from fusefs.writers import EXPECTED_S, Writers

_LOOKED_AT_S = 0.5
"""For how long those are looked at who may have a name open: nobody is served meanwhile."""


class WriterTable:
    """All names that are being written in this mount, by name and by private inode."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.connection: int | None = None
        """The minor number of the mount's device, once it has one."""
        self._by_name: dict[tuple[int, bytes], Writers] = {}
        self._by_ino: dict[int, list[Writers]] = {}
        """Several where one of them renamed its part of the name (see fusefs.parting)."""
        self._living: dict[tuple[int, bytes], list[Writers]] = {}
        """All of them by the name that they put when they close, those too whom nobody joins there any more."""
        self._repeating: dict[int, float] = {}
        """The threads that were told to look a name up again in order to write, and until when they are waited for."""

    def at(self, parent: int, name: bytes) -> Writers | None:
        return self._by_name.get((parent, name))

    def all_at(self, parent: int, name: bytes) -> list[Writers]:
        """All who are going to put a name: the kernel is not to keep what it stands for now."""
        return self._living.get((parent, name), [])

    def held(self, parent: int, name: bytes, pid: int) -> Iterator[Writers]:
        """Those who are going to put a name in whom a thread's process has it open; first who is found by it.

        As many as can be looked at in time.
        """
        found = self.at(parent, name)
        others = [each for each in self.all_at(parent, name) if each is not found and not each.given_up]
        until = time.monotonic() + _LOOKED_AT_S
        for each in others if found is None else [found, *others]:
            if each.openings.held_by(pid):
                yield each
            if time.monotonic() > until:
                return

    def of(self, ino: int, pid: int = 0) -> Writers | None:
        """The writers who have a private inode; those whom the thread `pid` has to do with, where they have parted."""
        found = self._by_ino.get(ino)
        if found is None:
            return None
        if len(found) == 1:
            return found[0]
        expecting = next((writers for writers in found if writers.expects(pid)), None)
        return expecting or _nearest(found, pid)

    def having(self, copy: PrivateCopy, writers: Writers) -> Writers:
        """Among whom a copy is by now that was among these; they, where nobody has it open."""
        beside = self._by_ino.get(writers.ino, [])
        return next((each for each in beside if copy in each.openings.copies), writers)

    def begin(self, parent: int, name: bytes, base: Node | None, mode: int, uid: int, gid: int) -> Writers:
        """Give a name that nobody writes a private inode."""
        ino = self._store.contents.numbers.take()
        file = File(mode, uid, gid, None if base is None else base.xattrs)
        writers = Writers(ino, parent, name, base, file, Openings(ino, self.connection))
        self._by_name[parent, name] = writers
        self._by_ino[ino] = [writers]
        self._living.setdefault((parent, name), []).append(writers)
        self._pin(writers)
        return writers

    def begin_beside(self, writers: Writers) -> Writers:
        """Further writers with the same private inode, who are nowhere found by the name."""
        parted = replace(writers, openings=writers.openings.beside(), expected={}, handles=0)
        parted.edit = parted.last = None
        parted.several = writers.several = True
        self._by_ino[writers.ino].append(parted)
        self._pin(parted)
        return parted

    def edit(self, node: Node) -> Writers:
        """The writers of a published object's name."""
        found = self._by_name.get((node.parent, node.name))
        return found or self.begin(node.parent, node.name, node, node.mode, node.uid, node.gid)

    def expect(self, pid: int) -> None:
        """A thread is about to look a name up again, in order to write what it stands for by then."""
        self._repeating[pid] = time.monotonic() + EXPECTED_S

    def repeats(self, pid: int, node: Node | None) -> bool:
        """Whether the thread that looks up `node` does so to write it. Directories are only on its way.

        It may look it up twice, and find two different objects.
        """
        return node is not None and node.kind == Kind.OBJECT and self.comes_again(pid)

    def comes_again(self, pid: int) -> bool:
        """Whether a thread was told to look a name up again, and has not opened anything since."""
        until = self._repeating.get(pid) if self._repeating else None
        return until is not None and until > time.monotonic()

    def opens(self, pid: int) -> None:
        """A thread has arrived where it was expected, or does something else now."""
        if self._repeating:
            self._repeating.pop(pid, None)

    def rebase(self, writers: Writers, node: Node, *files: File, seen: bool = False) -> None:
        """The name stands for another value now: of one of these files, if the attributes agree, else of a new one.

        Whoever began before with another file keeps that, and puts it with its own attributes. `seen`: it was not put
        by one of these files here, but found there, so that it may be another all the same.
        """
        if not self._has(writers):
            return  # they have ended, and hold nothing
        same = next((file for file in files if file.is_like(node)), None)
        file = same or File(node.mode, node.uid, node.gid, node.xattrs)
        to_be_asked = seen or file is not writers.file  # seldom: there may be thousands
        for copy in {*writers.openings.copies} if to_be_asked else ():
            if copy.how is How.APPEND and (seen or copy.file is not file) and not copy.may_join(node):
                self.set_apart(writers, copy)
        self._unpin(writers)
        writers.follow(node, file)
        self._pin(writers)

    def follow_put(self, writers: Writers, node: Node) -> list[Writers]:
        """These have put their name: whoever else is to put it begins with that now. Returns those who had another."""
        behind = [
            other
            for other in self.all_at(writers.parent, writers.name)
            if other is not writers and (other.base is None or other.base.ino != node.ino)
        ]
        for other in behind:
            other.overtaken |= other.base is None
            self.rebase(other, node, seen=True)
        return behind

    def look_at_name(self, writers: Writers, copy: PrivateCopy) -> None:
        """A copy is about to be published; an append goes to what others may have put under its name meanwhile."""
        if copy.how is not How.APPEND or not copy.openers or copy.apart:
            return
        self._store.database.writes.read_anew()
        present = self._store.tree.child(writers.parent, writers.name)
        if present is not None and present.kind == Kind.OBJECT and not writers.may_join(copy, present):
            self.set_apart(writers, copy)

    def set_apart(self, writers: Writers, copy: PrivateCopy) -> None:
        """The name is that of another object, which those who append to this one may not write, or not read.

        They are told when they write or close, go on being shown what they opened, and change nothing.
        """
        self.give_up(writers, copy)
        copy.apart, copy.prepared = True, False
        copy.failure = copy.failure or ReplacedError("the name is that of another object, which may not be appended to")
        if copy.has_intent:
            with suppress(StoreError):  # then it is taken back when the copy ends
                self._store.publisher.retract(writers.ino, copy.spool.draft, copy.number)
                copy.has_intent = False

    def refresh(self, node: Node) -> None:
        """Another process changed attributes of an object: who is about to replace it puts them, too."""
        for writers in self.all_at(node.parent, node.name):
            if writers.base is not None and writers.base.ino == node.ino:
                writers.refresh(node)

    def pass_on(self, writers: Writers) -> None:
        """Attributes of what has the name were changed through these: others who begin with that put them, too."""
        for other in self.all_at(writers.parent, writers.name):
            if other is not writers and other.base and writers.base and other.base.ino == writers.base.ino:
                other.take_attributes(writers.file)

    def hold(self, copy: PrivateCopy, content: int) -> None:
        """Keep a value for a copy instead of the one that was kept for it; 0: none."""
        if content:
            self._store.contents.pin(content)
        if copy.pinned:
            self._store.contents.unpin(copy.pinned)
        copy.pinned = content

    def let_go(self, copy: PrivateCopy) -> None:
        """The value that a copy started from, or was last published as, is not needed by it any more."""
        self.hold(copy, 0)

    def give_up(self, writers: Writers, copy: PrivateCopy) -> None:
        """A copy is about to be given up: whoever has it open is shown nothing of what has the name from now on."""
        if copy.how is How.APPEND and not copy.unlinked and not copy.apart:
            copy.behind = writers.base
            self.hold(copy, 0 if writers.base is None else writers.base.content)

    def give_name_up(self, writers: Writers) -> None:
        """They put it no more, unless somebody is about to open it who was led to them."""
        self.detach(writers)
        writers.given_up = not writers.expected

    def detach(self, writers: Writers) -> None:
        """Let the name go, and keep the inode for those who have it open."""
        if self._by_name.get((writers.parent, writers.name)) is writers:
            del self._by_name[writers.parent, writers.name]

    def move(self, writers: Writers, parent: int, name: bytes) -> None:
        """The name was renamed by those who write it: they go with it."""
        self.detach(writers)
        self._remove(writers)
        writers.parent, writers.name, writers.renamed = parent, name, True
        for copy in {*writers.openings.copies}:
            self._move_intent(writers, copy)
        self._by_name.setdefault((parent, name), writers)
        self._living.setdefault((parent, name), []).append(writers)

    def _move_intent(self, writers: Writers, copy: PrivateCopy) -> None:
        """What a close has promised, and nobody changed since, holds for the new name from now on."""
        promised, copy.prepared = copy.prepared, False
        if promised and writers.base is not None:  # else it is about to be published under that
            with suppress(StoreError):  # then the next close tells
                self._store.publisher.prepare(writers.put(copy, writers.ino), copy.spool.draft, copy.number)
                copy.prepared = True

    def lead(self, writers: Writers) -> None:
        """Their file has the name now: who opens it is among them, and not among those who have another one open."""
        self._by_name[writers.parent, writers.name] = writers

    def let_go_if_gone(self, parent: int, name: bytes, present: Node | None) -> None:
        """A name may have lost its value, or has another: who opens it from now on begins with what is there.

        Those who have it open keep the private inode, and put the name anew when they close.
        """
        writers = self.at(parent, name)
        if writers is None or writers.base is None:
            return
        if present is None or present.kind != Kind.OBJECT:
            self.detach(writers)
        elif present.ino != writers.base.ino:
            # Most likely another process has put it, which leaves the attributes as they were.
            self.rebase(writers, present, writers.file, seen=True)

    def end(self, writers: Writers) -> None:
        """Nobody writes any more; the number of the private inode is free to be published, or never seen again."""
        self.detach(writers)
        if self._has(writers):
            self._unpin(writers)
            self._remove(writers)
            self._by_ino[writers.ino].remove(writers)
            if not self._by_ino[writers.ino]:
                del self._by_ino[writers.ino]

    def _has(self, writers: Writers) -> bool:
        """Whether they have not ended."""
        return writers in self._by_ino.get(writers.ino, [])

    def _remove(self, writers: Writers) -> None:
        others = [other for other in self.all_at(writers.parent, writers.name) if other is not writers]
        if others:
            self._living[writers.parent, writers.name] = others
        else:
            self._living.pop((writers.parent, writers.name), None)

    def drop_idle(self) -> None:
        """End those whose expected opener never came."""
        for writers in [writers for writers in chain.from_iterable(self._by_ino.values()) if writers.idle]:
            self.end(writers)
        now = time.monotonic()
        self._repeating = {pid: until for pid, until in self._repeating.items() if until > now}

    def __bool__(self) -> bool:
        return bool(self._by_ino)

    def _pin(self, writers: Writers) -> None:
        """Appends and edits read it when they are first written to, whatever becomes of the name until then."""
        if writers.base is not None and writers.base.content:
            self._store.contents.pin(writers.base.content)

    def _unpin(self, writers: Writers) -> None:
        if writers.base is not None and writers.base.content:
            self._store.contents.unpin(writers.base.content)


def _nearest(parted: list[Writers], pid: int) -> Writers:
    """Those in which a thread's process opened something, or the nearest ancestor that it has something from."""
    for process, heir in ancestry(pid):
        near = [writers for writers in parted if writers.openings.of_process(process, heir)]
        if near:
            return next((writers for writers in near if writers.openings.copies_of(pid)), near[0])
    return next((writers for writers in parted if writers.openings.left_to(pid)), parted[0])
