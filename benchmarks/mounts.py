"""Filesystems to measure: each is a command that mounts in the foreground."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

READY_SECONDS = 20
STOP_SECONDS = 120
"""A daemon that still has gigabytes to write may take its time."""


@dataclass(frozen=True, slots=True)
class Target:
    """A filesystem that is mounted and serves."""

    name: str
    directory: Path
    """Where to make files: on the mount, not always its root."""
    pid: int

    def peak_rss_mib(self) -> int:
        """The most memory that the daemon has had since it started."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
        raise RuntimeError(f"{self.name}: the daemon has ended")


@contextmanager
def null_filesystem(scratch: Path) -> Iterator[Target]:
    """Mount the null filesystem."""
    mountpoint = scratch / "null"
    with _mounted("null", [sys.executable, "-m", "benchmarks.null_filesystem", str(mountpoint)], mountpoint) as pid:
        yield Target("null", mountpoint, pid)


@contextmanager
def fusefs(scratch: Path) -> Iterator[Target]:
    """Mount a new store on the embedded default; the files go into a run, which has no limit in number."""
    mountpoint, store = scratch / "fusefs", scratch / "objects.db"
    command = [sys.executable, "-m", "fusefs", "mount", "--foreground", "--store", str(store), str(mountpoint)]
    with _mounted("fusefs", command, mountpoint) as pid:
        run = mountpoint / "run" / "benchmark"
        run.mkdir()
        yield Target("fusefs", run, pid)


@contextmanager
def _mounted(name: str, command: Sequence[str], mountpoint: Path) -> Iterator[int]:
    """Run `command` while the block runs, and yield its process id."""
    mountpoint.mkdir()
    log = mountpoint.with_suffix(".log")
    with log.open("wb") as output:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        _wait_until_mounted(name, daemon, mountpoint, log)
        yield daemon.pid
    finally:
        if mountpoint.is_mount():
            subprocess.run(["fusermount3", "-u", "-z", mountpoint], check=True)
        try:
            daemon.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
            raise


def _wait_until_mounted(name: str, daemon: subprocess.Popen[bytes], mountpoint: Path, log: Path) -> None:
    deadline = monotonic() + READY_SECONDS
    while not mountpoint.is_mount():
        if daemon.poll() is not None or monotonic() > deadline:
            daemon.kill()
            daemon.wait()
            raise RuntimeError(f"{name} did not mount:\n{log.read_text(errors='replace')}")
        sleep(0.01)
