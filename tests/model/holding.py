"""The reference's answers to who has what open, and who is shown what under a name that is being written."""

import errno

from tests.model.copies import Copy, Descriptor, Handle
from tests.model.reference import Reference
from tests.model.tree import Directory, File, Object, Path, Pipeline, Place, Refused


class Holding(Reference):
    """A store with processes that have its files open. A process is a name, a descriptor a number of its own."""

    def __init__(self, limit: int, expiry: int) -> None:
        super().__init__(limit, expiry)
        self.processes: set[str] = set()
        self.descriptors: dict[int, Descriptor] = {}
        self.order = 0

    def directory(self, path: Path) -> Directory:
        try:
            return super().directory(path)
        except Refused as refused:
            # Who is writing a name that stands for nothing may be shown what it writes, and that is no directory.
            if any(self._is_written(path[:end]) for end in range(3, len(path) + 1)):
                raise Refused(*refused.numbers, errno.ENOTDIR) from None
            raise

    def _is_written(self, path: Path) -> bool:
        try:
            place = super().directory(path[:-1]), path[-1]
            return self.at(place) is None and bool(self.copies(place))
        except Refused:
            return False

    def settle(self) -> None:
        """After each step: a name that has a value is not being created any more.

        When it loses that again, whoever takes the name anew has nothing to do with those who write it still. And they
        put a file of their own, whatever is set by path of the one that has another name now.
        """
        lost: dict[File, File] = {}
        for copy in {handle.copy for handle in self.handles() if handle.copy is not None}:
            now = None if copy.place is None else self.at(copy.place)
            if now is not None:
                copy.overtaken |= copy.creates and now is not copy.origin
                copy.creates = False
                copy.before.add(now.value if isinstance(now, Object) else b"")
            elif not copy.creates:
                copy.attached = False
            if not isinstance(now, Object) or now.file is not copy.file:
                copy.file = lost.setdefault(copy.file, File(copy.file.note))

    # Who has what open

    def handles(self) -> list[Handle]:
        return list(dict.fromkeys(found.handle for found in self.descriptors.values()))

    def copies(self, place: Place, process: str | None = None) -> list[Copy]:
        """The copies of a name that anybody has open for writing, or a process does."""
        found = [
            descriptor.handle.copy
            for descriptor in self.descriptors.values()
            if descriptor.handle.copy is not None
            and not descriptor.handle.mode.read_only
            and descriptor.handle.copy.place == place
            and process in (None, descriptor.process)
        ]
        return list(dict.fromkeys(found))

    def creating(self, place: Place, process: str | None = None) -> list[Copy]:
        """Those of them that are to make a new name."""
        return [copy for copy in self.copies(place, process) if copy.creates and self.at(place) is None]

    def sees(self, process: str, path: Path) -> bool:
        """Whether a process is shown a name: one that it is creating, too."""
        try:
            place = self.place(path)
        except Refused:
            return False
        return self.at(place) is not None or bool(self.creating(place, process))

    def is_unclear(self, process: str, path: Path) -> bool:
        """Whether the contract leaves open what a process is shown under a name that is new."""
        try:
            place = self.place(path)
        except Refused:
            return False
        if self.at(place) is not None or not self.copies(place):
            return False
        here = [found for found in self.descriptors.values() if found.handle.copy in self.copies(place)]
        own = self.creating(place, process)
        return (
            any(copy.overtaken for copy in self.copies(place))
            # Several copies, or one of another kind than a further open would share.
            or len(own) > 1
            or any(copy is not self.shared_copy(place) for copy in own)
            # It has only what reads of it, or has passed on what it opened to a child.
            or (not own and any(process in (found.process, found.handle.opener) for found in here))
            or any(self._is_anybodys(found.handle) for found in here if found.process == process)
        )

    def _is_anybodys(self, handle: Handle) -> bool:
        """Whether who inherited it cannot be told: its opener has ended, and somebody else has opened the same."""
        same = (other.opener for other in self.handles() if other.copy is handle.copy)
        return handle.opener not in self.processes and any(opener in self.processes for opener in same)

    def shared_copy(self, place: Place) -> Copy | None:
        now = self.at(place)
        copies = [copy for copy in self.copies(place) if copy.shared and copy.attached]
        if now is None:
            return next((copy for copy in copies if copy.creates), None)
        return next((copy for copy in copies if copy.origin is now), None)

    def waiting_bytes(self) -> int:
        copies = {handle.copy for handle in self.handles() if handle.copy is not None}
        return sum(len(copy.kept.value) for copy in copies if copy.kept is not None)

    @property
    def is_unsure(self) -> bool:
        """Whether bytes are limited, or somebody else has given a value to a name that is being created."""
        pipelines = self.scopes(b"pipeline").values()
        limited = any(isinstance(pipeline, Pipeline) and pipeline.max_bytes for pipeline in pipelines)
        copies = [handle.copy for handle in self.handles() if handle.copy is not None]
        return limited or any(self.may_clash(copy) or copy.overtaken for copy in copies)

    def may_clash(self, copy: Copy) -> bool:
        """Whether the creation may fail as late as its close: only then is it known what other mounts did."""
        return copy.exclusive and copy.overtaken and copy.changed
