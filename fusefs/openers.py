"""A quick look at who opened a file: whether all who can have it open from there go on living.

Most files are closed by the thread that opened them, many by the same one, and nobody near it exits. The files below
/proc that tell so are kept open: reading one again costs a sixth of opening, reading and closing it. They wait for
nobody (see fusefs.closers), and a descriptor stands for the one process that it was opened for, never for a later one
of the same number.
"""

import os
from collections import OrderedDict
from contextlib import suppress
from enum import Enum

_KEPT = 64
"""For how many threads the files are kept open: three each."""
_FAMILY_AT_MOST = 32
_SIZES = 100
_CHILDREN = 4096
_LINKS_OF_NONE = 2
"""Hard links of a directory with no other in it; task of a process has one more for each thread."""


class Life(Enum):
    """What can be seen of a thread without waiting for anybody."""

    ALIVE = 1
    IN_EXEC = 2
    """It is replacing its program, and closes what the next one is not to have."""
    EXITING = 3
    """It has given its memory back, and closes its files or has closed them."""
    GONE = 4


def life_of(sizes: list[bytes]) -> Life:
    """What the sizes of a thread's memory tell (proc(5), statm)."""
    if len(sizes) < 4:
        return Life.GONE
    if sizes[0] == b"0":
        return Life.EXITING
    # The new program is not there yet, only a stack for it.
    return Life.IN_EXEC if sizes[3] == b"0" else Life.ALIVE


LEAVING = (Life.EXITING, Life.GONE)


class _Seen:
    """The files of one thread. All methods raise OSError when it is gone."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._fds: list[int] = []
        try:
            for name in ("statm", "task", f"task/{pid}/children"):
                self._fds.append(os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self.close()
            raise
        self._statm, self._task, self._children = self._fds

    def life(self) -> Life:
        return life_of(os.pread(self._statm, _SIZES, 0).split())

    def threads(self, at_most: int) -> list[int] | None:
        """All threads of the process; None where they are more than that."""
        number = os.fstat(self._task).st_nlink - _LINKS_OF_NONE
        if number > at_most:
            return None
        return [self._pid] if number == 1 else [int(name) for name in os.listdir(self._task)]

    def children(self) -> list[int]:
        return [int(pid) for pid in os.pread(self._children, _CHILDREN, 0).split()]

    def close(self) -> None:
        for fd in self._fds:
            with suppress(OSError):
                os.close(fd)
        self._fds.clear()


class Openers:
    """The threads that opened files lately, and their families."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, _Seen] = OrderedDict()

    def nobody_exits(self, pid: int) -> bool:
        """Whether a thread lives and goes on, as do the others of its process, and its children with theirs.

        False also where that cannot be seen, or takes long to find out.
        """
        todo, known = [pid], {pid}
        try:
            while todo:
                process = todo.pop()
                life, seen = self._look(process)
                if process == pid and life is not Life.ALIVE:
                    return False
                threads = seen.threads(_FAMILY_AT_MOST - len(known) + 1)  # of which one is known
                if threads is None:
                    return False
                for thread in threads:
                    if thread != process:
                        known.add(thread)
                        life, seen = self._look(thread)
                    if life in LEAVING:
                        return False
                    for child in seen.children():
                        if child not in known:
                            known.add(child)
                            todo.append(child)
        except OSError:
            return False
        return True

    def _look(self, pid: int) -> tuple[Life, _Seen]:
        """Whether a thread lives, and what else there is to see of it. Raises OSError."""
        seen = self._seen.get(pid)
        if seen is not None:
            try:
                return seen.life(), seen
            except OSError:
                # The number may be another's by now.
                del self._seen[pid]
                seen.close()
        self._seen[pid] = seen = _Seen(pid)
        if len(self._seen) > _KEPT:
            self._seen.popitem(last=False)[1].close()
        return seen.life(), seen
