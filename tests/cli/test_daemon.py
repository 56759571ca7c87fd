"""A daemon tells its starter when it is ready or why it never will be, and keeps nothing that it inherited."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]

PROGRAM = """
import fcntl, json, os, sys, time
import fusefs.daemon
from engine.errors import NotFoundError, OpenError
from fusefs.errors import MountError

def report():
    fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
    umask = os.umask(0o077)
    facts = {"pid": os.getpid(), "leader": os.getsid(0) == os.getpid(), "cwd": os.getcwd(), "umask": umask,
             "links": [os.readlink(f"/proc/self/fd/{fd}") for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")]}
    with open(OUT + ".new", "w") as file:
        json.dump(facts, file)
    os.rename(OUT + ".new", OUT)

def serve(ready):
    BODY

OUT, LOG = sys.argv[1:3]
inherited = open(OUT + ".lock", "w")
os.set_inheritable(inherited.fileno(), True)
fcntl.flock(inherited, fcntl.LOCK_EX)
try:
    warning = fusefs.daemon.run_in_background(serve, level="info", log_file=LOG, log_required=REQUIRED, seconds=SECONDS)
    print("ready", warning)
except Exception as error:
    print(type(error).__name__, error)
"""


def start(
    tmp_path: Path, body: str, *, log: str = "daemon.log", required: bool = True, seconds: float = 30
) -> tuple[str, Path]:
    """Run a starter whose daemon runs `body`; returns what the starter says, and the path of the daemon's report."""
    command, out = starter(tmp_path, body, log, required, seconds)
    # Reading its output to the end also proves that the daemon does not hold the pipe.
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True, text=True)
    assert done.stderr == ""
    return done.stdout.strip(), out


def starter(tmp_path: Path, body: str, log: str, required: bool, seconds: float) -> tuple[list[str], Path]:
    program = PROGRAM.replace("BODY", body).replace("REQUIRED", str(required)).replace("SECONDS", str(seconds))
    out = tmp_path / "out"
    return [sys.executable, "-c", program, str(out), str(tmp_path / log)], out


def wait_for(path: Path) -> dict[str, Any]:
    import json

    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


def test_ready(tmp_path: Path) -> None:
    said, out = start(tmp_path, "ready(); time.sleep(0.2); report()")
    assert said == "ready"
    facts = wait_for(out)
    assert facts["cwd"] == "/"
    assert facts["umask"] == 0o077
    assert not facts["leader"]


def test_nothing_is_inherited(tmp_path: Path) -> None:
    _, out = start(tmp_path, "ready(); report()")
    links = wait_for(out)["links"]
    assert set(links) == {"/dev/null", str(tmp_path / "daemon.log")}


def test_the_log_is_private_and_gets_stderr_too(tmp_path: Path) -> None:
    body = "import logging; logging.getLogger('x').info('hello'); os.write(2, b'raw\\n'); ready(); report()"
    _, out = start(tmp_path, body)
    wait_for(out)
    log = tmp_path / "daemon.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert "INFO x: hello" in log.read_text()
    assert "raw\n" in log.read_text()


def test_a_log_that_is_rotated_is_made_anew(tmp_path: Path) -> None:
    body = "import logging; os.rename(LOG, LOG + '.1'); logging.getLogger('x').info('hello'); ready(); report()"
    _, out = start(tmp_path, body)
    wait_for(out)
    assert "hello" in (tmp_path / "daemon.log").read_text()
    assert stat.S_IMODE((tmp_path / "daemon.log").stat().st_mode) == 0o600


def test_stderr_goes_to_the_new_log_too_and_the_old_one_is_let_go(tmp_path: Path) -> None:
    body = "import logging; os.rename(LOG, LOG + '.1'); logging.getLogger('x').info('hello'); os.write(2, b'raw\\n');"
    _, out = start(tmp_path, f"{body} ready(); report()")
    links = wait_for(out)["links"]
    assert "raw\n" in (tmp_path / "daemon.log").read_text()
    assert set(links) == {"/dev/null", str(tmp_path / "daemon.log")}


@pytest.mark.parametrize("error", ["OpenError", "NotFoundError", "MountError"])
def test_an_error_of_ours_arrives_as_it_was(tmp_path: Path, error: str) -> None:
    said, _ = start(tmp_path, f"raise {error}('no store: ü \\\\udcff')")
    assert said.startswith(f"{error} no store: ü")
    assert "no store" in (tmp_path / "daemon.log").read_text()
    assert "Traceback" not in (tmp_path / "daemon.log").read_text()


def test_any_other_error_is_a_mount_error_with_a_traceback_in_the_log(tmp_path: Path) -> None:
    said, _ = start(tmp_path, "1 / 0")
    assert said == "MountError ZeroDivisionError: division by zero"
    assert "Traceback" in (tmp_path / "daemon.log").read_text()


def test_a_daemon_that_dies(tmp_path: Path) -> None:
    said, _ = start(tmp_path, "os.kill(os.getpid(), 9)")
    assert said == f"MountError the daemon ended before the mount was ready: see {tmp_path}/daemon.log"


def test_a_daemon_that_ends_without_a_word(tmp_path: Path) -> None:
    said, _ = start(tmp_path, "return")
    assert said == "MountError it ended before the mount was ready"


def test_a_daemon_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    begun = time.monotonic()
    said, out = start(tmp_path, "report(); time.sleep(60)", seconds=1.0)
    assert time.monotonic() - begun < 20
    assert said.startswith("MountError the mount was not ready in time")
    pid = wait_for(out)["pid"]
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_a_starter_that_is_interrupted_gives_the_daemon_up(tmp_path: Path) -> None:
    """Else there is a mount a moment after the command has said that there is none."""
    command, out = starter(tmp_path, "report(); time.sleep(60)", "daemon.log", True, 30)
    # A shell without job control has those in the background ignore it.
    command = ["env", "--default-signal=INT", *command]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        pid = wait_for(out)["pid"]
        # Once it sleeps, it has heard who the daemon is.
        wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].startswith("S"))
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=30)[1]
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


