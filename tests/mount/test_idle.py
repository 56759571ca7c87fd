"""With nothing to do, a daemon does nothing: no processor time, few wake-ups, not a byte to the disk."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

SECONDS = 1.0
LOOKS = 5
CPU = 0.01
"""Of one processor, beside what its wake-ups cost on this machine."""
WORK = 30.0
"""How many bare wake-ups one of them may cost: it looks for changes, in memory that nobody has used meanwhile."""
SLEEPER = "import time\nwhile True:\n    time.sleep(0.1)"
WAKE_UPS = 100.0
"""A second. It looks twenty times for changes of others and four times for upkeep; each may cost a few switches."""


class Spent(NamedTuple):
    cpu: float
    wake_ups: int
    written: int
    """Bytes that the process made the kernel write to a disk."""

    def less(self, before: "Spent") -> "Spent":
        return Spent(self.cpu - before.cpu, self.wake_ups - before.wake_ups, self.written - before.written)


def spent(pid: int) -> Spent:
    cpu, wake_ups = 0.0, 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # To the nanosecond, where utime and stime count hundredths.
        cpu += int((thread / "schedstat").read_text().split()[0]) / 1e9
        status = dict(line.split(":", 1) for line in (thread / "status").read_text().splitlines())
        wake_ups += int(status["voluntary_ctxt_switches"])
    io = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return Spent(cpu, wake_ups, int(io["write_bytes"]) + int(io["wchar"]))


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that does nothing but wake up: what that costs is tens of microseconds, or on a virtual machine ms."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", SLEEPER]) as process:
        yield process.pid
        process.kill()


def files(store: MountedStore) -> dict[str, tuple[int, int]]:
    """The size and time of each file of the store but the shared memory, where readers leave their marks."""
    found = {path: path.stat() for path in store.directory.glob("objects.db*") if not path.name.endswith("-shm")}
    return {path.name: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def settle(store: MountedStore) -> None:
    """Wait until what was done before has been cleaned up: the daemon no longer changes its files."""
    last: list[object] = [None, 0.0]

    def unchanged_for_a_while() -> bool:
        now = files(store)
        if now != last[0]:
            last[:] = [now, time.monotonic()]
        return time.monotonic() - float(str(last[1])) > 1.5

    wait_until(unchanged_for_a_while, 60)


def use(store: MountedStore) -> None:
    """Everything that leaves something to clean up: values, evictions, deletions, a run that expires."""
    (store.pipeline / "p").mkdir()
    for number in range(60):
        (store.pipeline / "p" / f"k{number}").write_bytes(b"x" * 20_000)
    for number in range(3):
        (store.run / str(number)).mkdir()
        (store.run / str(number) / "k").write_bytes(b"x" * 300_000)
    (store.pipeline / "p/k59").unlink()


@pytest.mark.parametrize("mounts", [1, 3])
def test_an_idle_daemon(make_mount: MakeMount, sleeper: int, mounts: int) -> None:
    """Alone or beside others on its store, after work, and with a file open on it."""
    stores = [make_mount(run_object_expiry=2)]
    stores += [make_mount(store=stores[0].store_path, run_object_expiry=2) for _ in range(mounts - 1)]
    use(stores[0])
    settle(stores[0])
    reader = os.open(stores[0].pipeline / "p/k58", os.O_RDONLY)
    try:
        pids = [sleeper, *(store.pid for store in stores)]
        state, looks = files(stores[0]), [[spent(pid) for pid in pids]]
        for _ in range(LOOKS):
            time.sleep(SECONDS)
            looks.append([spent(pid) for pid in pids])
        bare, *daemons = [[one.less(before) for before, one in pairwise(seen)] for seen in zip(*looks, strict=True)]
        wake_up = statistics.median(one.cpu / one.wake_ups for one in bare)
        for seen in daemons:
            # In one of these seconds the machine may have been somebody else's: that counts as ours.
            allowed = (CPU * SECONDS + WORK * wake_up * one.wake_ups for one in seen)
            over = statistics.median(one.cpu - most for one, most in zip(seen, allowed, strict=True))
            assert over < 0, (seen, wake_up)
            assert sum(one.wake_ups for one in seen) < WAKE_UPS * SECONDS * LOOKS
            assert not any(one.written for one in seen)
        assert files(stores[0]) == state
    finally:
        os.close(reader)


def test_a_daemon_beside_a_busy_store(make_mount: MakeMount) -> None:
    """A daemon whose clients do nothing pays little for what others do on the store."""
    busy = make_mount()
    idle = make_mount(store=busy.store_path)
    (busy.pipeline / "p").mkdir()
    before, begun = spent(idle.pid), time.monotonic()
    number = 0
    while time.monotonic() - begun < LOOKS * SECONDS:
        number += 1
        (busy.pipeline / "p" / f"k{number % 100}").write_bytes(b"x" * 1000)
        time.sleep(0.01)
    assert number > 50
    assert spent(idle.pid).cpu - before.cpu < 0.25 * LOOKS * SECONDS
