"""The whole reference: what processes do to names that somebody is writing, and what a crash leaves."""

import errno

from tests.model.copies import Copy, Descriptor
from tests.model.tree import Directory, File, Path, Place, Refused
from tests.model.writing import Writing


class Model(Writing):
    """A mounted store and the processes that use it."""

    def start(self, process: str) -> None:
        self.processes.add(process)

    def mkdir(self, process: str, path: Path) -> None:
        if self.creating(self.place(path)):
            raise Refused(errno.EEXIST)
        self.make_directory(path)

    def rmdir(self, process: str, path: Path) -> None:
        if self._is_pending(process, path):
            raise Refused(errno.ENOTDIR)
        self.remove_directory(path)

    def symlink(self, process: str, path: Path) -> None:
        if self.creating(self.place(path)):
            raise Refused(errno.EEXIST)
        self.make_symlink(path, b"nowhere/at/all")

    def unlink(self, process: str, path: Path) -> None:
        """What the process has open under the name for writing is never published."""
        place = self.place(path)
        own = self.copies(place, process)
        if not self._is_pending(process, path):
            self.remove(path)
        for copy in own:
            copy.place = copy.kept = None

    def _is_pending(self, process: str, path: Path) -> bool:
        """Whether the process is creating the name."""
        place = self.place(path)
        return bool(self.creating(place, process))

    def move(self, process: str, old: Path, new: Path, replace: bool) -> None:
        """What the process has open for writing goes along with the name."""
        before, after = self.place(old), self.place(new)
        own = self._going_along(before, process)
        if not self._is_pending(process, old):
            if self.at(before) is not None and self._is_pending(process, new):
                self._onto_pending(old, replace)
            self.rename(old, new, replace)
        elif before == after and replace:
            return
        else:
            self._move_pending(own[0], before, after, self.sees(process, new) and not replace)
        if own and before != after:
            self._take_along(before, after, own)

    def _going_along(self, place: Place, process: str) -> list[Copy]:
        """What a process writes under a name, and goes where that goes.

        What it began before the name was lost, and somebody put it anew, may go along or not.
        """
        return [copy for copy in self.copies(place, process) if copy.attached or self.choose()]

    def _onto_pending(self, old: Path, replace: bool) -> None:
        """The process is shown its own file there."""
        if not replace:
            raise Refused(errno.EEXIST)
        if isinstance(self.find(old), Directory):
            raise Refused(errno.ENOTDIR)

    def _move_pending(self, copy: Copy, before: Place, after: Place, taken: bool) -> None:
        """It is published by that, under its new name."""
        if taken:
            raise Refused(errno.EEXIST)
        target = self.at(after)
        if isinstance(target, Directory):
            raise Refused(errno.EISDIR, errno.ENOTEMPTY)
        if self.path_of(after[0]) is None:
            raise Refused(errno.ENOENT)
        copy.place = after
        try:
            if copy.changed:
                self._publish_now(copy)
        except Refused:
            copy.place = before
            raise

    def _take_along(self, before: Place, after: Place, own: list[Copy]) -> None:
        for copy in own:
            copy.place = after
        others = [copy for copy in self.copies(before) if copy.attached]
        if others and self.choose():
            for copy in others:
                copy.place = after

    def swap(self, process: str, one: Path, other: Path) -> None:
        """Those who write go on under the name that they opened."""
        if one == other and self._is_pending(process, one):
            return
        for pending, beside in ((one, other), (other, one)):
            if self._is_pending(process, pending):
                raise Refused(errno.EINVAL, *self._why_not(beside))
        self.exchange(one, other)

    def _why_not(self, path: Path) -> frozenset[int]:
        """The errnos of looking for something that is not there."""
        try:
            self.place(path)
            self.find(path)
        except Refused as refused:
            return refused.numbers
        return frozenset()

    # Ends

    def fork(self, process: str, child: str, fds: dict[int, int]) -> None:
        """The child has all that the process has open; `fds` are the numbers of its descriptors."""
        self.processes.add(child)
        for fd, new in fds.items():
            old = self.descriptors[fd]
            self.descriptors[new] = Descriptor(child, old.number, old.handle)

    def end(self, process: str) -> None:
        """It exits, with any status. The kernel may let the files go in the reverse order, once all are safe."""
        self.processes.discard(process)
        fds = self.of_process(process)
        for fd in fds:
            self.flush(fd)
        for fd in fds[:: -1 if self.choose() else 1]:
            self.release(fd)

    def kill(self, process: str) -> None:
        """By a signal: what only the killed have changed is not published."""
        self.processes.discard(process)
        fds = self.of_process(process)
        opens = any(handle.opener == process for handle in self.handles())
        for fd in fds[:: -1 if self.choose() else 1]:
            handle = self.descriptors[fd].handle
            others = {found.process for found in self.descriptors.values() if found.handle is handle} - {process}
            if handle.opener == process or handle.opener not in self.processes:
                handle.killed = True
            if others and self.choose():
                # Whether it was the one who wrote, or a helper of one who did, cannot always be told.
                handle.killed = not handle.killed
            # Who has opened others may be closing those, and is not looked for where the opener of this one is gone.
            untold = opens and handle.opener not in {process, *self.processes} and self.choose()
            if untold:
                handle.killed = False
            self.release(fd, left=not untold)

    def crash(self, limit: int, expiry: int) -> None:
        """The daemon is killed; another opens the store. What was half closed may come back as it was then."""
        kept = [copy.kept for copy in dict.fromkeys(handle.copy for handle in self.handles()) if copy and copy.kept]
        self.descriptors.clear()
        self.tell_limits(limit, expiry)
        for put in sorted(kept, key=lambda put: put.order):
            if self.path_of(put.place[0]) is not None and self.choose():
                try:
                    self.complete(put.place, put.how, put.value, File(put.note))
                except Refused:
                    continue
        self.forgiven.clear()

    def remount(self, limit: int, expiry: int) -> None:
        assert not self.descriptors
        self.tell_limits(limit, expiry)
