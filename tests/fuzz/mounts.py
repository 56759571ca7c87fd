"""The operations of a mount without a kernel: what pyfuse3 hands to a handler, and what a handler may answer."""

import errno
import os
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import pyfuse3
import trio
import trio.testing
from pyfuse3 import EntryAttributes, FileInfo

from engine.store import Store
from fusefs.operations import Operations
from fusefs.serving import Serving
from tests.fuzz.checking import Trouble
from tests.support.states import mount_state

ERRNOS = frozenset(errno.errorcode)


class Context(NamedTuple):
    """A `pyfuse3.RequestContext`, which only pyfuse3 can fill."""

    pid: int
    uid: int
    gid: int
    umask: int


class Fields(NamedTuple):
    """A `pyfuse3.SetattrFields`, likewise."""

    update_mode: bool
    update_uid: bool
    update_gid: bool
    update_atime: bool
    update_mtime: bool
    update_ctime: bool
    update_size: bool


class Listing:
    """A `pyfuse3.ReaddirToken`: takes so many entries."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.entries: list[tuple[bytes, int, int]] = []

    def add(self, name: bytes, attributes: EntryAttributes, position: int) -> bool:
        if len(self.entries) >= self.room:
            return False
        assert isinstance(name, bytes)
        assert 0 <= position < 2**63
        self.entries.append((name, attributes.st_ino, position))
        return True


class FakedMount:
    """A mount of a store whose kernel is the caller."""

    def __init__(self, store: Store, nursery: trio.Nursery, trouble: Trouble, umask: int | None) -> None:
        self.state = mount_state(store, nursery)
        self._serving = Serving(self.state, self.state.pulse)
        self.operations = Operations(self.state, self._serving, lambda: None, umask)
        self._trouble = trouble

    async def ask(self, request: Awaitable[Any], *, sound: bool = True) -> Any:
        """Serve a request: returns the answer, or None for an error.

        `sound`: what the kernel could send. Else an error is an answer even where it is logged as unexpected.
        """
        self.state.begin_turn()
        # A request that waits lets others be served, or everything settle where there are none.
        self._serving.drop_spares()
        self._serving.keep_spare(self.state.settle)
        answer: Any = None
        try:
            answer = await request
        except pyfuse3.FUSEError as error:
            number = error.errno
        else:
            number = 0
        if number and not sound:
            self._trouble.take()
        self._trouble.check()
        assert number == 0 or number in ERRNOS
        if number:
            return None
        _check_answer(answer)
        return answer

    async def close(self, handles: Iterator[int]) -> None:
        """Release what is open, and settle, as the end of a mount does."""
        for number in handles:
            await self.ask(self.operations.release(number))
        self.state.settle()
        self.state.store.publisher.publish_again()
        await trio.testing.wait_all_tasks_blocked()
        self.state.drop_gone()
        self._trouble.check()


def _check_answer(answer: Any) -> None:
    """pyfuse3 writes answers into C structures: what does not fit would be raised there, and end the mount."""
    if isinstance(answer, tuple):
        for part in answer:
            _check_answer(part)
    elif isinstance(answer, EntryAttributes):
        assert answer.st_ino > 0
        assert 0 <= answer.st_size < 2**63
        assert 0 <= answer.entry_timeout <= 60
        assert 0 <= answer.attr_timeout <= 60
        for nanoseconds in (answer.st_atime_ns, answer.st_mtime_ns, answer.st_ctime_ns):
            assert -(2**63) <= nanoseconds < 2**63
    else:
        allowed = (type(None), int, bytes, bytearray, memoryview, list, FileInfo, pyfuse3.StatvfsData)
        assert isinstance(answer, allowed), type(answer)


@contextmanager
def without_kernel() -> Iterator[None]:
    """What needs the kernel's side of a mount, for as long as there is none."""

    def reply(token: Listing, name: bytes, attributes: EntryAttributes, position: int) -> bool:
        return token.add(name, attributes, position)

    with mock.patch.object(pyfuse3, "readdir_reply", reply):
        yield


DEAD_PID = 2**22 + 1
"""Above the highest that Linux gives out."""
PIDS = (os.getpid(), 0, 1, DEAD_PID)
