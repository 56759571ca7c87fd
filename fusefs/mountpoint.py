"""Mountpoints: what a directory must be like to mount on it, and how a mount of ours is taken down.

Everything is found out before anything is opened or mounted, so that a refusal is one clear line and changes
nothing. A dead mount of ours, left by a daemon that was killed, stays until the new one is there to take its place: it
tells jobs that go on (ENOTCONN).
"""

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator

from fusefs import bare, mountapi, watchdog
from fusefs.errors import MountError
from fusefs.mountinfo import Mount, mount_at, mounts, resolved
from fusefs.presence import ELSEWHERE, make_place, server, wait_gone

UNMOUNT_SECONDS = 60
"""How long `unmount` waits for the daemon to commit what was closed and to end."""

_CONTAINER = "a container needs --device /dev/fuse and --cap-add SYS_ADMIN"


def check(mountpoint: str, *, files: Iterable[str] = (), allow_other: bool = False) -> str:
    """Return the absolute path of `mountpoint`, without symlinks, when a filesystem can be mounted there.

    `files` are those of the store: they must not lie beneath. Raises MountError.
    """
    path = resolved(mountpoint)
    _check_fuse(allow_other)
    if not _is_left_dead(path):  # else what lies below is seen when that is taken away
        _check_directory(path, mountpoint)
    for file in files:
        if os.path.commonpath([path, os.path.realpath(file)]) == path:
            raise MountError(f"{file} lies inside {mountpoint}, which the mount would cover")
    return path


@contextlib.contextmanager
def mounted_over(path: str, mount: Callable[[str], None], *, protect: bool = False) -> Iterator[int]:
    """Mount on `path`, in the place of a dead mount of ours if there is one. Gives a descriptor of the directory below.

    `mount` mounts on the path that it is given. `protect`: have the directory below refuse writes from then on.
    Raises MountError.
    """
    with contextlib.ExitStack() as stack:
        below = _open_below(path) if _is_left_dead(path) else None
        if below is not None:
            stack.callback(os.close, below)
            _replace(path, below, mount)
        else:
            _take_away_dead(path)
            _check_directory(path, path)
            below = stack.enter_context(bare.bare_mountpoint(path))
            mount(_unmistakable(path, below))
        if protect:
            with contextlib.suppress(OSError):
                bare.protect(below)
        else:
            bare.release_directory(below)
        yield below


def _unmistakable(path: str, directory: int) -> str:
    """A path of the open `directory` that nobody can turn into one of another, as whoever may rename what is above can.

    fusermount3, which mounts for others than root, sees to that itself. Raises MountError.
    """
    own = f"/proc/self/fd/{directory}"
    if os.readlink(own) != path:
        raise MountError(f"{path} is not any more what it was: somebody renames what is on the way")
    return own if os.geteuid() == 0 else path


def _take_away_dead(path: str) -> None:
    while _is_left_dead(path):
        _unmount(path, lazy=True)
        # Jobs may be at work in there: what they write in this moment must not land in the directory below.
        with contextlib.suppress(OSError), bare.bare_mountpoint(path) as directory:
            bare.protect(directory)


def _open_below(path: str) -> int | None:
    """The directory below a dead mount. None where there is another mount between, or where we may not move mounts."""
    if sum(mount.path == os.fsencode(path) for mount in mounts()) > 1:
        return None
    try:
        below = mountapi.directory_below(path)
    except OSError:
        return None  # we are not root, or a container's rules or the kernel say no
    if os.listdir(below):
        os.close(below)
        raise MountError(f"{path} is not empty below its dead mount: unmount that and look")
    return below


def _replace(path: str, below: int, mount: Callable[[str], None]) -> None:
    """Put a new mount in the place of a dead one. Jobs that go on see one or the other and, from Linux 6.5 on, never
    the directory below; before that they see it for a moment, and it refuses writes.
    """
    place = make_place(path)
    try:
        mount(place)
        try:
            _move(place, path, below)
        finally:
            mountapi.detach(place)
    except OSError as error:
        raise MountError(f"the dead mount on {path} cannot be replaced: {error.strerror}") from error
    finally:
        os.rmdir(place)


def _move(place: str, path: str, below: int) -> None:
    tree = mountapi.clone(place)
    try:
        mountapi.attach(tree, path, beneath=True)
        mountapi.detach(path)
    except OSError:
        with contextlib.suppress(OSError):
            bare.protect(below)
        mountapi.detach(path)
        mountapi.attach(tree, path)
    finally:
        os.close(tree)


