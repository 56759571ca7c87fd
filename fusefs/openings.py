"""Who opened the files of a private inode: which thread, of which process.

One process may have thousands of them open, and each request about the name asks: what is asked often looks at the last
of them only.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice

from fusefs.callers import ancestry, identity_of, started_at
from fusefs.copies import PrivateCopy
from fusefs.glances import in_time
from fusefs.opened import InOrder, Opened, first_written, inherited, some, written
from fusefs.openfiles import holds
from fusefs.tasks import TAKEN_FOR_KNOWN_S, Opener, Task, since_boot

_SHOWN = 8
_FOUND_AT_MOST = 1000
_LOOKED_AT_S = 0.01
"""For how long the processes are looked at that opened a file: some 30 us for each."""


def _began(processes: Collection[Task]) -> dict[Task, float]:
    """As Task.began; none of them where there are too many to look at in time."""
    began: dict[Task, float] = {}
    until = time.thread_time() + _LOOKED_AT_S
    for process in processes:
        if time.thread_time() > until:
            return {}
        began[process] = process.began()
    return began


class Openings(Collection[Opened]):
    """What is open of one private inode, in the order in which it was opened."""

    def __init__(self, ino: int, connection: int | None) -> None:
        """`connection`: the minor number of the mount's device; other filesystems have files of the same numbers."""
        self._ino = ino
        self._connection = connection
        self._files: InOrder = {}
        self._by_thread: dict[int, InOrder] = {}
        self._by_process: dict[int, InOrder] = {}
        self._identities: Counter[object] = Counter()
        """How often each copy is open, by its identity; None for what is published."""
        self._some_removed = False
        """Whether there was a copy whose process had removed the name."""
        self._shown: deque[int] = deque(maxlen=_SHOWN)
        """The inode numbers that fstat(2) has shown on these last.

        /proc shows the last of them, or one of the last where some asked at once: each fsync(2) may bring a new one.
        """
        self.parted = False
        """Others have the same private inode and another name, or had (see fusefs.parting)."""
        self._open_in: set[int] = set()
        """The identities of threads that were found in /proc to have it open: until somebody closes it, they have."""
        self._known_until: dict[int, float] = {}
        """Up to when a number is known to be that of the thread or process which opened all these."""

    def __iter__(self) -> Iterator[Opened]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, file: object) -> bool:
        return file in self._files

    def append(self, file: Opened) -> None:
        """A file was opened."""
        self._files[file] = None
        self._by_thread.setdefault(file.by.thread.number, {})[file] = None
        self._by_process.setdefault(file.by.process.number, {})[file] = None
        self._identities[file.copy and file.copy.identity] += 1
        self._some_removed |= file.copy is not None and file.copy.unlinked

    def remove(self, file: Opened) -> None:
        """A file is closed, or is among other openings from now on."""
        del self._files[file]
        self.note_closed()
        for numbered, task in ((self._by_thread, file.by.thread), (self._by_process, file.by.process)):
            files = numbered[task.number]
            del files[file]
            if not files:
                del numbered[task.number]
        identity = file.copy and file.copy.identity
        self._identities[identity] -= 1
        if not self._identities[identity]:
            del self._identities[identity]

    def note_removed(self, copies: Iterable[PrivateCopy]) -> None:
        """The process of these copies has removed their name."""
        for copy in copies:
            copy.unlinked = True
        self._some_removed = True

    def beside(self) -> "Openings":
        """Those of others who have the same inode and part from these; none yet."""
        parted = Openings(self._ino, self._connection)
        parted._shown = self._shown  # /proc shows for all of them what was shown last for any
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
        return len(self._identities) > 1 or self.some_published

    @property
    def _is_one(self) -> bool:
        """Whether there is nothing to find out: all who have this inode open have one file open."""
        return not self.parted and not self.differ

    @property
    def some_published(self) -> bool:
        """Whether any of these is a value that is published."""
        return None in self._identities

    def of(self, thread: int) -> list[Opened]:
        """What the thread of this number opened, and not one that had the number before it."""
        return [*self._last_of(thread)][::-1]

    def of_process(self, process: int, heir: int = 0) -> list[Opened]:
        """What any thread of a process opened, also one that has ended; what its child `heir` can have from it."""
        return [*self._last_of_process(process, heir)][::-1]

    def of_family(self, thread: int) -> list[Opened]:
        """What the process of a thread opened, or the nearest ancestor that it has any from; none where unknown."""
        return [*self._last_of_family(thread)][::-1]

    def orphans(self, thread: int) -> list[Opened]:
        """What only processes opened that are gone, so that those have it who inherited it; none if it is several.

        `thread` asks. None, too, where more processes have it open than can be looked at in time.
        """
        processes = {file.by.process for file in self}
        began = in_time(thread, lambda: _began(processes), otherwise=dict[Task, float]())
        gone = {file for file in self if began.get(file.by.process, 0.0) > file.by.at}
        left = {file.copy or file for file in gone}
        left -= {file.copy or file for file in self if gone and file not in gone}
        return [file for file in self if (file.copy or file) in left] if len(left) == 1 else []

    # From here on, the last one that was opened comes first

    def _last_of(self, thread: int) -> Iterator[Opened]:
        return self._opened_by(thread, self._by_thread, lambda opener: opener.thread)

    def _last_of_process(self, process: int, heir: int = 0) -> Iterator[Opened]:
        files = self._opened_by(process, self._by_process, lambda opener: opener.process)
        return inherited(files, heir) if heir else files

    def _last_of_family(self, thread: int) -> Iterator[Opened]:
        for process, heir in ancestry(thread):
            found = some(self._last_of_process(process, heir))
            if found is not None:
                return found
        return iter(())

    def _last_files_of(self, pid: int) -> Iterator[Opened]:
        """As `files_of`, where they are several."""
        return some(self._last_of_family(pid)) or reversed(self.left_to(pid))

    def _opened_by(self, number: int, numbered: dict[int, InOrder], part: Callable[[Opener], Task]) -> Iterator[Opened]:
        files = numbered.get(number)
        if not files:
            return iter(())
        identity = identity_of(number)
        if identity:
            return (file for file in reversed(files) if part(file.by).identity == identity)
        began = self._start_of(number, next(iter(files)).by.at)
        return (file for file in reversed(files) if file.by.at >= began)

    def _start_of(self, number: int, first: float) -> float:
        """When the thread of this number was started; 0 where it has opened all since `first`.

        As far as that can be told: /proc counts hundredths of a second.
        """
        now = since_boot()
        if now < max(first + TAKEN_FOR_KNOWN_S, self._known_until.get(number, 0.0)):
            return 0.0
        # In a thread, as above.
        began = in_time(number, lambda: started_at(number), otherwise=0.0)
        if began <= first:
            self._known_until = {known: until for known, until in self._known_until.items() if until > now}
            self._known_until[number] = now + TAKEN_FOR_KNOWN_S
        return began

    # Whose file is meant

    def held_by(self, pid: int) -> bool:
        """Whether the caller's process has a file of this private inode open, and did not remove its name."""
        return self.held_copy(pid) is not None

    def held_copy(self, pid: int) -> PrivateCopy | None:
        """What the caller's process writes to the name, which it has not removed."""
        copy = self.own_copy(pid)
        return None if copy is None or copy.unlinked or not self._is_open_in(pid) else copy

    def note_closed(self) -> None:
        """A descriptor of one of these was closed."""
        self._open_in.clear()

    def _is_open_in(self, pid: int) -> bool:
        if self._open_in and identity_of(pid) in self._open_in:
            return True
        opened = False
        for file in self._last_of(pid):
            if not file.closed_before:
                return True
            opened = True
        # A number that is shown for a published object as well is that of readers, too.
        inos, for_writing = {self._ino, *self._shown}, bool(self._shown)
        found = holds(pid, inos, for_writing=for_writing, connection=self._connection, otherwise=opened)
        if found and (identity := identity_of(pid)):
            if len(self._open_in) >= _FOUND_AT_MOST:
                self._open_in.clear()
            self._open_in.add(identity)
        return found

    def removed_by(self, pid: int) -> PrivateCopy | None:
        """What the caller's process has open and removed the name of: to be opened by its descriptors in /proc."""
        if not self._some_removed or not any(copy.unlinked for copy in self.copies):
            return None
        copy = self.own_copy(pid)
        return copy if copy is not None and copy.unlinked and self._is_open_in(pid) else None

    def copies_of(self, pid: int) -> list[PrivateCopy]:
        """The copies that one who has this inode open writes; none where that cannot be told."""
        return written(self.files_of(pid))

    def files_of(self, pid: int) -> Collection[Opened]:
        """What one has open who has this inode open: what its process opened, or the nearest ancestor that opened any.

        There is nothing to find out where all have one file open.
        """
        if self._is_one:
            return self
        return self.of_family(pid) or self.left_to(pid)

    def left_to(self, pid: int) -> list[Opened]:
        """What was opened by processes that are gone, for who inherited it and has nothing to do with the others."""
        left = self.orphans(pid)
        return left if left and self._is_open_in(pid) else []

    def own_copy(self, pid: int) -> PrivateCopy | None:
        """The one of `copies_of` that a thread works on: the last one that it opened itself, or else of all."""
        if self._is_one:
            return first_written(islice(reversed(self._files), 1))
        return first_written(self._last_of(pid)) or first_written(self._last_files_of(pid))
