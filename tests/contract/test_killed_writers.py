"""A writer that a signal killed in mid-write publishes nothing; one that merely exits has closed, and publishes."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fusefs.openers import Life, life_of
from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import Other, run_sh, sh, start_python
from tests.support.shared_mount import listed, refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

KILL = "os.kill(os.getpid(), signal.SIGKILL)"
OPEN = "k = open('k', 'w'); k.write('half'); k.flush()"
OPEN_IN_A_THREAD = f"""
def write():
    global k
    {OPEN}
thread = threading.Thread(target=write)
thread.start()
thread.join()"""
MANY_CLOSED_IN_TURN = """
os.sched_setaffinity(0, {0})

def write(name):
    global k
    k = open(name, 'w'); k.write('half'); k.flush()

for number in range(1000):
    thread = threading.Thread(target=write, args=(f'k{number}',))
    thread.start()
    thread.join()
    k.close()
"""
BIG = "k = open('k', 'w'); k.write('half' * 1_000_000); k.flush()"


def run_python(code: str, directory: Path) -> int:
    """How a Python process ended: its exit status, or a signal as a negative number."""
    prelude = "import array, mmap, os, signal, socket, subprocess, sys, threading, time\n"
    return subprocess.run([sys.executable, "-I", "-S", "-c", prelude + code], cwd=directory, check=False).returncode


def value(directory: Path) -> str:
    """What the key holds once the writers are gone and nothing is under way any more."""
    # A Put of its own behind all that was closed: the store publishes one at a time.
    sh("echo barrier > barrier; rm barrier", directory)
    return sh("cat k 2>/dev/null || echo none", directory)


@pytest.fixture(params=["new", "old"])
def before(request: pytest.FixtureRequest, pipeline: Path) -> str:
    """The key does not exist yet, or has a value; what `value` says of that."""
    if request.param == "new":
        return "none\n"
    (pipeline / "k").write_text("old")
    return "old"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSEGV, signal.SIGPIPE])
@pytest.mark.parametrize("start", [OPEN, BIG])
def test_a_killed_writer_publishes_nothing(pipeline: Path, before: str, number: int, start: str) -> None:
    # Python itself catches SIGINT and ignores SIGPIPE.
    default = "" if number == signal.SIGKILL else f"signal.signal({int(number)}, signal.SIG_DFL); "
    code = f"{default}{start}; os.kill(os.getpid(), {int(number)})"
    assert run_python(code, pipeline) == -number
    assert value(pipeline) == before


@pytest.mark.parametrize(
    "start",
    [
        "k = os.open('k', os.O_WRONLY | os.O_CREAT)",
        "k = os.open('k', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)",
        "k = open('k', 'a'); k.write('half'); k.flush()",
        "k = os.open('k', os.O_RDWR | os.O_CREAT); os.pwrite(k, b'half', 1)",
        "k = os.open('k', os.O_RDWR | os.O_CREAT); os.ftruncate(k, 2)",
    ],
)
def test_however_it_was_opened(pipeline: Path, before: str, start: str) -> None:
    assert run_python(f"{start}; {KILL}", pipeline) == -signal.SIGKILL
    assert value(pipeline) == before


@pytest.mark.parametrize("code", ["sys.exit(0)", "sys.exit(3)", "os._exit(137)", "raise SystemError('on purpose')"])
def test_an_exit_publishes(pipeline: Path, before: str, code: str) -> None:
    """A process that merely exits, with any status, with the descriptor open has closed it."""
    run_sh(f'"{sys.executable}" -c "import os, sys; {OPEN}; {code}" 2>/dev/null', pipeline)
    assert value(pipeline) == "half"


def test_what_fsync_published_stays(pipeline: Path) -> None:
    """fsync publishes: what comes after it is a write of its own, and only that is lost."""
    assert run_python(f"{OPEN}; os.fsync(k.fileno()); k.write(' more'); k.flush(); {KILL}", pipeline) == -9
    assert value(pipeline) == "half"


def test_closed_before_the_signal(pipeline: Path) -> None:
    assert run_python(f"{OPEN}; k.close(); {KILL}", pipeline) == -9
    assert value(pipeline) == "half"


def test_timeout(pipeline: Path, before: str) -> None:
    """timeout(1) and its like hold the descriptor of what they kill, and exit plainly."""
    run_sh("timeout 0.3 sh -c 'echo half; sleep 60' > k", pipeline)
    assert value(pipeline) == before


def test_a_killed_pipe(pipeline: Path, before: str) -> None:
    run_sh("(tee k < /dev/zero & p=$!; sleep 0.2; kill $p; wait $p) | head -c 1000 > /dev/null", pipeline)
    assert value(pipeline) == before


# Groups


@pytest.mark.parametrize("group", ["(echo a; echo b; echo c) > k", "{ echo a; echo b; echo c; } > k"])
def test_a_group_publishes_once_at_the_end(pipeline: Path, before: str, group: str) -> None:
    """Commands that exit one after the other hold one open file: the value appears when the group is done."""
    look = "cat k >> ../seen 2>/dev/null || echo none >> ../seen"
    slow = group.replace("echo b", "/bin/echo b; { " + look.replace("../seen", "$SEEN") + "; }")
    seen = pipeline.parent.parent / "run" / pipeline.name
    seen.mkdir()
    sh(slow, pipeline, SEEN=seen / "seen")
    assert (seen / "seen").read_text() == before
    assert value(pipeline) == "a\nb\nc\n"


def test_a_group_goes_on_without_the_one_that_was_killed(pipeline: Path) -> None:
    run_sh("(echo a; sh -c 'echo b; kill -9 $$'; /bin/echo c) > k", pipeline)
    assert value(pipeline) == "a\nb\nc\n"


def test_a_script_that_kills_its_helper_publishes(pipeline: Path) -> None:
    """`exec > log; server & tests; kill %1`: the helper was killed, the one that writes the log was not."""
    run_sh(
        "exec > k; echo log; sh -c 'echo helper; exec sleep 60' & sleep 0.2; kill -9 $!; wait $! 2>/dev/null; exit 1",
        pipeline,
    )
    assert value(pipeline) == "log\nhelper\n"


def test_a_killed_group_publishes_nothing(pipeline: Path, before: str) -> None:
    process = subprocess.Popen(["sh", "-c", "(echo a; sleep 60) > k"], cwd=pipeline, start_new_session=True)
    wait_until(lambda: _sleeps(process.pid))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert value(pipeline) == before


def test_a_killed_shell_publishes_nothing_although_its_child_lives(pipeline: Path, before: str) -> None:
    """The child that never wrote holds the descriptor for longer, then exits plainly."""
    process = subprocess.Popen(["sh", "-c", "exec > k; echo half; sleep 1"], cwd=pipeline, start_new_session=True)
    wait_until(lambda: _sleeps(process.pid))
    process.kill()
    process.wait()
    wait_until(lambda: not _anybody_in_session(process.pid))
    assert value(pipeline) == before


def _sleeps(group: int) -> bool:
    return b"sleep" in _commands(group)


def _anybody_in_session(session: int) -> bool:
    return bool(_commands(session))


def _commands(session: int) -> list[bytes]:
    commands = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            before, _, after = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")
        except OSError:
            continue
        state, _, _, own_session = after.split()[:4]
        if int(own_session) == session and state != b"Z":
            commands.append(before.partition(b"(")[2])
    return commands


# Threads, children, and those who were handed the descriptor


def test_a_thread_that_wrote_and_ended(pipeline: Path, before: str) -> None:
    code = f"""
{OPEN_IN_A_THREAD}
threading.Thread(target=time.sleep, args=(60,)).start()
{KILL}"""
    assert run_python(code, pipeline) == -9
    assert value(pipeline) == before


def test_many_threads_that_write(pipeline: Path, before: str) -> None:
    code = f"""
{OPEN}
def write():
    while True:
        os.write(k.fileno(), b'more')
