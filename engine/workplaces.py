"""Where files are made until all of them are complete: a directory of their own, beside where they are to be."""

import fcntl
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

_NAMES = "backup.partial-"
_FILE = "copy"
"""The name of the first file in there; others have an ending after a dash."""


class Workplace:
    """Held by a lock of the kernel's, which goes with its process: one that nobody holds was left by a kill."""

    def __init__(self, beside: Path) -> None:
        """Make one in a directory, where those that were left go. Raises OSError."""
        _remove_left(beside)
        self._path, self._fd = _make(beside)

    def file(self, ending: str) -> Path:
        """The path of a file in it."""
        return self._path / f"{_FILE}{ending}"

    def remove(self) -> None:
        """Delete it with all files in it."""
        try:
            with suppress(OSError):
                _remove(self._path, self._fd)
        finally:
            os.close(self._fd)


def _make(beside: Path) -> tuple[Path, int]:
    """A place that is held. Raises OSError."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_NAMES, dir=beside))
        with suppress(FileNotFoundError):  # another began here, and took it for one that was left
            fd = _open(path)
            if _hold(fd) and path.exists():
                return path, fd
            os.close(fd)
            path.rmdir()  # unless the other does: one of another user it leaves


def _hold(fd: int) -> bool:
    """Lock a place. False where another has it at this moment, to see whether it was left."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a filesystem without locks: then none that was left is removed
    return True


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _remove_left(beside: Path) -> None:
    """Delete those in a directory that are ours for certain, and that nobody holds."""
    for path in beside.glob(f"{_NAMES}????????"):
        with suppress(OSError):  # somebody else's, or held
            fd = _open(path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_uid == os.geteuid() and all(_is_ours(name, fd) for name in os.listdir(fd)):
                    _remove(path, fd)
            finally:
                os.close(fd)


def _is_ours(name: str, fd: int) -> bool:
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    return (name == _FILE or name.startswith(f"{_FILE}-")) and stat.S_ISREG(status.st_mode)


def _remove(path: Path, fd: int) -> None:
    for name in os.listdir(fd):
        os.unlink(name, dir_fd=fd)
    os.rmdir(path)
