"""Which threads opened which private copies of a name, as far as that can be told by numbers of threads."""

import time
from collections.abc import Collection
from itertools import chain

from fusefs.callers import lineage, started_at
from fusefs.copies import PrivateCopy
from fusefs.glances import in_time

_TAKEN_FOR_KNOWN_S = 1.0
"""For how long a number is taken for that of the same thread, once it was: to ask costs as much as a request."""


class Openings(dict[int, list[PrivateCopy]]):
    """The copies that are open, by the threads that opened them, in this order.

    A file may stay open for long after the thread that opened it has ended, and another may get its number.
    """

    def __init__(self) -> None:
        super().__init__()
        self._times: dict[int, list[float]] = {}
        """When each of them was opened."""
        self._known_until: dict[int, float] = {}
        """Up to when a number is known to be that of the thread which opened all these."""

    def add(self, pid: int, copy: PrivateCopy) -> None:
        own = self[pid] = self.pop(pid, [])  # the last one to open it is the last of all
        own.append(copy)
        self._times.setdefault(pid, []).append(_now())

    def take(self, pid: int, copy: PrivateCopy) -> None:
        """One of those who have a copy open has closed it."""
        index = self[pid].index(copy)
        del self[pid][index], self._times[pid][index]
        if not self[pid]:
            del self[pid], self._times[pid]
            self._known_until.pop(pid, None)

    def exchange(self, old: PrivateCopy, new: PrivateCopy) -> None:
        """Whoever has one copy open has another instead."""
        for copies in self.values():
            copies[:] = [new if copy is old else copy for copy in copies]

    def hand_over(self, other: "Openings", copies: Collection[PrivateCopy]) -> None:
        """Who has one of these copies open is in another list from now on."""
        for pid in list(self):
            opened = list(zip(self.pop(pid), self._times.pop(pid), strict=True))
            for copy, at in opened:
                to = other if copy in copies else self
                to.setdefault(pid, []).append(copy)
                to._times.setdefault(pid, []).append(at)

    @property
    def copies(self) -> list[PrivateCopy]:
        """All, each as often as it was opened."""
        return list(chain.from_iterable(self.values()))

    def of(self, pid: int) -> list[PrivateCopy]:
        """What the thread of this number opened, and not one that had the number before it."""
        copies = self.get(pid)
        if copies is None:
            return []
        now, times = _now(), self._times[pid]
        if now < max(times[0] + _TAKEN_FOR_KNOWN_S, self._known_until.get(pid, 0.0)):
            return copies
        # In a thread: /proc/PID/stat waits for a process inside execve(2), which may be waiting for us.
        began = in_time(pid, lambda: started_at(pid), otherwise=0.0)
        if began <= times[0]:
            self._known_until[pid] = now + _TAKEN_FOR_KNOWN_S
        return [copy for copy, opened in zip(copies, times, strict=True) if opened >= began]

    def of_lineage(self, pid: int) -> list[PrivateCopy]:
        """What the process of a thread opened, or the nearest ancestor that opened any; none where that is unknown."""
        return next(filter(None, map(self.of_any, lineage(pid))), [])

    def of_any(self, threads: Collection[int]) -> list[PrivateCopy]:
        """What one of these threads opened."""
        return [copy for thread in list(self) if thread in threads for copy in self.of(thread)]


def _now() -> float:
    """Seconds since the machine was started, as /proc counts them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