for _ in range(4):
    threading.Thread(target=write).start()
time.sleep(0.2)
{KILL}"""
    assert run_python(code, pipeline) == -9
    assert value(pipeline) == before


def test_a_thread_that_exits_plainly(pipeline: Path) -> None:
    """The process ends by exit: it publishes, whichever thread opened the file and whichever is the last."""
    code = f"""
{OPEN_IN_A_THREAD}
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
os._exit(5)"""
    assert run_python(code, pipeline) == 5
    assert value(pipeline) == "half"


def test_the_parent_was_killed(pipeline: Path, before: str) -> None:
    """A child that inherited the descriptor and wrote nothing does not make a killed parent's half value whole."""
    code = f"""
{OPEN}
if os.fork() == 0:
    while os.getppid() == PARENT:
        time.sleep(0.01)
    os._exit(0)
{KILL}"""
    reader, writer = os.pipe()
    assert _with_pipe(f"PARENT = os.getpid()\n{code}", pipeline, writer) == -9
    _wait_for_end_of(reader)
    assert value(pipeline) == before


def test_a_child_that_carries_on(pipeline: Path) -> None:
    """It goes on writing after its parent was killed, and closes: the value is its own now."""
    code = f"""
PARENT = os.getpid()
{OPEN}
if os.fork() == 0:
    while os.getppid() == PARENT:
        time.sleep(0.01)
    k.write(' and half'); k.flush()
    os._exit(0)
{KILL}"""
    reader, writer = os.pipe()
    assert _with_pipe(code, pipeline, writer) == -9
    _wait_for_end_of(reader)
    assert value(pipeline) == "half and half"


