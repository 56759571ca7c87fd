"""Daemons that serve a mount while a block runs, and what the kernel tells of them."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from fusefs.bare import release

READY_SECONDS = 30
STOP_SECONDS = 120
"""A daemon that still has gigabytes to write may take its time."""
_QUIET_SECONDS = 0.15
_QUIET_WITHIN_SECONDS = 15.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Target:
    """A place to make files in: on a mount that is served, or a plain directory."""

    name: str
    directory: Path
    """Where to make files: on the mount, not always its root."""
    pid: int | None = None
    """The daemon; None for a plain directory."""
    backing: Path | None = None
    """The directory whose files the mount shows under the same names, where there is one."""
    store: Path | None = None
    """The file of the store, where it is one of ours."""

    @property
    def lives(self) -> bool:
        """Whether there is a daemon that has not ended: one that has still has a process id, but no memory."""
        status = Path(f"/proc/{self.pid}/status")
        return self.pid is not None and status.exists() and "VmRSS:" in status.read_text()

    def peak_rss_mib(self) -> float:
        """The most memory that the daemon has had since it started."""
        return self._memory("VmHWM:")

    def rss_mib(self) -> float:
        """The memory that the daemon has now."""
        return self._memory("VmRSS:")

    def _memory(self, field: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"{self.name}: the daemon has ended")

    def cpu_seconds(self) -> float:
        """The processor time that the daemon has used."""
        if self.pid is None:
            return 0.0
        # The command's name, in brackets, may hold anything: fields are counted from behind it.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def settle(self) -> None:
        """Wait until the daemon has done what it does behind the scenes, so that the next target has the machine."""
        deadline = monotonic() + _QUIET_WITHIN_SECONDS
        before = self.cpu_seconds()
        while self.pid is not None and monotonic() < deadline:
            sleep(_QUIET_SECONDS)
            now = self.cpu_seconds()
            if now - before <= 1 / _TICKS:
                return
            before = now


@contextmanager
def served(name: str, command: Sequence[str], mountpoint: Path) -> Iterator[int]:
    """Run `command`, which mounts on `mountpoint` in the foreground, while the block runs. Yields its process id."""
    mountpoint.mkdir(exist_ok=True)
    log = mountpoint.with_suffix(".log")
    with log.open("ab") as output:
        # In a session of its own, Ctrl-C does not reach it: it is stopped below, after the benchmark has let go.
        daemon = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_mounted(name, daemon, mountpoint, log)
        yield daemon.pid
    finally:
        _stop(daemon, mountpoint)


def _stop(daemon: subprocess.Popen[bytes], mountpoint: Path) -> None:
    try:
        if is_mounted(mountpoint):
            subprocess.run(["fusermount3", "-u", "-z", mountpoint], check=True)
        else:
            daemon.terminate()
        daemon.wait(STOP_SECONDS)
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
        release(str(mountpoint))  # one of our daemons that died has made the directory immutable


def is_mounted(path: Path) -> bool:
    """Whether something is mounted there, also where its daemon has died, which os.path.ismount denies."""
    # Spaces and the like are escaped there; the benchmark's own paths have none.
    return any(line.split(" ", 5)[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _wait_until_mounted(name: str, daemon: subprocess.Popen[bytes], mountpoint: Path, log: Path) -> None:
    deadline = monotonic() + READY_SECONDS
    while not is_mounted(mountpoint):
        if daemon.poll() is not None or monotonic() > deadline:
            daemon.kill()
            daemon.wait()
            raise RuntimeError(f"{name} did not mount:\n{log.read_text(errors='replace')}")
        sleep(0.005)
