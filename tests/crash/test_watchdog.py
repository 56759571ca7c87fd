"""A daemon that dies leaves its mount dead and nobody waiting, also when one of its threads cannot die."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fusefs.presence import server
from fusefs.watchdog import NAME, open_abort
from tests.conftest import MakeMount
from tests.contract.several_mounts import in_pipeline, mounts_of_one_store
from tests.support import mounting
from tests.support.mounting import MountedStore
from tests.support.processes import end, start_python
from tests.support.scratch import mount_at
from tests.support.shared_mount import refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

DIED = (errno.ENOTCONN, errno.ECONNABORTED)
WRITERS = 6
LIMIT = 5


def threads_in_state(pid: int, states: str) -> set[int]:
    """The threads of a process that are in one of these states (proc(5), stat)."""
    found = set()
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                text = Path(f"/proc/{pid}/task/{thread}/stat").read_text()
                if text.rpartition(")")[2].split()[0] in states:
                    found.add(int(thread))
    return found


def processes_of(store: MountedStore) -> dict[int, str]:
    """The processes that belong to this mount, and what they are called. Those that have ended do not count."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if b"HOME=%b\0" % os.fsencode(store.directory) in Path(f"/proc/{pid}/environ").read_bytes():
                found[int(pid)] = Path(f"/proc/{pid}/comm").read_text().strip()
    return found


def watchdog_of(store: MountedStore) -> int:
    """The watchdog of the mount that was just made: it has a name a moment after the mount answers."""

    def named() -> list[int]:
        return [pid for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == NAME]

    # Not among all processes: to ask for the environment of one that hangs, of another test, may take its time.
    daemon = server(str(store.path))
    children = [int(pid) for pid in Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()]
    wait_until(lambda: len(named()) == 1)
    return named()[0]


def line_of(store: MountedStore) -> list[str]:
    """What the kernel says of the mount, with the number that every new mount gets."""
    with open("/proc/self/mountinfo") as table:
        return [line for line in table if line.split(" ")[4] == str(store.path)]


def connection_of(store: MountedStore) -> int:
    mount = mount_at(store.path)
    assert mount is not None
    return mount.connection


def check_ended(store: MountedStore, code: int) -> None:
    assert store.daemon is not None
    assert store.daemon.wait(30) == code
    store.daemon = None


def check_dead(store: MountedStore, mounted: list[str]) -> None:
    """It is still the same mount, nobody serves it, and another one can take its place."""
    assert line_of(store) == mounted
    with refused(errno.ENOTCONN):
        os.statvfs(store.path)
    with refused(*DIED):
        os.listdir(store.path)
    wait_until(lambda: not processes_of(store))
    assert line_of(store) == mounted
    store.mount()


# A thread that cannot die

CREATE = """
import os, sys
directory, name = sys.argv[1:]
number = 0
try:
    while True:
        number += 1
        os.close(os.open(f"{directory}/{name}.{number}", os.O_CREAT | os.O_WRONLY))
except OSError as error:
    print(error.errno)
"""


@pytest.fixture
def quit_is(request: pytest.FixtureRequest) -> Iterator[None]:
    """What SIGQUIT does to daemons that are started: ours may be a run in the background, which ignores it."""
    before = signal.signal(signal.SIGQUIT, getattr(request, "param", signal.SIG_DFL))
    yield
    signal.signal(signal.SIGQUIT, before)


@pytest.fixture
def mounts(quit_is: None) -> Iterator[list[MountedStore]]:
    with mounts_of_one_store(2, pipeline_object_limit=LIMIT) as mounted:
        yield mounted