@pytest.mark.parametrize(("end", "published"), [(KILL, None), ("os._exit(1)", "whole")])
def test_one_who_was_handed_the_descriptor(pipeline: Path, before: str, end: str, published: str | None) -> None:
    """Sent through a socket (unix(7), SCM_RIGHTS) to a process that is no child; the one that opened it closes it."""
    code = f"""
ours, theirs = socket.socketpair()
if os.fork() == 0:
    if os.fork():
        os._exit(0)
    _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
    os.write(fds[0], b'whole')
    theirs.send(b'w')
    theirs.recv(1)
    {end}
os.wait()
k = os.open('k', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
socket.send_fds(ours, [b'k'], [k])
ours.recv(1)
os.close(k)
ours.send(b'c')
ours.close()"""
    reader, writer = os.pipe()
    assert _with_pipe(code, pipeline, writer) == 0
    _wait_for_end_of(reader)
    assert value(pipeline) == (published or before)


def _with_pipe(code: str, directory: Path, writer: int) -> int:
    """As run_python; the pipe's end is held by every process that the code starts."""
    prelude = "import os, signal, socket, time\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", prelude + code], cwd=directory, check=False, pass_fds=[writer]
    )
    os.close(writer)
    return done.returncode


def _wait_for_end_of(reader: int) -> None:
    """Wait until nobody holds the pipe any more: they are all gone."""
    with open(reader, "rb") as pipe:
        assert pipe.read() == b""


def test_a_plain_close_while_somebody_else_is_being_killed(make_mount: MakeMount) -> None:
    """The thread that opened it has ended, as in a pool of threads; and one that has nothing to do with it dies.

    On one processor: then the thread that opened it is often still ending, and the one that closes it on its way.
    """
    mounted, elsewhere = make_mount(), make_mount()
    for thread in os.listdir(f"/proc/{mounted.pid}/task"):
        os.sched_setaffinity(int(thread), {0})
    run = mounted.run / "r"
    for directory in (run, elsewhere.run / "r"):
        directory.mkdir()
    victim = start_python(
        "import sys, time; k = open(sys.argv[1], 'w'); k.write('half'); k.flush(); print(flush=True); time.sleep(600)",
        elsewhere.run / "r" / "k",
    )
    assert victim.stdout is not None
    victim.stdout.readline()
    os.kill(elsewhere.pid, signal.SIGSTOP)  # so that it takes long to die
    try:
        victim.kill()
        statm = Path(f"/proc/{victim.pid}/statm")
        wait_until(lambda: life_of(statm.read_bytes().split()) is Life.EXITING)
        assert run_python(MANY_CLOSED_IN_TURN, run) == 0
        assert {name: (run / name).read_text() for name in listed(run)} == {f"k{n}": "half" for n in range(1000)}
    finally:
        os.kill(elsewhere.pid, signal.SIGCONT)
        victim.communicate()


