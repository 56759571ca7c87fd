"""Power cuts: the filesystem below the store is shut down without its log, and what was not on its disk is gone.

An ext4 filesystem in a file. EXT4_IOC_SHUTDOWN makes it write nothing more, so that what the kernel still has in
memory is lost, as when the power fails. Then the daemon is killed, and both are mounted again.
"""

import ctypes
import fcntl
import os
import random
import struct
import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.crash.campaign.kills import INTERRUPTED
from tests.crash.campaign.scenes import StruckStore, new_store
from tests.support.disks import mounted_disk

_CLONE_NEWNS = 0x00020000
_SHUTDOWN = 0x8004587D
_WITHOUT_THE_LOG = struct.pack("I", 2)
_MAKE = "truncate -s 1G image; mkfs.ext4 -q -F image; mount -o loop image disk"


def have_mounts_of_our_own() -> None:
    """Let no other process keep a disk of ours mounted: in a mount namespace that is made now, it would stay as it was.

    For the beginning of a process, which has to be root's.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, timeout=60)


class Cuts:
    """A store on a disk whose power is cut."""

    name = "cuts"
    at_once = True
    syncing = 0.35

    def __init__(self, durability: str | None) -> None:
        self._durability = durability
        self.closed_survives = durability == "full"
        self.strikes = 0
        self.store: StruckStore
        self._disks = ExitStack()
        self._disk: Path

    def begin(self) -> None:
        """Make a new disk and a new store on it, and mount both."""
        self._disk = self._disks.enter_context(mounted_disk(_MAKE))
        self.store = new_store(self._disk / "objects.db", self._durability)
        # What a daemon says of a disk that is gone is no finding.
        self.store.expect_log("")
        self.store.mount()

    def strike(self) -> None:
        fd = os.open(self._disk, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _WITHOUT_THE_LOG)
        finally:
            os.close(fd)
        self.store.kill()
        self.strikes += 1
        self._mount_again()

    def _mount_again(self) -> None:
        for command in (["umount", "disk"], ["mount", "-o", "loop", "image", "disk"]):
            subprocess.run(command, cwd=self._disk.parent, check=True, timeout=60)

    def interrupt(self, chance: random.Random) -> None:
        """Cut again while a daemon begins to recover."""
        while chance.random() < INTERRUPTED:
            self.store.start_and(chance.uniform(0, 0.4), self.strike)

    def end(self) -> None:
        """End the daemon and remove the store and its disk."""
        try:
            self.store.close()
        finally:
            self._disks.close()
