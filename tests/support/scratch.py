"""Directories for mounts, and the sweep of what an aborted run left mounted in them.

A directory carries the process id of the run that made it, so that one run never touches another's.
"""

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fusefs.bare import release

_OURS = re.compile(r"fusefs-test-(\d+)\b")
_MNT_FORCE = 1
_ESCAPE = re.compile(r"\\([0-7]{3})")

MOUNTS_BENEATH = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 5)
"""Whether this kernel puts a mount in the place of another without a moment between (MOVE_MOUNT_BENEATH)."""


@dataclass(frozen=True, slots=True)
class FuseMount:
    """A FUSE filesystem that the kernel has mounted."""

    path: Path
    type: str
    connection: int
    """The minor number of its device, which names its directory in /sys/fs/fuse/connections."""


def make_directory(within: Path | None = None) -> Path:
    """Return a new directory that the sweep knows as this run's. Removing it is up to the caller."""
    return Path(tempfile.mkdtemp(prefix=f"fusefs-test-{os.getpid()}-", dir=within))


def fuse_mounts() -> list[FuseMount]:
    """Return all FUSE mounts, the newest first. Touches none of them: they may be dead or hang."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")[0]
        if kind == "fuse" or kind.startswith("fuse."):
            path = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[4])
            mounts.append(FuseMount(Path(path), kind, int(fields[2].split(":")[1])))
    return mounts[::-1]


def mount_at(path: Path) -> FuseMount | None:
    """Return the uppermost FUSE mount at `path`."""
    return next((mount for mount in fuse_mounts() if mount.path == path), None)


def abort(mount: FuseMount) -> None:
    """Answer every request on the mount with an error from now on: frees whoever waits for a daemon that hangs."""
    with suppress(OSError):  # only root and who mounted it may, and the connection may be gone by now
        try:
            control = os.open(f"/sys/fs/fuse/connections/{mount.connection}/abort", os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            _force(mount)
            return
        try:
            # Numbers are used again, by other runs too: the file is of this mount if that is still there.
            if mount in fuse_mounts():
                os.write(control, b"1")
        finally:
            os.close(control)


def _force(mount: FuseMount) -> None:
    """Abort without the kernel's control files, which few containers have. Only root may.

    Forced unmounting begins with that, and then fails because somebody uses the mount: we do.
    """
    root = os.open(mount.path, os.O_PATH | os.O_CLOEXEC)
    try:
        if (there := mount_at(mount.path)) is not None and there.connection == mount.connection:
            ctypes.CDLL(None).umount2(os.fsencode(mount.path), _MNT_FORCE)
    finally:
        os.close(root)


def detach(mount: FuseMount) -> None:
    """Unmount, whatever state the mount is in and whoever still uses it."""
    abort(mount)
    for command in (["fusermount3", "-u", "-z", str(mount.path)], ["umount", "-l", str(mount.path)]):
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return


def sweep(process: int | None = None) -> list[Path]:
    """Unmount what is left in the directories of `process`, or without it of every run that has ended.

    Returns the mountpoints.
    """
    swept = []
    for mount in fuse_mounts():
        owner = owner_of(mount.path)
        if owner is not None and (owner == process or (process is None and run_is_over(owner))):
            detach(mount)
            swept.append(mount.path)
    return swept


def owner_of(path: Path) -> int | None:
    """The process id of the run in whose directory a path lies, or whose it is by its name; None elsewhere."""
    found = _OURS.search(str(path))
    return int(found[1]) if found else None


def run_is_over(process: int) -> bool:
    """Whether a run of this process id has ended."""
    return not Path(f"/proc/{process}").exists()


def remove_directory(directory: Path) -> None:
    """Remove a directory of make_directory, but nothing that is mounted in it."""
    if any(mount.path.is_relative_to(directory) for mount in fuse_mounts()):
        raise RuntimeError(f"still mounted below {directory}")
    # A mountpoint whose daemon was killed refuses writes.
    for path in [directory, *directory.iterdir()]:
        release(str(path))
    shutil.rmtree(directory)
