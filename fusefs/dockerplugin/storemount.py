"""The one mount behind all volumes: made when it is missing, made anew when it is dead, adopted when it lives.

It is a process of its own, made by `fusefs mount`, so that containers keep their volumes when the plugin ends or is
killed. Nothing is forked here: a fork would take the event loop and its threads along.
"""

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Sequence

import trio

from fusefs.dockerplugin.blocking import in_thread
from fusefs.dockerplugin.errors import VolumeError
from fusefs.mountinfo import Mount, mount_at

ANSWER_SECONDS = 5.0
"""How long a mount that lives may take to answer."""
MOUNT_SECONDS = 40.0
"""How long `fusefs mount` may take. Below a minute, after which the engine gives up on us."""
UNMOUNT_SECONDS = 10.0

# -P: what lies in the working directory is no part of fusefs.
FUSEFS = (sys.executable, "-P", "-m", "fusefs")

log = logging.getLogger(__name__)


class StoreMount:
    """The mount of a store on `path`. Not for two tasks at once: the driver's lock sees to that."""

    def __init__(self, path: str, store: str, options: Sequence[str]) -> None:
        """`path` is absolute and without symlinks, `store` the store's file. `options` are those of `fusefs mount`."""
        self.path = path
        self._store = store
        self._options = tuple(options)
        self._asking = False

    async def ensure(self) -> None:
        """Return when the mount lives. Raises VolumeError."""
        found = await self._living()
        if found is None:
            # Dead or missing: `fusefs mount` takes the place of a dead one.
            await self._mount()
            found = await self._living()
        if found is None:
            raise VolumeError(f"{self.path} was mounted and is not any more: see the log of the mount")
        self._check(found)

    async def unmount(self) -> bool:
        """Unmount and wait for the daemon's end. False, with the reason in the log, when that is not to be had."""
        if mount_at(os.fsencode(self.path)) is None:
            return True
        with trio.move_on_after(UNMOUNT_SECONDS):
            code, said = await _run([*FUSEFS, "umount", self.path])
            if code != 0:
                log.warning("%s", said)
            return code == 0
        log.warning("%s is not unmounted after %g seconds: it is left", self.path, UNMOUNT_SECONDS)
        return False

    async def _living(self) -> Mount | None:
        # A thread that waits for a hanging mount waits until that ends: one is enough to know.
        if self._asking:
            raise self._silent()
        try:
            return await in_thread(f"asking the mount {self.path}", self._ask, ANSWER_SECONDS)
        except OSError as error:
            raise VolumeError(f"the mount {self.path} is in trouble: {error.strerror}") from error
        except VolumeError:
            raise self._silent() from None

    def _silent(self) -> VolumeError:
        return VolumeError(f"the mount {self.path} does not answer: see `fusefs umount`, and the log of the mount")

    def _ask(self) -> Mount | None:
        """Return the mount when it lives."""
        self._asking = True
        try:
            mount = mount_at(os.fsencode(self.path))
            if mount is None or not mount.ours:
                return None
            os.statvfs(self.path)  # the one request that the kernel never answers by itself
            return mount
        except OSError as error:
            if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
                return None
            raise
        finally:
            self._asking = False

    def _check(self, mount: Mount) -> None:
        """Raise VolumeError for a mount that is not what we would make: somebody else made it."""
        # As the mount tells its store to the kernel: see fusefs.session.
        if mount.source != os.fsencode(self._store).decode("ascii", "backslashreplace").encode():
            found = mount.source.decode("utf-8", "backslashreplace")
            raise VolumeError(
                f"{self.path} is a mount of another store, {found}: unmount it, or take another --directory"
            )
        if "ro" in mount.options or "allow_other" not in mount.options:
            raise VolumeError(f"{self.path} is mounted read-only or without --allow-other: unmount it")

    async def _mount(self) -> None:
        log.info("mounting %s on %s", self._store, self.path)
        with trio.move_on_after(MOUNT_SECONDS):
            code, said = await _run([*FUSEFS, "mount", *self._options, "--allow-other", self.path])
            if code != 0:
                raise VolumeError(f"the store cannot be mounted: {said or f'fusefs mount ended with {code}'}")
            if said:
                log.warning("%s", said)
            return
        raise VolumeError(f"the store was not mounted on {self.path} within {MOUNT_SECONDS:g} seconds")


async def _run(command: Sequence[str]) -> tuple[int, str]:
    """Run a command of ours; returns how it ended, and what it said on stderr in one line."""
    done = await trio.run_process(
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, capture_stderr=True
    )
    said = done.stderr.decode("utf-8", "backslashreplace").split("\n")
    return done.returncode, " ".join(filter(None, (line.removeprefix("fusefs: ").strip() for line in said)))
