"""What is measured: a mounted store, and the filesystems beside it.

Each takes the scratch directory, on the disk that the store lies on, and yields a `Target`. One that cannot be had on
this machine raises `MissingError`, which the report repeats.
"""

import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks.machine import filesystem_type
from benchmarks.mounts import Target, served

MEMORY = Path("/dev/shm")
RUN = "benchmark"
"""The run in which the mounted store's files are made: runs have no limit in number."""


class MissingError(Exception):
    """A peer is not installed here; the message says what is missing."""


@contextmanager
def null(scratch: Path) -> Iterator[Target]:
    """The pyfuse3 filesystem that does nothing: the ceiling of this stack."""
    mountpoint = scratch / "null"
    with served("null", [sys.executable, "-m", "benchmarks.null_filesystem", str(mountpoint)], mountpoint) as pid:
        yield Target("null", mountpoint, pid)


@contextmanager
def fusefs(scratch: Path, name: str = "fusefs", *options: str) -> Iterator[Target]:
    """A store with the embedded engine, new where there is none; the files go into a run."""
    mountpoint, store = scratch / name, scratch / f"{name}.db"
    command = [sys.executable, "-m", "fusefs", "mount", "--foreground", "--store", str(store), *options]
    with served(name, [*command, str(mountpoint)], mountpoint) as pid:
        run = mountpoint / "run" / RUN
        run.mkdir(exist_ok=True)
        yield Target(name, run, pid, store=store)


@contextmanager
def passthrough(scratch: Path) -> Iterator[Target]:
    """A good pyfuse3 filesystem that hands on to tmpfs: what the stack reaches when it has to move the bytes."""
    if filesystem_type(MEMORY) != "tmpfs":
        raise MissingError(f"{MEMORY} is no tmpfs")
    mountpoint = scratch / "passthrough"
    with tempfile.TemporaryDirectory(prefix="fusefs-bench-", dir=MEMORY) as backing:
        command = [sys.executable, "-m", "benchmarks.passthrough", backing, str(mountpoint)]
        with served("passthrough", command, mountpoint) as pid:
            yield Target("passthrough", mountpoint, pid, backing=Path(backing))


@contextmanager
def rclone(scratch: Path) -> Iterator[Target]:
    """`rclone mount` of a directory, with the cache that lets programs write as they like."""
    program = _installed("rclone")
    mountpoint, backing = scratch / "rclone", scratch / "rclone-files"
    backing.mkdir()
    command = [program, "mount", str(backing), str(mountpoint), "--vfs-cache-mode", "writes", "--config", ""]
    command += ["--cache-dir", str(scratch / "rclone-cache")]
    with served("rclone", command, mountpoint) as pid:
        yield Target("rclone", mountpoint, pid, backing=backing)


@contextmanager
def gocryptfs(scratch: Path) -> Iterator[Target]:
    """gocryptfs as it comes, with a password that nobody needs again."""
    program = _installed("gocryptfs")
    mountpoint, backing, password = scratch / "gocryptfs", scratch / "gocryptfs-files", scratch / "gocryptfs-password"
    backing.mkdir()
    password.write_text(secrets.token_hex())
    subprocess.run([program, "-init", "-q", "-passfile", password, "-scryptn", "10", backing], check=True)
    command = [program, "-q", "-fg", "-nosyslog", "-passfile", str(password), str(backing), str(mountpoint)]
    with served("gocryptfs", command, mountpoint) as pid:
        yield Target("gocryptfs", mountpoint, pid)


@contextmanager
def local(scratch: Path) -> Iterator[Target]:
    """A plain directory beside the store, for scale."""
    directory = scratch / "local"
    directory.mkdir()
    yield Target("local", directory)


def _installed(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        raise MissingError(f"{name} is not installed")
    return program


Peer = Callable[[Path], AbstractContextManager[Target]]

PEERS: dict[str, Peer] = {
    "null": null,
    "fusefs": fusefs,
    "passthrough": passthrough,
    "rclone": rclone,
    "gocryptfs": gocryptfs,
    "local": local,
}
"""By name, in the order of the report's columns."""
