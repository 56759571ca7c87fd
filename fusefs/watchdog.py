"""Ends the connection to the kernel when the daemon dies, also when one of its threads cannot, and when it hangs.

A thread that makes the kernel forget an entry waits for the directory's lock, and no signal ends that. Whoever holds
the lock may wait for an answer of ours. When the daemon is killed then, that thread keeps /dev/fuse open, the kernel
does not notice the death, and all three wait for ever. So a small process of our own waits for the daemon's end and
aborts the connection: every request fails from then on, and the mount stays where it is, dead.

It does the same when the event loop has not turned for as long as a request may take: a disk that does not answer holds
whoever calls it, and nobody else could answer then. A daemon that was stopped (SIGSTOP, a debugger) does not hang.
"""

import ctypes
import faulthandler
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fusefs.bare import PROTECT
from fusefs.heartbeat import GIVEN_UP, Heartbeat
from fusefs.mountapi import mount_nowhere

NAME = "fusefs-watchdog"
"""What ps(1) calls it: 15 letters at the most."""

_DEATH = signal.SIGUSR1
_DUMPING = (signal.SIGQUIT, signal.SIGTRAP, signal.SIGSYS, signal.SIGXCPU)
"""What makes the kernel dump core, beside the signals that faulthandler knows by itself."""
_TRACEBACK = signal.SIGUSR2
"""Makes a daemon that hangs write to its log where it does, once it can."""
_PR_SET_PDEATHSIG = 1
_LOOKS = 10
"""How often it is looked for a sign of life in the time that a request may take."""

# Started with all signals blocked. A program of its own instead of a fork: that takes a third of the memory, and
# holds nothing of the daemon's.
_PROGRAM = f"""
import os, signal, sys
{PROTECT}
daemon, abort, below, heartbeat = map(int, sys.argv[1:5])
pause = float(sys.argv[5]) / {_LOOKS}

def state():
    with open(f"/proc/{{daemon}}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]

def end_connection():
    try:
        os.write(abort, b"1")
    finally:
        protect(below)

def give_up():
    os.pwrite(heartbeat, b"1", {GIVEN_UP})
    os.kill(daemon, {_TRACEBACK:d})
    end_connection()

with open("/proc/self/comm", "w") as name:
    name.write("{NAME}")
seen, missed = None, 0
# The parent is another one where the daemon died before it could be waited for, or is not there to be looked at.
while os.getppid() == daemon and not signal.sigtimedwait([{_DEATH:d}], pause):
    count = os.pread(heartbeat, 8, 0)
    try:
        missed = missed + 1 if count == seen and state() not in "Tt" else 0
        seen = count
        if missed == {_LOOKS} - 1:
            give_up()
        elif missed >= 3 * {_LOOKS} and state() not in "D":  # else it can neither end nor do any harm
            os.kill(daemon, signal.SIGKILL)
    except OSError:
        pass  # the directory cannot be protected, or the daemon has just ended
end_connection()
"""

_NONE = "there is no watchdog, so clients may hang when this daemon hangs or is killed: %s"

_libc = ctypes.CDLL(None, use_errno=True)

log = logging.getLogger(__name__)


@contextmanager
def watched(connection: int | None, below: int, heartbeat: Heartbeat, seconds: float) -> Iterator[None]:
    """Abort the connection of our new mount when this process dies, when its heart has not beaten for so many seconds,
    and at the end, so that no thread is left in it.

    After a death, the directory `below` the mount is protected (see fusefs.bare), for the day the mount is taken away.

    To be used in the first thread, before there are others.
    """
    if connection is None:  # unmounted already
        yield
        return
    try:
        abort = open_abort(connection)
    except OSError as error:
        log.warning(_NONE, error)
        yield
        return
    process = None
    try:
        process = _start(abort, below, heartbeat.fd, seconds)
        _abort_before_core_dumps(abort)
        faulthandler.register(_TRACEBACK, sys.stderr)
        yield
        if process is not None:  # else it goes by itself, once this process has gone and left its mount dead
            process.kill()
            process.wait()
    finally:
        with suppress(OSError):
            os.write(abort, b"1")
        faulthandler.unregister(_TRACEBACK)
        _leave_core_dumps_alone()
        os.close(abort)


def open_abort(connection: int) -> int:
    """Open the file that aborts a connection when it is written to.

    The descriptor stands for this one connection, never for a later one that is given the same number.
    """
    return open_control(connection, "abort")


def open_control(connection: int, name: str) -> int:
    """Open a control file of a connection for writing. Raises OSError."""
    path = f"{connection}/{name}"
    try:
        return os.open(f"/sys/fs/fuse/connections/{path}", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        if os.geteuid() != 0:
            raise
    # Not mounted, as in most containers, or not writable. An instance that no path leads to does as well.
    control = mount_nowhere(b"fusectl")
    try:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=control)
    finally:
        os.close(control)


def _abort_before_core_dumps(abort: int) -> None:
    """Abort in the signal handler: before the kernel dumps core, or decides not to, it waits for all our threads.

    So nobody is told of that death. Whatever is written to the file aborts, be it the traceback of faulthandler.
    """
    faulthandler.enable(abort, all_threads=False)
    for number in _DUMPING:
        # Ignored where a shell without job control has started it in the background: then it is no death.
        if signal.getsignal(number) != signal.SIG_IGN:
            faulthandler.register(number, abort, all_threads=False, chain=True)


def _leave_core_dumps_alone() -> None:
    faulthandler.disable()
    for number in _DUMPING:
        faulthandler.unregister(number)


def _start(abort: int, below: int, heartbeat: int, seconds: float) -> subprocess.Popen[bytes] | None:
    # What ends the daemon in order (Ctrl-C, the stop of a service) reaches the other process too, and must not end it.
    # There are no threads yet that preexec_fn could disturb.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, *map(str, (os.getpid(), abort, below, heartbeat, seconds))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[abort, below, heartbeat],
            cwd="/",
            preexec_fn=_ask_for_a_signal,
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.warning(_NONE, error)
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ask_for_a_signal() -> None:
    """Ask for a signal at the daemon's death: at the end of its first thread, whatever the others do."""
    _libc.prctl(_PR_SET_PDEATHSIG, _DEATH)
