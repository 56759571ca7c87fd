"""The log: one record stays one line whatever is in it, and goes to no file that somebody else put in its place."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import open_store
from engine.config import ObjectStoreSettings
from tests.cli.test_daemon import start, wait_for
from tests.conftest import MakeMount
from tests.support.waiting import wait_until

FORGED = "2026-01-01 00:00:00,000 INFO fusefs.session: stopped serving"
HOSTILE = f"a\n{FORGED}\x1b[2J\r".encode() + b"\xff\x9b"
RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ \S+: ")


def test_names_of_objects(make_mount: MakeMount) -> None:
    """What was evicted is told of with its name, which its writer has chosen."""
    store = make_mount(pipeline_object_limit=1)
    app = store.pipeline / "app"
    app.mkdir()
    (app / os.fsdecode(HOSTILE)).touch()
    (app / "next").touch()
    wait_until(lambda: "evicted" in store.log())
    (line,) = [line for line in store.log().split("\n") if "evicted" in line]
    assert RECORD.match(line)
    assert line.endswith(rf"evicted pipeline/app/a\x0a{FORGED}\x1b[2J\x0d\xff\x9b")
    evicted = os.getxattr(app, "fusefs.evicted")
    assert evicted == HOSTILE.replace(b"\n", rb"\n") + b"\n"


def test_names_in_deep_directories(make_mount: MakeMount, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path has no limit: its first 4 KiB are told, of which each byte may become four."""
    store = make_mount(pipeline_object_limit=1)
    app = store.pipeline / "app"
    app.mkdir()
    monkeypatch.chdir(app)
    for _ in range(20):
        os.mkdir("\x01" * 250)
        os.chdir("\x01" * 250)
    Path("k").touch()
    (app / "next").touch()
    wait_until(lambda: "evicted" in store.log())
    (line,) = [line for line in store.log().split("\n") if "evicted" in line]
    assert line.endswith("\\x01...")
    assert 4 * 4000 < len(line) < 4 * 4200


BODY = rf"""
import logging
text = {HOSTILE.decode("utf-8", "surrogateescape")!r}
log = logging.getLogger("x")
log.error("said %s", text)
try:
    raise ValueError(text)
except ValueError:
    log.exception("failed")
ready()
report()
"""


@pytest.mark.parametrize("foreground", [False, True])
def test_any_message_and_traceback(tmp_path: Path, foreground: bool) -> None:
    if foreground:
        text = in_the_foreground(tmp_path)
    else:
        _, out = start(tmp_path, BODY.strip().replace("\n", "\n    "))
        wait_for(out)
        text = (tmp_path / "daemon.log").read_text()
    lines = text.removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines), text
    assert [line for line in lines if line.startswith(FORGED)] == []
    assert len([line for line in lines if RECORD.match(line)]) == 2, text
    assert "  Traceback (most recent call last):" in lines


def in_the_foreground(tmp_path: Path) -> str:
    import subprocess
    import sys

    body = BODY.replace("ready()\nreport()", "").strip().replace("\n", "\n    ")
    program = f"from fusefs import daemon\ndef serve(ready):\n    {body}\ndaemon.run_in_foreground(serve, 'info')"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    return done.stderr.decode()


# The file


def a_symlink(log: Path) -> Path:
    victim = log.with_name("victim")
    victim.write_text("precious")
    log.symlink_to(victim)
    return victim


def a_symlink_to_nothing(log: Path) -> Path:
    log.symlink_to(log.with_name("victim"))
    return log.with_name("victim")


def a_fifo(log: Path) -> Path:
    os.mkfifo(log)
    return log


def a_file_of_somebody_else(log: Path) -> Path:
    log.touch()
    os.chown(log, 1001, 1001)
    return log


@pytest.mark.parametrize("put", [a_symlink, a_symlink_to_nothing, a_fifo, a_file_of_somebody_else])
def test_what_somebody_put_in_the_place_of_the_usual_log(tmp_path: Path, put: Callable[[Path], Path]) -> None:
    """The mount goes on without a log, says so, and writes nothing there."""
    victim = put(tmp_path / "daemon.log")
    before = victim.read_bytes() if victim.is_file() else None
    body = "import logging; logging.getLogger('x').error('told'); ready(); report()"
    said, out = start(tmp_path, body, required=False)
    wait_for(out)
    assert said.startswith(f"ready there is no log: cannot write {tmp_path / 'daemon.log'}: ")
    assert (victim.read_bytes() if victim.is_file() else None) == before


def test_a_log_that_was_asked_for_may_be_a_symlink(tmp_path: Path) -> None:
    """/dev/stderr is one, and so is what many administrators have in /var/log."""
    victim = a_symlink(tmp_path / "daemon.log")
    _, out = start(tmp_path, "import logging; logging.getLogger('x').error('told'); ready(); report()")
    wait_for(out)
    assert "told" in victim.read_text()


@pytest.mark.parametrize("required", [False, True])
def test_a_store_in_the_place_of_the_log(tmp_path: Path, required: bool) -> None:
    """The usual log of the store `daemon` is `daemon.log`, which may be a store as well and would be damaged."""
    other = tmp_path / "daemon.log"
    with open_store(ObjectStoreSettings(path=str(other)), create=True):
        pass
    before = other.read_bytes()
    body = "import logging; logging.getLogger('x').error('told'); ready(); report()"
    said, _ = start(tmp_path, body, required=required)
    if required:
        assert said == f"MountError cannot write the log {other}: it is a database"
    else:
        assert said == f"ready there is no log: cannot write {other}: it is a database"
    assert other.read_bytes() == before


def test_a_symlink_that_takes_the_place_of_a_log_in_use(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    body = f"import logging; os.rename(LOG, LOG + '.1'); os.symlink({str(victim)!r}, LOG);"
    body += "logging.getLogger('x').error('told'); ready(); report()"
    _, out = start(tmp_path, body, required=False)
    wait_for(out)
    assert victim.read_text() == "precious"


def test_a_log_that_cannot_be_opened_again_fails_nobody(tmp_path: Path) -> None:
    """Its directory is gone for a while: what is to be logged meanwhile is lost, and nothing else."""
    (tmp_path / "logs").mkdir()
    body = """
import logging
log = logging.getLogger("x")
directory = os.path.dirname(LOG)
os.rename(directory, directory + ".away")
log.error("lost")
log.error("lost")
os.mkdir(directory, 0o700)
log.error("told")
ready()
report()
"""
    said, out = start(tmp_path, body.strip().replace("\n", "\n    "), log="logs/daemon.log")
    wait_for(out)
    assert said == "ready"
    log = tmp_path / "logs" / "daemon.log"
    assert log.read_text().endswith("ERROR x: told\n")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