def test_a_plain_close_while_a_child_is_being_killed(make_mount: MakeMount) -> None:
    """It has nothing to do with the key, and takes long to die."""
    mounted, elsewhere = make_mount(), make_mount()
    for mount in (mounted, elsewhere):
        (mount.run / "r").mkdir()
    code = f"""
ours, theirs = os.pipe()
child = os.fork()
if child == 0:
    k = open({str(elsewhere.run / "r/k")!r}, 'w'); k.write('half'); k.flush()
    os.write(theirs, b'w')
    time.sleep(600)
os.read(ours, 1)
os.kill({elsewhere.pid}, signal.SIGSTOP)
os.kill(child, signal.SIGKILL)
while open(f'/proc/{{child}}/statm').read().split()[0] != '0':
    time.sleep(0.01)
for number in range(20):
    k = open(f'k{{number}}', 'w'); k.write('whole'); k.close()
os._exit(0)
"""
    try:
        assert run_python(code, mounted.run / "r") == 0
        values = {path.name: path.read_text() for path in (mounted.run / "r").iterdir()}
        assert values == {f"k{number}": "whole" for number in range(20)}
    finally:
        os.kill(elsewhere.pid, signal.SIGCONT)


def test_an_editor_that_closed_is_not_undone_by_one_that_was_killed(pipeline: Path) -> None:
    """Those who edit in place share a copy: what one closed is published although another was killed."""
    (pipeline / "k").write_text("--------")
    code = f"""
a = os.open('k', os.O_RDWR)
if os.fork() == 0:
    b = os.open('k', os.O_RDWR)
    os.pwrite(b, b'closed', 0)
    os.close(b)
    os._exit(0)
os.wait()
{KILL}"""
    assert run_python(code, pipeline) == -9
    assert value(pipeline) == "closed--"


def test_an_fsync_that_fails_undoes_no_close(shared: MountedStore, pipeline: Path, one: Other, other: Other) -> None:
    """What one had closed is published, although another could not publish it, and was killed then."""
    (pipeline / "k").write_text("-" * 100_000)
    for process in (one, other):
        process("k = os.open(path, os.O_RDWR)", path=pipeline / "k")
    one("os.pwrite(k, b'closed', 0); os.close(k)")
    other("os.pwrite(k, b'half', 100_000)")
    shared.cli("pipeline", "set-max-bytes", pipeline.name, "100000", exit_code=0)
    with refused(errno.EDQUOT):
        other("os.fsync(k)")
    shared.cli("pipeline", "set-max-bytes", pipeline.name, "0", exit_code=0)
    other.process.kill()
    other.process.wait()
    assert value(pipeline).replace("-", "") == "closedhalf"


def test_no_space_is_lost(pipeline: Path) -> None:
    """What a killed writer left is deleted: a pipeline's limit and the names stay as they were."""
    for _ in range(3):
        run_python(f"{BIG}; {KILL}", pipeline)
    assert value(pipeline) == "none\n"
    assert os.listdir(pipeline) == []


@pytest.mark.parametrize("flags", ["os.O_WRONLY | os.O_CREAT", "os.O_WRONLY | os.O_CREAT | os.O_TRUNC"])
def test_a_close_on_exec(pipeline: Path, before: str, flags: str) -> None:
    """execve(2) closes what the new program is not to have, while much of /proc waits for it: that is a plain close."""
    code = f"k = os.open('k', {flags}); os.write(k, b'half'); os.execv('/bin/true', ['true'])"
    assert run_python(code, pipeline) == 0
    assert value(pipeline) == "half"
