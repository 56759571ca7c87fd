"""Runs a mount in the background and tells whoever started it when the mount answers, or why it never will.

The process forks before anything is opened: SQLite connections, locks and event loops must not cross a fork. So the
caller passes a function that imports what it needs and does everything in the daemon. Nothing here knows about FUSE.
"""

import contextlib
import errno
import logging
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

import engine.errors
import fusefs.errors
from engine.errors import StoreError
from engine.trust import make_directory
from fusefs.errors import MountError
from fusefs.printable import printable

READY_SECONDS = 60
"""How long the starter waits for the daemon's word."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LOG_MODE = 0o600

Serve = Callable[[Callable[[], None]], None]
"""Serves until the end, and calls its argument once when the mount is up."""

log = logging.getLogger(__name__)


class Word(msgspec.Struct, omit_defaults=True):
    """What the daemon says through the pipe, one JSON object a line."""

    pid: int = 0
    ready: bool = False
    error: str = ""
    """The class of an error of ours; any other error is told as a MountError."""
    message: str = ""
    warning: str = ""


class LogFormatter(logging.Formatter):
    """One line for a record, whatever it tells of. The lines of a traceback are indented: none looks like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).split("\n"))


def run_in_foreground(serve: Serve, level: str, log_file: str | None = None) -> None:
    """Serve in this process, logging to stderr or `log_file`."""
    if log_file is None:
        _log_with(logging.StreamHandler(), level)
    else:
        _log_to(log_file, level, named=True)
    serve(lambda: None)


def run_in_background(
    serve: Serve, *, level: str, log_file: str, log_required: bool, seconds: float = READY_SECONDS
) -> str:
    """Start a daemon that serves, and return a warning (or nothing) once it is ready.

    Raises what stopped it before that: StoreError or MountError. `log_required`: no daemon without its log.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        _become_daemon(serve, sender, level, log_file, log_required)
    os.close(sender)
    os.waitpid(child, 0)
    with open(receiver, "rb", buffering=0) as pipe:
        return _wait_until_ready(pipe, log_file, time.monotonic() + seconds)


# In the process that starts


def _wait_until_ready(pipe: Any, log_file: str, deadline: float) -> str:
    pid, warning, text = 0, "", b""
    try:
        while select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
            chunk = pipe.read(4096)
            if not chunk:
                raise MountError(f"the daemon ended before the mount was ready: see {log_file}")
            *lines, text = (text + chunk).split(b"\n")
            for word in (msgspec.json.decode(line, type=Word) for line in lines):
                pid, warning = word.pid or pid, word.warning or warning
                if word.error:
                    raise _rebuilt(word)
                if word.ready:
                    return warning
    except KeyboardInterrupt:
        _give_up(pid)
        raise
    _give_up(pid)
    raise MountError(f"the mount was not ready in time and was given up: see {log_file}")


def _give_up(pid: int) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _rebuilt(word: Word) -> Exception:
    found = getattr(engine.errors, word.error, None) or getattr(fusefs.errors, word.error, None)
    known = isinstance(found, type) and issubclass(found, (StoreError, MountError))
    return found(word.message) if known and found else MountError(f"{word.error}: {word.message}")


# In the daemon


def _become_daemon(serve: Serve, sender: int, level: str, log_file: str, log_required: bool) -> NoReturn:
    """Leave the session, the directory and the descriptors of the starter behind, then serve. Ends the process."""
    code = 1
    try:
        os.setsid()
        if os.fork() == 0:  # no leader of the session any more: no terminal can become ours
            os.chdir("/")
            os.umask(0o077)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            _close_all_but(sender)
            code = _serve_and_tell(serve, sender, level, log_file, log_required)
        else:
            code = 0
    finally:
        os._exit(code)  # not back into the starter's code, which would clean up a second time


def _serve_and_tell(serve: Serve, sender: int, level: str, log_file: str, log_required: bool) -> int:
    def tell(word: Word) -> None:
        # The starter may have given up.
        with contextlib.suppress(BrokenPipeError):
            os.write(sender, msgspec.json.encode(word) + b"\n")

    def ready() -> None:
        tell(Word(ready=True))
        os.close(sender)
        told.append(True)

    told: list[bool] = []
    try:
        tell(Word(pid=os.getpid()))
        try:
            if not log_required:  # beside the store, which makes its directory too, but later
                make_directory(Path(log_file).parent)
            _log_to(log_file, level, named=log_required)
        except OSError as error:
            if log_required:
                raise MountError(f"cannot write the log {log_file}: {error.strerror}") from error
            tell(Word(warning=f"there is no log: cannot write {log_file}: {error.strerror}"))
        serve(ready)
        if not told:
            raise MountError("it ended before the mount was ready")
        return 0
    except BaseException as error:
        expected = isinstance(error, (StoreError, MountError))
        log.error("%s: %s", type(error).__name__, error, exc_info=not expected or bool(told))
        if not told:
            message = str(error).encode("utf-8", "backslashreplace").decode()
            tell(Word(error=type(error).__name__, message=message))
        return 1
    finally:
        logging.shutdown()


def _close_all_but(kept: int) -> None:
    """Close what was inherited: a daemon must not hold the locks and pipes of the shell that started it."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd != kept:
            with contextlib.suppress(OSError):
                os.close(fd)


def _log_to(path: str, level: str, *, named: bool) -> None:
    """Log to a file that only its owner can read, reopened when somebody rotates it, and send stderr there too.

    `named`: somebody asked for this file, whatever it is. Otherwise it has to be a file of ours and no symlink.
    """
    from logging.handlers import WatchedFileHandler  # 10 ms

    class Handler(WatchedFileHandler):
        def _open(self) -> Any:
            fd = _open_log(self.baseFilename, named=named)
            return open(fd, "a", encoding="utf-8", errors="backslashreplace")

        def emit(self, record: logging.LogRecord) -> None:
            try:
                super().emit(record)
            except OSError:
                # It cannot be opened again now: no reason for what was to be told of to fail.
                self.handleError(record)

    handler = Handler(path)
    _log_with(handler, level)
    assert handler.stream is not None
    os.dup2(handler.stream.fileno(), 2)


def _open_log(path: str, *, named: bool) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    if named:
        return os.open(path, flags, LOG_MODE)
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, LOG_MODE)  # a FIFO would wait for a reader
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        return fd
    os.close(fd)
    raise PermissionError(errno.EPERM, "it is no file of ours", path)


def _log_with(handler: logging.Handler, level: str) -> None:
    handler.setFormatter(LogFormatter(LOG_FORMAT))
    logging.basicConfig(handlers=[handler], level=level.upper())
