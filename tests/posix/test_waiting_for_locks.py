"""Locks that are waited for: who gets them when, and how the waiting ends."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.posix.twins import Twins, outcome
from tests.support.processes import Other
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

_TAKE = {
    "flock": "fcntl.flock(fd, fcntl.LOCK_EX | flags)",
    "posix": "fcntl.lockf(fd, fcntl.LOCK_EX | flags, 10, 0)",
    "ofd": "_ = fcntl.fcntl(fd, fcntl.F_OFD_SETLK if flags else fcntl.F_OFD_SETLKW,"
    " struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 10, 0))",
}
_READ_FLOCK = "fcntl.flock(fd, fcntl.LOCK_EX | flags)"


def _begin(process: Other, code: str, **names: Any) -> None:
    """Have it take a lock on `fd`, and return once it waits for it."""
    device = process("os.fstat(fd).st_dev")
    process.begin(code, flags=0, **names)
    wait_until(lambda: _is_waited_for(device) or process.answered(0))
    assert not process.answered(0)


def _is_waited_for(device: int) -> bool:
    """Whether somebody waits for a lock of a file on this filesystem."""
    mark = f" {os.major(device):02x}:{os.minor(device):02x}:"
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and mark in line for line in lines)


def _opened(process: Other, path: Path, flags: int = os.O_RDWR) -> None:
    process("fd = os.open(path, mode)", path=str(path), mode=flags)


@pytest.mark.parametrize("how", ["unlock", "close", "kill", "crash"])
@pytest.mark.parametrize("kind", [*_TAKE, "flock of readers"])
def test_the_lock_is_free(run: Path, kind: str, how: str) -> None:
    """Who waits gets the lock once its holder has released it, closed the file, or died in any way."""
    (run / "k").write_bytes(bytes(10))
    take = _TAKE.get(kind, _READ_FLOCK)
    flags = os.O_RDWR if kind in _TAKE else os.O_RDONLY
    holder, waiter = Other(), Other()
    try:
        for process in (holder, waiter):
            _opened(process, run / "k", flags)
        holder(take, flags=0)
        _begin(waiter, take)
        if how == "kill":
            holder.process.kill()
        elif how == "crash":
            holder.begin("os.abort()")
        elif how == "close":
            holder("os.close(fd)")
        elif kind == "ofd":
            holder("fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_UNLCK, 0, 0, 10, 0))")
        else:
            holder("fcntl.flock(fd, fcntl.LOCK_UN)" if "flock" in kind else "fcntl.lockf(fd, fcntl.LOCK_UN)")
        waiter.answer()
    finally:
        holder.process.kill()
        holder.stop()
        waiter.stop()


@pytest.mark.parametrize("kind", _TAKE)
def test_a_signal_ends_the_waiting(twins: Twins, kind: str) -> None:
    """A waiter that a signal interrupts does not get the lock, and is in nobody's way afterwards."""
    waiting = """
def give_up(*_):
    raise TimeoutError(110, "gave up")
signal.signal(signal.SIGUSR1, give_up)
"""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(bytes(10))
        with Other() as holder, Other() as waiter, Other() as third:
            for process in (holder, waiter, third):
                _opened(process, directory / "k")
            holder(_TAKE[kind], flags=0)
            waiter(waiting)
            _begin(waiter, _TAKE[kind])
            os.kill(waiter.pid, signal.SIGUSR1)
            found = [outcome(waiter.answer)]
            holder("os.close(fd)")
            return [*found, outcome(lambda: third(_TAKE[kind], flags=4))]

    assert twins.same(steps) == ["ETIMEDOUT", None]


def test_deadlock(twins: Twins) -> None:
    """Two processes that would wait for each other for ever: one of them is told, EDEADLK."""

    def steps(directory: Path) -> list[object]:
        for name in ("a", "b"):
            (directory / name).write_bytes(bytes(10))
        with Other() as one, Other() as two:
            for process, first, second in ((one, "a", "b"), (two, "b", "a")):
                process("fd = os.open(path, os.O_RDWR)", path=str(directory / second))
                process("own = os.open(path, os.O_RDWR); fcntl.lockf(own, fcntl.LOCK_EX)", path=str(directory / first))
            _begin(one, "fcntl.lockf(fd, fcntl.LOCK_EX)")
            found = [outcome(lambda: two("fcntl.lockf(fd, fcntl.LOCK_EX)"))]
            two("os.close(own)")
            return [*found, one.answer()]

    assert twins.same(steps) == ["EDEADLOCK", None]


def test_from_shared_to_exclusive_and_back(twins: Twins) -> None:
    """A shared lock becomes exclusive once nobody else shares it, and a weaker one lets the waiting in."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(bytes(10))
        with Other() as one, Other() as two:
            for process in (one, two):
                _opened(process, directory / "k")
                process("fcntl.flock(fd, fcntl.LOCK_SH)")
            _begin(one, "fcntl.flock(fd, fcntl.LOCK_EX)")
            two("fcntl.flock(fd, fcntl.LOCK_UN)")
            found: list[object] = [one.answer(), outcome(lambda: two("fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)"))]
            _begin(two, "fcntl.flock(fd, fcntl.LOCK_SH)")
            one("fcntl.flock(fd, fcntl.LOCK_SH)")
            return [*found, two.answer()]

    assert twins.same(steps) == [None, "EAGAIN", None]


_INCREMENT = """
def increment(counter, lock, kind, times):
    for _ in range(times):
        fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        take(fd, kind)
        value = int(open(counter).read())
        open(counter, "w").write(str(value + 1))
        os.close(fd)
def take(fd, kind):
    if kind == "ofd":
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
    elif kind == "posix":
        fcntl.lockf(fd, fcntl.LOCK_EX)
    else:
        fcntl.flock(fd, fcntl.LOCK_EX)
"""


@pytest.mark.parametrize("kind", _TAKE)
@pytest.mark.parametrize("existing", [True, False])
def test_a_counter_that_is_itself_an_object(run: Path, crowd: list[Other], kind: str, existing: bool) -> None:
    """A counter under a lock loses nothing: lock and counter are objects of one run."""
    (run / "counter").write_text("0")
    if existing:
        (run / "lock").touch()
    for process in crowd:
        process(_INCREMENT)
        process.begin(f"increment(counter, lock, {kind!r}, 60)", counter=str(run / "counter"), lock=str(run / "lock"))
    for process in crowd:
        process.answer()
    assert (run / "counter").read_text() == "180"