def stop_while_it_invalidates(daemon: int) -> None:
    """Stop the daemon at a moment when one of its threads waits for a directory whose holder waits for the daemon."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        os.kill(daemon, signal.SIGSTOP)
        # All that can stop has stopped, and a lock that can be had has been taken.
        wait_until(lambda: not threads_in_state(daemon, "RS"))
        stuck = threads_in_state(daemon, "D")
        time.sleep(0.1)
        if stuck & threads_in_state(daemon, "D"):
            return
        os.kill(daemon, signal.SIGCONT)
        time.sleep(0.01)
    raise AssertionError("no thread ever waited for a directory")


@contextmanager
def busy(mounts: list[MountedStore]) -> Iterator[list[subprocess.Popen[str]]]:
    """A directory that many write to through both mounts. Gives the writers of the first one."""
    here, there = in_pipeline(mounts, "p")
    beside = [start_python(CREATE, there, f"beside{number}") for number in range(2)]
    clients = [start_python(CREATE, here, f"client{number}") for number in range(WRITERS)]
    try:
        yield clients
    finally:
        for process in (*beside, *clients):
            process.kill()
            process.communicate()


def check_told(clients: list[subprocess.Popen[str]]) -> None:
    """All clients were told that the mount is dead, and none of them waits any more."""
    assert {int(said) for said in end(clients)} <= set(DIED)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGQUIT])
def test_killed_while_a_thread_waits_for_a_directory(mounts: list[MountedStore], number: signal.Signals) -> None:
    """The clients and the thread wait for each other and for the dead daemon: they come free, and it ends.

    The kernel treats signals that dump core in another way: it waits for all threads before anything else.
    """
    dying, _ = mounts
    mounted = line_of(dying)
    with busy(mounts) as clients:
        stop_while_it_invalidates(dying.pid)
        os.kill(dying.pid, number)
        os.kill(dying.pid, signal.SIGCONT)
        check_ended(dying, -number)
        check_told(clients)
        check_dead(dying, mounted)


# The event loop ends with an error at a moment when a thread is stuck. It does not serve while that is found out.
CRASH = """
import os, time
from fusefs import session
from fusefs.cli import main

class Crash(BaseException):
    pass

def stuck():
    states = [open(f"/proc/self/task/{thread}/stat").read().rpartition(")")[2].split()[0]
              for thread in os.listdir("/proc/self/task")]
    return "D" in states

async def crash(state, hear=session._hear_news):
    if os.path.exists(os.environ["CRASH_FILE"]) and stuck():
        time.sleep(0.1)
        if stuck():
            raise Crash("injected")
    await hear(state)

