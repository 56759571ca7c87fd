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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec

import engine.errors
import fusefs.errors
from engine.errors import StoreError
from engine.sqlite.names import SQLITE_MAGIC
from engine.trust import make_directory
from fusefs.errors import MountError
from fusefs.printable import printable

READY_SECONDS = 60
"""How long the starter waits for the daemon's word."""

GIVEN_UP = signal.SIGRTMIN
"""Tells the daemon that whoever started it wants no mount any more: what was there before is to be there again."""
_INTRODUCTION_S = 5
"""How long the starter waits for the daemon to say who it is: that is the first thing it does."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LOG_MODE = 0o600

Serve = Callable[[Callable[[], None]], None]
"""Serves until the end, and calls its argument once when the mount is up."""

Mask = set[int | signal.Signals]
"""The signals that are blocked."""

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

    Raises what stopped it before that: StoreError or MountError. `log_required`: no daemon without its log. From then
    on this process ignores Ctrl-C: the mount is there, and what the process ends with is to say so.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    receiver, sender = os.pipe()
    # Ctrl-C is let in only while we wait for the daemon: it can be given up then, and no word of it is lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        child = os.fork()
        if child == 0:
            _become_daemon(serve, sender, before, level, log_file, log_required)
        os.close(sender)
        os.waitpid(child, 0)
        with open(receiver, "rb", buffering=0) as pipe:
            return _wait_until_ready(_Daemon(pipe, before), log_file, time.monotonic() + seconds)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In the process that starts


class _Daemon:
    """The daemon, as far as it has said something."""

    def __init__(self, pipe: Any, mask: Mask) -> None:
        """`mask`: for as long as it is waited for."""
        self.pid = 0
        self.warning = ""
        self.mask = mask
        self._pipe = pipe
        self._text = b""

    def words(self, deadline: float) -> Iterator[Word]:
        """What it says until then. Raises EOFError once it has ended without saying that the mount is ready."""
        while self._says_something(deadline):
            chunk = self._pipe.read(4096)
            if not chunk:
                raise EOFError
            *lines, self._text = (self._text + chunk).split(b"\n")
            for word in (msgspec.json.decode(line, type=Word) for line in lines):
                self.pid, self.warning = word.pid or self.pid, word.warning or self.warning
                yield word

    def _says_something(self, deadline: float) -> bool:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
            return bool(select.select([self._pipe], [], [], max(0, deadline - time.monotonic()))[0])
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def give_up(self) -> None:
        """Have it end, and leave the mountpoint as it was."""
        self.mask = {*self.mask, signal.SIGINT}
        with contextlib.suppress(EOFError):
            if not self.pid:
                next(self.words(time.monotonic() + _INTRODUCTION_S), None)
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, GIVEN_UP)


def _wait_until_ready(daemon: _Daemon, log_file: str, deadline: float) -> str:
    try:
        for word in daemon.words(deadline):
            if word.error:
                raise _rebuilt(word)
            if word.ready:
                signal.pthread_sigmask(signal.SIG_SETMASK, daemon.mask)  # one that came by now came in time
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                return daemon.warning
    except KeyboardInterrupt:
        daemon.give_up()
        raise
    except EOFError:
        raise MountError(f"the daemon ended before the mount was ready: see {log_file}") from None
    daemon.give_up()
    raise MountError(f"the mount was not ready in time and was given up: see {log_file}")


def _rebuilt(word: Word) -> Exception:
    found = getattr(engine.errors, word.error, None) or getattr(fusefs.errors, word.error, None)
    known = isinstance(found, type) and issubclass(found, (StoreError, MountError))
    return found(word.message) if known and found else MountError(f"{word.error}: {word.message}")


# In the daemon


def _become_daemon(serve: Serve, sender: int, mask: Mask, level: str, log_file: str, log_required: bool) -> NoReturn:
    """Leave the session, the directory and the descriptors of the starter behind, then serve. Ends the process."""
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
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
        os.write(sender, msgspec.json.encode(word) + b"\n")

    def ready() -> None:
        told.append(True)
        try:
            tell(Word(ready=True))
        except BrokenPipeError:  # it has ended without our knowing, and has told nobody of a mount
            signal.raise_signal(GIVEN_UP)
        os.close(sender)

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
            tell(Word(warning=printable(f"there is no log: cannot write {log_file}: {error.strerror}")))
        serve(ready)
        if not told:
            raise MountError("it ended before the mount was ready")
        return 0
    except BaseException as error:
        expected = isinstance(error, (StoreError, MountError))
        log.error("%s: %s", type(error).__name__, error, exc_info=not expected or bool(told))
        if not told:
            with contextlib.suppress(BrokenPipeError):
                tell(Word(error=type(error).__name__, message=printable(str(error))))
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
            os.dup2(fd, 2)  # each time: the traceback of a hang goes there, and who rotates wants the old file gone
            return open(fd, "a", encoding="utf-8", errors="backslashreplace")

        def emit(self, record: logging.LogRecord) -> None:
            try:
                super().emit(record)
            except OSError:
                # It cannot be opened again now: no reason for what was to be told of to fail.
                self.handleError(record)

    _log_with(Handler(path), level)


def _open_log(path: str, *, named: bool) -> int:
    if _is_database(path):  # of another store: of one that is called a.log, for instance
        raise PermissionError(errno.EPERM, "it is a database", path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    if named:
        return os.open(path, flags, LOG_MODE)
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, LOG_MODE)  # a FIFO would wait for a reader
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        return fd
    os.close(fd)
    raise PermissionError(errno.EPERM, "it is no file of ours", path)


def _is_database(path: str) -> bool:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # to read a FIFO would wait for its writer
            return False
        with open(path, "rb") as file:
            return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    except OSError:
        return False


def _log_with(handler: logging.Handler, level: str) -> None:
    handler.setFormatter(LogFormatter(LOG_FORMAT))
    logging.basicConfig(handlers=[handler], level=level.upper())