INTERRUPTED_EARLY = """
import signal
wait = os.waitpid
def interrupted(*arguments):
    signal.raise_signal(signal.SIGINT)
    return wait(*arguments)
os.waitpid = interrupted
"""


def test_a_starter_that_is_interrupted_before_it_has_heard_of_the_daemon(tmp_path: Path) -> None:
    command, out = starter(tmp_path, "report(); time.sleep(60)", "daemon.log", True, 30)
    command[2] = command[2].replace("OUT, LOG =", f"{INTERRUPTED_EARLY}\nOUT, LOG =")
    command = ["env", "--default-signal=INT", *command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False, text=True)
    assert "KeyboardInterrupt" in done.stderr
    # It may not even have got as far as its report.
    assert not out.exists() or not os.path.exists(f"/proc/{wait_for(out)['pid']}")


def test_a_starter_that_is_interrupted_once_there_is_a_mount_does_not_say_that_there_is_none(tmp_path: Path) -> None:
    command, _ = starter(tmp_path, "ready()", "daemon.log", True, 30)
    command[2] = command[2].replace('print("ready", warning)', "os.kill(os.getpid(), 2); print('ready')")
    command[2] += "\nimport atexit; atexit.register(os.kill, os.getpid(), 2)"
    command = ["env", "--default-signal=INT", *command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n", "")


def test_a_daemon_whose_starter_was_killed_gives_itself_up(tmp_path: Path) -> None:
    body = (
        "report(); [time.sleep(0.01) for _ in iter(lambda: os.path.exists(OUT + '.go'), True)]; ready(); time.sleep(60)"
    )
    command, out = starter(tmp_path, body, "daemon.log", True, 30)
    with subprocess.Popen(command, cwd=ROOT) as process:
        pid = wait_for(out)["pid"]
        process.kill()
    out.with_suffix(".go").touch()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said, _ = start(tmp_path, "ready()", log="file/daemon.log")
    assert said == f"MountError cannot write the log {tmp_path}/file/daemon.log: Not a directory"
    said, _ = start(tmp_path, "ready()", log="file/daemon.log", required=False)
    assert said.startswith(f"ready there is no log: cannot write {tmp_path}/file/daemon.log: ")
    said, _ = start(tmp_path, "ready()", log="file/\udc80", required=False)
    assert said.startswith(f"ready there is no log: cannot write {tmp_path}/file/\\x80: ")


def test_the_directory_of_the_usual_log_is_made(tmp_path: Path) -> None:
    assert start(tmp_path, "ready()", log="a/b/daemon.log", required=False)[0] == "ready"
    assert (tmp_path / "a/b/daemon.log").exists()
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700


def test_an_error_after_it_was_ready_is_in_the_log(tmp_path: Path) -> None:
    said, _ = start(tmp_path, "ready(); raise OpenError('later')")
    assert said == "ready"
    deadline = time.monotonic() + 10
    while "later" not in (log := (tmp_path / "daemon.log").read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "Traceback" in log


def test_no_zombie_is_left_with_the_starter(tmp_path: Path) -> None:
    code = (
        "import os; from fusefs.daemon import run_in_background\n"
        "run_in_background(lambda ready: ready(), level='info', log_file=os.devnull, log_required=True)\n"
        "try: os.waitpid(-1, os.WNOHANG)\n"
        "except ChildProcessError: print('none')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=True, text=True
    )
    assert done.stdout == "none\n"
