"""How a mount ends: when it is unmounted, at a signal, or, where nobody asked for it, with an error."""

import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyfuse3
import trio

from fusefs import mountapi
from fusefs.bare import protect, release_directory
from fusefs.daemon import GIVEN_UP
from fusefs.errors import MountError
from fusefs.mountinfo import Mount, mount_at, mounts
from fusefs.state import MountState

_SIGNALS = (signal.SIGTERM, signal.SIGINT, GIVEN_UP)
_DRAIN_S = 10.0
"""How long SIGTERM waits for those who have files open before the mount is detached under them."""
_LEAVE_S = 5.0
"""How long SIGTERM waits for writers where the mount is left dead: container engines kill after ten seconds."""

log = logging.getLogger(__name__)


class Ending:
    """The end of one mount."""

    def __init__(self, mountpoint: str, *, leave_dead: bool) -> None:
        """Before it is mounted. `leave_dead`: at SIGTERM and SIGINT, instead of unmounting it."""
        self._mountpoint = mountpoint
        self._leave_dead = leave_dead
        self._replaces_dead = (mount := mount_at(os.fsencode(mountpoint))) is not None and mount.ours
        self._left = False
        self._told = False
        self._early: set[int] = set()
        self.connection: int | None = None
        """Of the mount, once it is there: other mounts on the mountpoint, above it or below, are not ours to end."""

    @contextmanager
    def signals_kept(self) -> Iterator[None]:
        """Keep the signals that come before `at_signal` waits for them: they would end us and leave the mount dead.

        Those that come after it has ended change nothing any more.
        """
        # By handlers and not by blocking: nothing is inherited by child processes and threads.
        before = {number: signal.signal(number, lambda number, frame: self._early.add(number)) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def at_signal(self, state: MountState) -> None:
        """End the mount at SIGTERM and SIGINT, and where nobody wants it any more who has started it."""
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            for number in self._early:
                signal.raise_signal(number)
            async for number in signals:
                if self._replaces_dead if number == GIVEN_UP else self._leave_dead:
                    await self._leave(number, state)
                    break
                await self._unmount_patiently(number)

    async def _leave(self, number: int, state: MountState) -> None:
        """End once nobody is writing, or after a while; what was closed until then is committed."""
        log.info("%s: leaving %s dead, for the next daemon", signal.Signals(number).name, self._mountpoint)
        with trio.move_on_after(_LEAVE_S):
            while state.writers:
                await trio.sleep(0.05)
        self._left = True
        pyfuse3.terminate()

    async def _unmount_patiently(self, number: int) -> None:
        log.info("%s: unmounting %s", signal.Signals(number).name, self._mountpoint)
        with trio.move_on_after(_DRAIN_S) as patience:
            while not await self._unmount():
                await trio.sleep(0.1)
        if not patience.cancelled_caught:
            return  # binds of it may still be in use; the next signal does not wait for them for long
        # Detached: new paths no longer lead here, and who has a file open keeps it until closing it.
        await self._unmount("-z")
        await trio.sleep(_DRAIN_S)
        self._left = True  # if it could not even be detached
        pyfuse3.terminate()

    async def _unmount(self, *options: str) -> bool:
        """Try once. False where it is in use, where something is mounted over it, and where it is detached already."""
        try:
            return await self._unmount_by_command(*options)
        except (OSError, RuntimeError) as error:  # no descriptor, process or thread to spare
            if not self._told:
                log.warning("%s is unmounted without umount, which cannot be run: %s", self._mountpoint, error)
                self._told = True
            return self._unmount_alone(detach=bool(options))

    async def _unmount_by_command(self, *options: str) -> bool:
        mount = mount_at(os.fsencode(self._mountpoint))
        if mount is None or not self._is_it(mount):
            return False
        command = ["umount", *(["-l"] if options else [])] if os.geteuid() == 0 else ["fusermount3", "-u", *options]
        done = await trio.run_process(
            [*command, "--", self._mountpoint], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return done.returncode == 0

    def _unmount_alone(self, *, detach: bool) -> bool:
        """The same by what takes nothing but the right to do it, which is root's."""
        # Only where there is no other way: nobody serves the mount while this call lasts.
        try:
            if self._is_uppermost():
                (mountapi.detach if detach else mountapi.unmount)(self._mountpoint)
                return True
        except OSError:
            pass
        return False

    async def anyway(self, seconds: float) -> None:
        """End while a thread waits for a disk or an engine, which cannot be cancelled: what was closed is kept."""
        await trio.sleep(seconds)
        log.error(
            "%s is not served any more, and the disk does not answer: what was closed is published later",
            self._mountpoint,
        )
        logging.shutdown()
        os._exit(1)

    def finish(self, below: int) -> None:
        """Nobody serves the mount any more. Where it is left in its place, the directory `below` it is protected, and
        an ordinary one where it is not.

        Raises MountError where nobody asked for that: somebody has aborted the connection.
        """
        if not self._is_left():
            release_directory(below)
            return
        if not self._left:
            raise MountError(f"the connection of {self._mountpoint} to the kernel was aborted: mount it again")
        with suppress(OSError):
            protect(below)

    def _is_left(self) -> bool:
        try:
            return any(map(self._is_it, mounts()))
        except OSError:  # no descriptor to spare
            return self._is_uppermost()

    def _is_uppermost(self) -> bool:
        return mountapi.device_at(self._mountpoint) == (0, self.connection)

    def _is_it(self, mount: Mount) -> bool:
        return mount.path == os.fsencode(self._mountpoint) and mount.ours and mount.connection == self.connection