def unmount(mountpoint: str, seconds: float = UNMOUNT_SECONDS) -> None:
    """Unmount, and wait until the daemon has committed every closed Put and ended. Raises MountError."""
    path = resolved(mountpoint)
    mount = mount_at(os.fsencode(path))
    if mount is None:
        raise MountError(f"{mountpoint} is not mounted")
    if not mount.ours:
        raise MountError(f"{mountpoint} is not a mount of fusefs: it is {mount.type}")
    _unmount(path, lazy=False)
    if not wait_gone(path, seconds, mount.uid):
        raise MountError(
            f"{mountpoint} is unmounted, but process {server(path, mount.uid)} that served it has not ended"
            f" within {seconds:g} seconds: its disk may not answer, or {ELSEWHERE}"
        )
    bare.release(path)


def _check_fuse(allow_other: bool) -> None:
    root = os.geteuid() == 0
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise MountError(f"there is no /dev/fuse: load the kernel's fuse module ({_CONTAINER})") from None
    except OSError as error:
        raise MountError(f"cannot open /dev/fuse: {error.strerror} ({_CONTAINER})") from error
    if not root and shutil.which("fusermount3") is None:
        raise MountError("there is no fusermount3, which mounts for users other than root: install fuse3")
    if allow_other and not root and not _user_allow_other():
        raise MountError("--allow-other needs the line user_allow_other in /etc/fuse.conf, where root can put it")


def _user_allow_other() -> bool:
    try:
        with open("/etc/fuse.conf", encoding="utf-8", errors="replace") as file:
            return any(line.strip() == "user_allow_other" for line in file)
    except OSError:
        return False


def _is_left_dead(path: str) -> bool:
    """Whether a mount of ours on `path` has lost its daemon. Raises MountError for one that lives, or is not ours."""
    mount = mount_at(os.fsencode(path))
    if mount is None:
        return False
    dead = _is_dead(path)
    if mount.ours and not dead:
        raise MountError(f"{path} is already mounted: {_shown(mount)}")
    if dead and not mount.ours:
        raise MountError(f"{path} holds a dead mount of {mount.type}, which is not ours: unmount it first")
    return dead  # a disk or a tmpfs that lives is as good as any directory, when it is empty


def _is_dead(path: str) -> bool:
    # Not stat(2): the kernel answers that from its cache, long after the daemon died.
    try:
        os.statvfs(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def _shown(mount: Mount) -> str:
    return mount.source.decode("utf-8", "backslashreplace")


def _check_directory(path: str, mountpoint: str) -> None:
    try:
        empty = not os.listdir(path)
    except FileNotFoundError:
        raise MountError(f"{mountpoint} does not exist: mkdir it first") from None
    except NotADirectoryError:
        raise MountError(f"{mountpoint} is not a directory") from None
    except OSError as error:
        raise MountError(f"{mountpoint} cannot be read: {error.strerror}") from error
    if not empty:
        raise MountError(f"{mountpoint} is not empty: a mount would hide what is in it")
    if not bare.is_protected(path) and not os.access(path, os.W_OK | os.X_OK):
        raise MountError(f"{mountpoint} cannot be mounted on: you have no permission to write to it")


# Unmounting


def _unmount(path: str, *, lazy: bool) -> None:
    """Unmount with fusermount3, which works for every user; root can do without it."""
    if shutil.which("fusermount3"):
        command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", path]
    elif os.geteuid() == 0:
        command = ["umount", *(["-l"] if lazy else []), "--", path]
    else:
        raise MountError("there is no fusermount3, which unmounts for users other than root: install fuse3")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode == 0:
        return
    # By what uses the mount, not by the words of the message: those are translated.
    holders = _holders(os.fsencode(path))
    if holders:
        raise MountError(f"{path} is busy: used by {', '.join(holders)}")
    said = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
    raise MountError(f"{path} cannot be unmounted: {said[-1] if said else f'{command[0]} failed'}")


def _holders(path: bytes, at_most: int = 5) -> list[str]:
    """Name processes that work in `path` or have something open there, as far as we may see. Only links are read.

    But not those that serve it: they have the directory below the mount open.
    """
    found = []
    pids = list(filter(str.isdigit, os.listdir("/proc")))
    watchdogs = [pid for pid in pids if _command(pid) == watchdog.NAME]
    serving = {*watchdogs, *map(_parent, watchdogs)}
    for pid in pids:
        if pid not in serving and any(link == path or link.startswith(path + b"/") for link in _links(pid)):
            found.append(f"{_command(pid)} ({pid})")
    return [*found[:at_most], "others"] if len(found) > at_most else found


def _links(pid: str) -> Iterable[bytes]:
    try:
        names = [
            f"/proc/{pid}/cwd",
            f"/proc/{pid}/root",
            *(f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd")),
        ]
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(os.fsencode(name))
        except OSError:
            continue


def _parent(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[1].decode()
    except OSError:
        return ""


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="backslashreplace") as file:
            return file.read().strip()
    except OSError:
        return "process"
