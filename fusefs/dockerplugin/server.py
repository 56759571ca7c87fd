"""The plugin as a process: its directory, its socket, its signals, and HTTP on trio.

The directory belongs to one plugin at a time. The socket is ours, or one that systemd listens on and hands over
(sd_listen_fds(3)), so that an engine that asks while we are restarted waits instead of failing.
"""

import contextlib
import fcntl
import logging
import os
import signal
import socket
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIFramework

from engine.trust import make_directory
from fusefs.dockerplugin import binds
from fusefs.dockerplugin.blocking import in_thread
from fusefs.dockerplugin.driver import Volumes
from fusefs.dockerplugin.errors import VolumeError
from fusefs.dockerplugin.protocol import application
from fusefs.dockerplugin.state import StateFile
from fusefs.dockerplugin.storemount import StoreMount

UMASK = 0o022
"""Whatever we were started with: it would hold for the directories that we make in the mount."""
SOCKET_UMASK = 0o177
"""Leaves 0600: whoever may speak to the plugin can have any directory of the store."""
FINISH_SECONDS = 3.0
"""How long requests that are being answered may go on after SIGTERM."""
_FIRST_PASSED_FD = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plugin:
    """Where the plugin is, and what it mounts."""

    directory: str
    socket: str
    store: str
    """The store's file, as the kernel tells it of a mount."""
    mount_options: Sequence[str]


def run(plugin: Plugin) -> None:
    """Serve until SIGTERM or SIGINT. Raises MountError."""
    directory = os.path.realpath(plugin.directory)
    os.umask(UMASK)
    with _directory(directory):
        mount = StoreMount(os.path.join(directory, "mount"), plugin.store, plugin.mount_options)
        views = os.path.join(directory, "volumes")
        volumes = Volumes(mount, views, StateFile(os.path.join(directory, "volumes.json")))
        trio.run(_serve, plugin, mount, volumes, views)


async def _serve(plugin: Plugin, mount: StoreMount, volumes: Volumes, views: str) -> None:
    # Before anybody can ask: a store that cannot be mounted is seen where the plugin is started.
    await mount.ensure()
    with _listening(plugin.socket) as fd, trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        log.info("serving %s at %s", plugin.store, plugin.socket)

        async def stopping() -> None:
            log.info("%s: ending", signal.Signals(await anext(signals)).name)

        # Starlette and Hypercorn have types of their own for the same dictionaries.
        app = cast(ASGIFramework, application(volumes))
        await serve(app, _config(fd), shutdown_trigger=stopping)
    await _end(mount, volumes, views)


async def _end(mount: StoreMount, volumes: Volumes, views: str) -> None:
    """Unmount, unless somebody would lose what he works with."""
    used = volumes.in_use()
    if used:
        log.info("%s goes on without the plugin: in use are %s", mount.path, ", ".join(used))
        return
    try:
        await in_thread(f"unmounting what is in {views}", partial(binds.unbind_all, views))
    except VolumeError as error:
        log.warning("%s", error)
    if await mount.unmount():
        log.info("%s is unmounted", mount.path)


def _config(fd: int) -> Config:
    config = Config()
    config.bind = [f"fd://{fd}"]
    # Through our log, and only what is wrong: it says how to press Ctrl-C otherwise.
    config.errorlog = logging.getLogger("fusefs.dockerplugin.http")
    config.errorlog.setLevel(logging.WARNING)
    config.graceful_timeout = FINISH_SECONDS
    config.include_server_header = False
    return config


@contextlib.contextmanager
def _directory(path: str) -> Iterator[None]:
    """Make the directory and hold it: two plugins would forget each other's volumes. Raises VolumeError."""
    try:
        make_directory(Path(path, "mount"))
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise VolumeError(f"{path} cannot be used: {error.strerror}") from error
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            raise VolumeError(f"{path} belongs to another user: its owner could make volumes of anything")
        os.fchmod(fd, 0o700)
        try:
            # The kernel drops the lock of a process that dies, whatever way.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VolumeError(f"{path} is in use by another docker-plugin") from None
        yield
    finally:
        os.close(fd)


# The socket


@contextlib.contextmanager
def _listening(path: str) -> Iterator[int]:
    """A descriptor of the socket, which the server then owns. A socket of ours is removed at the end."""
    passed = _passed_fd()
    if passed is not None:
        yield passed
        return
    fd = _bind(path)
    ours = os.stat(path)
    try:
        yield fd
    finally:
        # Not one that somebody has made in its place.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(ours, os.stat(path)):
                os.unlink(path)


def _passed_fd() -> int | None:
    """Return the socket that systemd hands over, if it does. Raises VolumeError."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()):
        return None  # meant for a process that has started us
    if count != "1":
        raise VolumeError(f"systemd passes {count} sockets, and the plugin serves one")
    os.set_inheritable(_FIRST_PASSED_FD, False)
    return _FIRST_PASSED_FD


def _bind(path: str) -> int:
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), 0o755, exist_ok=True)
        _remove_stale(path)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(SOCKET_UMASK)
        try:
            made.bind(path)
        finally:
            os.umask(mask)
        made.listen()  # at once: nobody finds a socket that refuses
    except OSError as error:
        raise VolumeError(f"cannot listen on {path}: {error.strerror or error}") from error
    return made.detach()


def _remove_stale(path: str) -> None:
    """Remove the socket of a plugin that was killed. Raises VolumeError for one that somebody listens on."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise VolumeError(f"cannot listen on {path}: there is a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise VolumeError(f"cannot listen on {path}: another process does")
