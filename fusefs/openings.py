"""Who opened the files of a private inode: which thread, of which process."""

from collections import deque
from collections.abc import Callable, Iterable

from fusefs.callers import START_KNOWN_TO_S, ancestry, identity_of, started_at
from fusefs.copies import PrivateCopy
from fusefs.glances import in_time
from fusefs.openfiles import holds
from fusefs.tasks import TAKEN_FOR_KNOWN_S, Opener, Task, since_boot

_SHOWN = 8


class Opened:
    """A file of a private inode that is open."""

    def __init__(self, by: Opener, copy: PrivateCopy | None) -> None:
        self.by = by
        self.copy = copy
        """What it stands for; None for a value that is published, and may be read by this inode."""


def written(files: Iterable[Opened]) -> list[PrivateCopy]:
    """The copies that somebody is writing, of what these files stand for; each as often as it is open."""
    return [file.copy for file in files if file.copy is not None and file.copy.holders]


def _inherited(files: list[Opened], heir: int) -> list[Opened]:
    """Those that the parent of a process had opened when it started that; all where that is unknown.

    Who was adopted by a process has nothing of what that opens. As far as it can be told: what was opened in the same
    hundredth of a second is taken for inherited.
    """
    # In a thread: /proc/PID/stat waits for a process inside execve(2), which may be waiting for us.
    began = in_time(heir, lambda: started_at(heir), otherwise=0.0)
    return [file for file in files if file.by.at < began + START_KNOWN_TO_S] if began else files


class Openings(list[Opened]):
    """What is open of one private inode, in the order in which it was opened."""

    def __init__(self, ino: int, connection: int | None) -> None:
        """`connection`: the minor number of the mount's device; other filesystems have files of the same numbers."""
        super().__init__()
        self._ino = ino
        self._connection = connection
        self._shown: deque[int] = deque(maxlen=_SHOWN)
        """The inode numbers that fstat(2) has shown on these last.

        /proc shows the last of them, or one of the last where some asked at once: each fsync(2) may bring a new one.
        """
        self.parted = False
        """Others have the same private inode and another name, or had (see fusefs.parting)."""
        self._known_until: dict[int, float] = {}
        """Up to when a number is known to be that of the thread or process which opened all these."""

    def beside(self) -> "Openings":
        """Those of others who have the same inode and part from these; none yet."""
        parted = Openings(self._ino, self._connection)
        parted._shown.extend(self._shown)
        parted.parted = self.parted = True
        return parted

    def note_shown(self, ino: int) -> None:
        """fstat(2) is about to show this inode number."""
        if ino not in self._shown:
            self._shown.append(ino)

    @property
    def copies(self) -> list[PrivateCopy]:
        """All that are written, each as often as it was opened."""
        return written(self)

    @property
    def differ(self) -> bool:
        """Whether these are several files: then it is to be found out which of them is whose."""
        return any(file.copy is not self[0].copy or file.copy is None for file in self)

    def of(self, thread: int) -> list[Opened]:
        """What the thread of this number opened, and not one that had the number before it."""
        return self._opened_by(thread, lambda opener: opener.thread)

    def of_process(self, process: int, heir: int = 0) -> list[Opened]:
        """What any thread of a process opened, also one that has ended; what its child `heir` can have from it."""
        files = self._opened_by(process, lambda opener: opener.process)
        return _inherited(files, heir) if files and heir else files

    def of_family(self, thread: int) -> list[Opened]:
        """What the process of a thread opened, or the nearest ancestor that it has any from; none where unknown."""
        return next(filter(None, (self.of_process(process, heir) for process, heir in ancestry(thread))), [])

    def orphans(self, thread: int) -> list[Opened]:
        """What only processes opened that are gone, so that those have it who inherited it; none if it is several.

        `thread` asks.
        """
        files = [*self]
        gone = in_time(thread, lambda: {file for file in files if file.by.is_gone}, otherwise=set[Opened]())
        left = {file.copy or file for file in gone} - {file.copy or file for file in files if file not in gone}
        return [file for file in files if (file.copy or file) in left] if len(left) == 1 else []

    def _opened_by(self, number: int, part: Callable[[Opener], Task]) -> list[Opened]:
        files = [file for file in self if part(file.by).number == number]
        if not files:
            return files
        identity = identity_of(number)
        if identity:
            return [file for file in files if part(file.by).identity == identity]
        return self._since_started(number, files)

    def _since_started(self, number: int, files: list[Opened]) -> list[Opened]:
        """Those of some files that were opened since the thread of this number was started.

        As far as that can be told: /proc counts hundredths of a second.
        """
        now, first = since_boot(), files[0].by.at
        if now < max(first + TAKEN_FOR_KNOWN_S, self._known_until.get(number, 0.0)):
            return files
        # In a thread: /proc/PID/stat waits for a process inside execve(2), which may be waiting for us.
        began = in_time(number, lambda: started_at(number), otherwise=0.0)
        if began <= first:
            self._known_until = {known: until for known, until in self._known_until.items() if until > now}
            self._known_until[number] = now + TAKEN_FOR_KNOWN_S
        return [file for file in files if file.by.at >= began]

    # Whose file is meant

    def held_by(self, pid: int) -> bool:
        """Whether the caller's process has a file of this private inode open, and did not remove its name."""
        return self.held_copy(pid) is not None

    def held_copy(self, pid: int) -> PrivateCopy | None:
        """What the caller's process writes to the name, which it has not removed."""
        copy = self.own_copy(pid) if self._is_open_in(pid) else None
        return None if copy is None or copy.unlinked else copy

    def _is_open_in(self, pid: int) -> bool:
        # A number that is shown for a published object as well is that of readers, too.
        inos = {self._ino, *self._shown}
        return bool(self.of(pid)) or holds(pid, inos, for_writing=bool(self._shown), connection=self._connection)

    def removed_by(self, pid: int) -> PrivateCopy | None:
        """What the caller's process has open and removed the name of: to be opened by its descriptors in /proc."""
        if not any(copy.unlinked for copy in self.copies):
            return None
        copy = self.own_copy(pid)
        return copy if copy is not None and copy.unlinked and self._is_open_in(pid) else None

    def copies_of(self, pid: int) -> list[PrivateCopy]:
        """The copies that one who has this inode open writes; none where that cannot be told."""
        return written(self.files_of(pid))

    def files_of(self, pid: int) -> list[Opened]:
        """What one has open who has this inode open: what its process opened, or the nearest ancestor that opened any.

        There is nothing to find out where all have one file open.
        """
        if not self.parted and not self.differ:
            return self
        return self.of_family(pid) or self.left_to(pid)

    def left_to(self, pid: int) -> list[Opened]:
        """What was opened by processes that are gone, for who inherited it and has nothing to do with the others."""
        left = self.orphans(pid)
        return left if left and self._is_open_in(pid) else []

    def own_copy(self, pid: int) -> PrivateCopy | None:
        """The one of `copies_of` that a thread works on: the last one that it opened itself, or else of all."""
        own = written(self.of(pid)) or self.copies_of(pid)
        return own[-1] if own else None