session._hear_news = crash
main()
"""


def test_the_event_loop_ends_while_a_thread_waits_for_a_directory(make_mount: MakeMount) -> None:
    """An error that the daemon cannot survive ends its process and leaves the mount dead."""
    living = make_mount(pipeline_object_limit=LIMIT)
    crash_file = living.directory / "crash"
    program = (sys.executable, "-c", CRASH)
    dying = make_mount(program=program, store=living.store, environment={"CRASH_FILE": str(crash_file)})
    dying.expect_log("Traceback|the mount cannot go on")
    mounted = line_of(dying)
    with busy([dying, living]) as clients:
        crash_file.touch()
        check_ended(dying, 1)
        check_told(clients)
        check_dead(dying, mounted)
    assert "Crash: injected" in dying.log()


# Other deaths


def test_a_plain_kill(mounted: MountedStore) -> None:
    """The mount is dead at once and stays in its place, and no process is left: also right after it answers."""
    watchdog_of(mounted)
    for _ in range(3):
        mounted_as = line_of(mounted)
        mounted.kill()
        check_dead(mounted, mounted_as)


@pytest.mark.parametrize("quit_is", [signal.SIG_IGN], indirect=True)
def test_a_signal_that_is_ignored(quit_is: None, make_mount: MakeMount) -> None:
    """It does nothing to the mount either."""
    mounted = make_mount()
    os.kill(mounted.pid, signal.SIGQUIT)
    (mounted.pipeline / "p").mkdir()
    (mounted.pipeline / "p/k").write_text("v")
    assert (mounted.pipeline / "p/k").read_text() == "v"


def test_a_connection_that_somebody_aborts(mounted: MountedStore) -> None:
    """The daemon ends with an error, so that a service manager starts it again; the mount is left dead."""
    mounted.expect_log("Traceback|the mount cannot go on|was aborted")
    mounted_as = line_of(mounted)
    abort = open_abort(connection_of(mounted))
    os.write(abort, b"1")
    os.close(abort)
    check_ended(mounted, 1)
    check_dead(mounted, mounted_as)
    assert "was aborted: mount it again" in mounted.log()


# Ends that were asked for


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_of_the_mount(mounted: MountedStore, number: signal.Signals) -> None:
    """Ctrl-C and the stop of a service reach the watchdog too: the mount is taken away in order, and nobody is left."""
    (mounted.pipeline / "p").mkdir()
    watchdog = watchdog_of(mounted)
    assert os.getpgid(watchdog) == os.getpgid(mounted.pid)
    with (mounted.pipeline / "p/k").open("w") as file:
        os.killpg(os.getpgid(mounted.pid), number)
        wait_until(lambda: "unmounting" in mounted.log())
        file.write("late")
    mounted.wait()
    assert not processes_of(mounted)
    mounted.mount()
    assert (mounted.pipeline / "p/k").read_text() == "late"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE])
def test_the_watchdog_goes_on_after_a_signal(mounted: MountedStore, number: signal.Signals) -> None:
    watchdog = watchdog_of(mounted)
    os.kill(watchdog, number)
    os.listdir(mounted.pipeline)
    assert watchdog_of(mounted) == watchdog


def test_nothing_is_left_of_a_mount_in_the_background(mounted: MountedStore) -> None:
    """`fusefs umount` returns when the watchdog has ended too."""
    mounted.unmount()
    assert not processes_of(mounted)
    mounted.cli("mount", str(mounted.path), exit_code=0)
    watchdog_of(mounted)
    mounted.cli("umount", str(mounted.path), exit_code=0)
    wait_until(lambda: not processes_of(mounted))


# The watchdog itself

# A daemon of which no signal tells that it is dead.
UNTOLD = """
import os, subprocess, sys, time
from fusefs import watchdog
watchdog._ask_for_a_signal = lambda: None
abort, heartbeat = map(int, sys.argv[1:])
print(watchdog._start(abort, abort, heartbeat, 0.5).pid, flush=True)
time.sleep(60)
"""


def test_a_death_at_the_moment_of_looking_at_the_daemon() -> None:
    """The daemon may be gone before the signal is waited for: the connection is ended all the same."""
    told, abort = os.pipe()
    heartbeat = os.memfd_create("heartbeat")
    os.write(heartbeat, bytes(9))
    daemon = subprocess.Popen(
        [sys.executable, "-c", UNTOLD, str(abort), str(heartbeat)],
        stdout=subprocess.PIPE,
        pass_fds=[abort, heartbeat],
        cwd=mounting.ROOT,
    )
    os.close(abort)
    try:
        with daemon:
            assert daemon.stdout is not None
            comm = Path(f"/proc/{int(daemon.stdout.readline())}/comm")
            wait_until(lambda: comm.read_text().strip() == NAME)
            daemon.kill()
        assert os.read(told, 10) == b"1"
    finally:
        os.close(told)
        os.close(heartbeat)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_watchdog_that_does_nothing_disturbs_nobody(mounted: MountedStore, number: signal.Signals) -> None:
    """The mount goes on without it, and ends in order."""
    os.kill(watchdog_of(mounted), number)
    (mounted.pipeline / "p").mkdir()
    (mounted.pipeline / "p/k").write_text("v")
    assert (mounted.pipeline / "p/k").read_text() == "v"
    mounted.unmount()
    assert not processes_of(mounted)


def test_the_watchdog_holds_nothing(mounted: MountedStore) -> None:
    """Neither the device nor the store, its locks or the log: those must end with the daemon.

    Beside the file that aborts it has the directory below the mount, which it protects in the end, and the memory in
    which it sees that the daemon turns.
    """
    watchdog = watchdog_of(mounted)
    held = sorted(os.readlink(f"/proc/{watchdog}/fd/{fd}") for fd in os.listdir(f"/proc/{watchdog}/fd"))
    assert held.count("/dev/null") == 3
    held = [path for path in held if path != "/dev/null"]
    assert sorted(path.rpartition("/")[2] for path in held) == [
        "abort",
        "memfd:fusefs-heartbeat (deleted)",
        mounted.path.name,
    ]
    assert os.readlink(f"/proc/{watchdog}/cwd") == "/"
    assert str(mounted.directory) not in Path(f"/proc/{watchdog}/maps").read_text()


def test_a_later_mount_is_never_aborted(make_mount: MakeMount) -> None:
    """What stands for one connection does nothing to the next one, which the kernel gives the same number."""
    store = make_mount()
    aborts: dict[int, int] = {}
    try:
        while (number := connection_of(store)) not in aborts:
            assert len(aborts) < 20, "the kernel never gives a number again"
            aborts[number] = open_abort(number)
            store.remount()
        os.write(aborts[number], b"1")
        os.statvfs(store.path)
    finally:
        for abort in aborts.values():
            os.close(abort)
