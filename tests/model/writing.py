"""The contract's rules for open files: what each handle reads, and what becomes of what is written through it."""

import errno

from tests.model.copies import MODES, Copy, Descriptor, Handle, How, Kept, Mode
from tests.model.holding import Holding
from tests.model.tree import Directory, File, Object, Path, Pipeline, Place, Refused, Symlink

SMALL = 65_536
"""What a mount keeps in memory until it is closed."""


class Writing(Holding):
    """Opening, reading, writing, publishing."""

    # Opening

    def open(self, fd: int, process: str, path: Path, mode: str) -> None:
        place, how = self.place(path), MODES[mode]
        entry = self.at(place)
        own = bool(self.creating(place, process))
        if how.exclusive and (entry is not None or self.creating(place)):
            raise Refused(errno.EEXIST)
        if isinstance(entry, Symlink):
            raise Refused(errno.ENOENT)
        if isinstance(entry, Directory):
            raise Refused(errno.EISDIR)
        if entry is None and not own and not how.create:
            raise Refused(errno.ENOENT)
        handle = Handle(process, how)
        if how.read_only:
            self._open_for_reading(handle, place, process)
        else:
            self._open_for_writing(handle, place, own=own)
        self.descriptors[fd] = Descriptor(process, self._free_number(process), handle)

    def _open_for_reading(self, handle: Handle, place: Place, process: str) -> None:
        entry = self.at(place)
        own = self.creating(place, process)
        if isinstance(entry, Object):
            handle.value = entry.value
        elif own:
            handle.copy = own[0]
        else:
            self._require_room(place, How.IF_ABSENT, b"")
            handle.value = self.complete(place, How.IF_ABSENT, b"", self._file_at(place)).value

    def _open_for_writing(self, handle: Handle, place: Place, *, own: bool) -> None:
        entry = self.at(place)
        assert entry is None or isinstance(entry, Object)
        copy = self.shared_copy(place)
        mode = handle.mode
        shares = copy is not None and ((own and copy.exclusive) if mode.replaces else (own or not mode.append))
        if copy is None or not shares:
            copy = self._new_copy(place, entry, mode)
            if not mode.append and (entry is None or not mode.replaces) and self.shared_copy(place) is None:
                copy.shared = True
        elif mode.truncate:
            if copy.refused and copy.value:
                raise Refused(copy.refused)
            self._change(copy, b"")
        handle.copy = copy
        handle.changed = mode.replaces or (entry is None and not own)

    def _new_copy(self, place: Place, entry: Object | None, mode: Mode) -> Copy:
        how = How.REPLACE
        if mode.append and not mode.replaces:
            how = How.APPEND
        elif entry is None and not mode.replaces:
            how = How.IF_ABSENT
        value = b"" if entry is None or mode.replaces or how is How.APPEND else entry.value
        self.order += 1
        copy = Copy(self.order, place, how, value, entry, self._file_at(place), exclusive=mode.exclusive)
        copy.creates = entry is None
        copy.changed = mode.replaces or entry is None
        copy.before = {b"" if entry is None else entry.value}
        return copy

    def _file_at(self, place: Place) -> File:
        """What has a name, or is being created there."""
        entry = self.at(place)
        if isinstance(entry, Object):
            return entry.file
        return next((copy.file for copy in self.creating(place)), None) or File()

    def _free_number(self, process: str) -> int:
        taken = {found.number for found in self.descriptors.values() if found.process == process}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def duplicate(self, fd: int, new: int) -> None:
        old = self.descriptors[fd]
        self.descriptors[new] = Descriptor(old.process, self._free_number(old.process), old.handle)

    # Reading and writing

    def readable(self, fd: int) -> set[bytes]:
        """What a descriptor may read."""
        copy = self.descriptors[fd].handle.copy
        if copy is None:
            return {self.descriptors[fd].handle.value}
        if copy.how is How.APPEND:
            return {before + copy.value for before in copy.before}
        return {copy.value}

    def write(self, fd: int, offset: int, data: bytes) -> None:
        """Through an appending descriptor the bytes go to the end, whatever the offset."""
        handle = self.descriptors[fd].handle
        copy = self._writable(handle)
        if handle.mode.append:
            offset = len(copy.value)
        before = copy.value[:offset].ljust(offset, b"\0")
        value = before + data + copy.value[offset + len(data) :]
        if self._can_never_fit(copy, offset + len(data)):
            copy.refused, copy.kept = errno.EDQUOT, None
            raise Refused(errno.EDQUOT)
        self._change(copy, value)

    def _can_never_fit(self, copy: Copy, size: int) -> bool:
        """Whether a write is refused at once. A small value may be larger than the limit until it is closed."""
        scope = None if copy.place is None else self.scope_of(copy.place[0])
        most = scope.max_bytes if isinstance(scope, Pipeline) else 0
        sizes = {len(before) for before in copy.before} if copy.how is How.APPEND else {0}
        refused = {most and size + before > max(most, SMALL) for before in sizes}
        return self.choose() if len(refused) > 1 else any(refused)

    def truncate(self, fd: int, size: int) -> None:
        handle = self.descriptors[fd].handle
        copy = self._writable(handle)
        if copy.how is How.APPEND:
            # From here on it replaces the value, by what it had and appended itself.
            copy.value = self._one_of(copy.before) + copy.value
            copy.how = How.REPLACE
        self._change(copy, copy.value[:size].ljust(size, b"\0"))

    def _one_of(self, allowed: set[bytes]) -> bytes:
        *others, last = sorted(allowed)
        return next((value for value in others if self.choose()), last)

    def _writable(self, handle: Handle) -> Copy:
        assert handle.copy is not None
        handle.changed, handle.killed = True, False
        if handle.copy.refused:
            raise Refused(handle.copy.refused)
        return handle.copy

    def _change(self, copy: Copy, value: bytes) -> None:
        copy.value = value
        copy.changed, copy.prepared = True, False
        if copy.how is How.IF_ABSENT:
            copy.how = How.REPLACE

    # Publishing

    def fsync(self, fd: int) -> None:
        copy = self.descriptors[fd].handle.copy
        if copy is None or self.descriptors[fd].handle.mode.read_only:
            return
        if copy.refused:
            raise Refused(copy.refused)
        if copy.changed and copy.place is not None:
            if self.may_clash(copy) and self.choose():
                raise Refused(errno.EEXIST)
            self._publish_now(copy)

    def _publish_now(self, copy: Copy) -> None:
        self._publish(copy)
        copy.finished = copy.unfinished = False
        if copy.how is How.APPEND:
            assert copy.origin is not None
            # It goes on with the file that it was appended to, which may have come back for that.
            copy.value, copy.file = b"", copy.origin.file
        elif copy.how is How.IF_ABSENT:
            copy.how = How.REPLACE

    def _publish(self, copy: Copy) -> None:
        assert copy.place is not None
        if self.path_of(copy.place[0]) is None:
            raise Refused(errno.ENOENT)
        if not copy.prepared or copy.kept is None or copy.kept.place[0] is not copy.place[0]:
            self._require_room(copy.place, copy.how, copy.value)
        copy.origin = self.complete(copy.place, copy.how, copy.value, copy.file)
        copy.changed = copy.prepared = False
        copy.kept = None

    def _require_room(self, place: Place, how: How, value: bytes) -> None:
        path = self.path_of(place[0])
        if path is not None:
            parts = (*path.split(b"/"), place[1])
            self.require_room(parts[:2], lambda tried: tried.complete(tried.place(parts), how, value, File()))

    def complete(self, place: Place, how: How, value: bytes, file: File) -> Object:
        """Put, in any of the ways. The other writers of the name go on from there.

        What is appended to keeps its attributes.
        """
        if how is not How.REPLACE and self.at(place) is None:
            self.bring_back(place)
        old = self.at(place)
        if isinstance(old, Object) and how is How.IF_ABSENT:
            return old
        if isinstance(old, Object) and how is How.APPEND:
            value, file = old.value + value, old.file
        return self.put(place, value, file)

    def close(self, fd: int) -> int:
        """Returns the errno that close(2) gives, 0 for none."""
        number = self.flush(fd)
        self.release(fd)
        return number

    def flush(self, fd: int) -> int:
        """The first half of a close: what is written so far is safe from the death of the daemon."""
        copy = self._written(self.descriptors[fd].handle)
        return 0 if copy is None else self._flush(copy)

    def release(self, fd: int, *, left: bool = False) -> None:
        """The second half: the last one publishes. `left`: by a signal that killed the process."""
        handle = self.descriptors.pop(fd).handle
        copy = self._written(handle)
        if copy is None or any(other.handle is handle for other in self.descriptors.values()):
            return
        if handle.changed:
            copy.unfinished |= left or handle.killed
            copy.finished |= not (left or handle.killed)
        if all(self._written(other) is not copy for other in self.handles()):
            self._finish(copy)

    def _written(self, handle: Handle) -> Copy | None:
        """What a handle writes to."""
        return None if handle.mode.read_only else handle.copy

    def _flush(self, copy: Copy) -> int:
        as_kept = copy.prepared and copy.kept is not None and copy.kept.note == copy.file.note
        if copy.refused or not copy.changed or copy.place is None:
            return copy.refused
        if isinstance(self.at(copy.place), Directory):
            copy.refused = errno.EISDIR
        elif self.path_of(copy.place[0]) is None:
            copy.refused = errno.ENOENT
        elif as_kept:
            return 0
        elif self.may_clash(copy) and self.choose():
            copy.refused = errno.EEXIST
        else:
            try:
                self._require_room(copy.place, copy.how, copy.value)
            except Refused as refused:
                copy.refused = min(refused.numbers)
        if copy.refused:
            copy.kept = None
            return copy.refused
        self.order += 1
        copy.kept = Kept(self.order, copy.place, copy.how, copy.value, copy.file.note)
        copy.prepared = True
        return 0

    def _finish(self, copy: Copy) -> None:
        left_by_the_killed = copy.unfinished and not copy.finished
        if copy.changed and copy.place is not None and not copy.refused and not left_by_the_killed:
            try:
                self._publish(copy)
            except Refused:
                copy.refused = errno.EIO  # too late to tell anybody but the log
        copy.kept = None

    def of_process(self, process: str) -> list[int]:
        found = [(open_.number, fd) for fd, open_ in self.descriptors.items() if open_.process == process]
        return [fd for _, fd in sorted(found)]
