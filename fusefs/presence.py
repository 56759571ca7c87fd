"""Which process serves which mountpoint: a locked file per mountpoint, so that an unmount can wait for its end.

Once a filesystem is unmounted nothing in the kernel leads to its daemon any more, although that one may still be
committing. So it holds an flock on a file with its process id until it has closed the store. The kernel drops the
lock of a process that dies, whatever way: a file that is left behind means nothing.

The directory depends on the user alone and not on the environment, because what a login shell mounted may be
unmounted by cron, which has no XDG_RUNTIME_DIR. One that is there only while the user is logged in may not have been
there when somebody mounted: so it is looked for in all that are possible, and believed only what is the user's own.
"""

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fusefs import mountapi
from fusefs.errors import MountError
from fusefs.mountinfo import mount_at, resolved

_POLL_SECONDS = 0.01
_PLACE = re.compile("mount-([0-9a-f]{32})")
"""Belongs to whoever has the lock of this name."""


@contextmanager
def present(mountpoint: str, seconds: float = 10) -> Iterator[None]:
    """Hold the place of the one process that serves `mountpoint`; the store is closed before this ends.

    A predecessor that is still closing its store is waited for, `seconds` at the most. Raises MountError.
    """
    directory, *older = _directories(os.geteuid())
    _make_directory(directory)
    path = _path(directory, mountpoint)
    deadline = time.monotonic() + seconds
    while _told(older, mountpoint, os.geteuid()) is not None or (fd := _try_to_take(path)) is None:
        if time.monotonic() >= deadline:
            pid = server(mountpoint) or "unknown"
            raise MountError(f"{mountpoint} is already served by process {pid}{_why_still(mountpoint)}")
        time.sleep(_POLL_SECONDS)
    try:
        os.write(fd, b"%d\n" % os.getpid())
        _clear_places(directory, path)
        yield
    finally:
        _give_back(fd, path)


ELSEWHERE = (
    "another mount namespace may have it still: end the container or service that was started meanwhile, or the process"
)
"""Why a process may serve what is unmounted: whatever is mounted when a namespace is made is mounted in that, too."""


def _why_still(mountpoint: str) -> str:
    mount = mount_at(os.fsencode(resolved(mountpoint)))
    return "" if mount is not None and mount.ours else f" and not mounted here, but {ELSEWHERE}"


def wait_gone(mountpoint: str, seconds: float, uid: int | None = None) -> bool:
    """Wait until nobody serves `mountpoint` any more; False when somebody still does after `seconds`.

    `uid` is the user who mounted it, by default the caller's.
    """
    deadline = time.monotonic() + seconds
    while server(mountpoint, uid) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def server(mountpoint: str, uid: int | None = None) -> int | None:
    """Return the id of the process that serves `mountpoint` (0: not told yet), None when none does."""
    uid = os.geteuid() if uid is None else uid
    return _told(_directories(uid), mountpoint, uid)


def _told(directories: list[str], mountpoint: str, uid: int) -> int | None:
    """Return what the first of these directories says in which somebody has the place of `mountpoint`."""
    told = (_holder(directory, mountpoint, uid) for directory in directories)
    return next((pid for pid in told if pid is not None), None)


def _holder(directory: str, mountpoint: str, uid: int) -> int | None:
    """Return who has locked the file of `mountpoint` in a directory, as far as that is the user's."""
    path = _path(directory, mountpoint)
    try:
        if os.lstat(directory).st_uid != uid:
            return None
        # What is in it may be another user's: a symlink there is not followed, and a FIFO not waited for.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MountError(f"cannot tell who serves {mountpoint}: {error.strerror}: {error.filename}") from error
    try:
        if os.fstat(fd).st_uid != uid:
            return None
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        text = os.read(fd, 32).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(fd)


def make_place(mountpoint: str) -> str:
    """A new directory to mount on for a moment, where others do not look, for who is present at `mountpoint`.

    Raises MountError. One that a process leaves by dying goes when the next one is present, at whatever mountpoint.
    """
    directory = _directories(os.geteuid())[0]
    _make_directory(directory)
    place = os.path.join(os.path.realpath(directory), f"mount-{_digest(mountpoint)}")
    try:
        os.mkdir(place, 0o700)
    except OSError as error:
        raise MountError(f"cannot make {place}: {error.strerror}") from error
    return place


def _clear_places(directory: str, own: str) -> None:
    """Take away the places of those who have died; `own` is the lock that we have."""
    for found in filter(None, map(_PLACE.fullmatch, os.listdir(directory))):
        place = os.path.join(os.path.realpath(directory), found[0])
        lock = os.path.join(directory, f"{found[1]}.lock")
        with suppress(OSError):
            if lock == own:
                _clear_place(place)
            elif (fd := _try_to_take(lock)) is not None:  # and nobody else makes that place meanwhile
                try:
                    _clear_place(place)
                finally:
                    _give_back(fd, lock)


def _clear_place(place: str) -> None:
    # What is mounted there is asked for nothing, and neither call follows a symlink.
    while (mount := mount_at(os.fsencode(place))) is not None and mount.ours:
        mountapi.detach(place)
    os.rmdir(place)


def _try_to_take(path: str) -> int | None:
    """Open and lock the file; None when another process has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            os.ftruncate(fd, 0)
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


def _give_back(fd: int, path: str) -> None:
    # Removed while it is locked: whoever opens the file after us makes a new one, whoever opened it before us finds
    # out in _try_to_take.
    with suppress(FileNotFoundError):
        os.unlink(path)
    os.close(fd)


def _path(directory: str, mountpoint: str) -> str:
    return os.path.join(directory, f"{_digest(mountpoint)}.lock")


def _digest(mountpoint: str) -> str:
    import hashlib  # 10 ms that only mounts and unmounts spend

    return hashlib.sha256(os.fsencode(resolved(mountpoint))).hexdigest()[:32]


def _directories(uid: int) -> list[str]:
    """Where a user's files may be, first where they are made now."""
    if uid == 0:
        return ["/run/fusefs"]
    session, always = f"/run/user/{uid}", f"/tmp/fusefs-{uid}"
    return [f"{session}/fusefs", always] if os.path.isdir(session) else [always]


def _make_directory(path: str) -> None:
    """Make the directory, ours alone. In /tmp somebody else could have made it first: then it is not trusted."""
    try:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
    except OSError as error:
        raise MountError(f"cannot make {path}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise MountError(f"{path} must be a directory of yours that nobody else can write to: remove it")
