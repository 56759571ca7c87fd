"""The file in which the plugin remembers its volumes."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import trio

from fusefs.dockerplugin.blocking import in_thread
from fusefs.dockerplugin.driver import Volumes
from fusefs.dockerplugin.errors import VolumeError
from fusefs.dockerplugin.options import Options
from fusefs.dockerplugin.state import StateFile, Volume, boot_id
from tests.dockerplugin.conftest import Directory

ROOT = Path(__file__).parents[2]
ONE = Volume(options=Options(kind="pipeline", scope="app"), created="2026-01-01T00:00:00Z", mounts=frozenset("ab"))
TWO = Volume(
    options=Options(kind="run", scope="7", read_only=True, uid=1, gid=2, mode=0o755, remove="objects"),
    created="2026-01-01T00:00:00Z",
)


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    return StateFile(str(tmp_path / "volumes.json"))


def save(file: StateFile, volumes: dict[str, Volume]) -> None:
    file.save(volumes, file.ticket())


def test_what_was_saved_is_loaded(file: StateFile) -> None:
    assert file.load() == {}
    save(file, {"one": ONE, "two": TWO})
    assert StateFile(file.path).load() == {"one": ONE, "two": TWO}


def test_only_its_owner_can_read_it(file: StateFile) -> None:
    mask = os.umask(0)
    try:
        save(file, {"one": ONE})
    finally:
        os.umask(mask)
    assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600


def test_it_is_replaced_and_never_written_to(file: StateFile) -> None:
    save(file, {"one": ONE})
    with open(file.path, "rb") as before:
        save(file, {"two": TWO})
        assert list(json.load(before)["volumes"]) == ["one"]
    assert list(file.load()) == ["two"]
    assert os.listdir(os.path.dirname(file.path)) == ["volumes.json"]


def test_it_is_on_the_disk_before_it_has_its_name_and_the_name_after(
    file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def renamed(source: str, target: str) -> None:
        assert b'"one"' in Path(source).read_bytes()
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    save(file, {"one": ONE})
    assert done == ["file", "rename", "directory"]


def test_a_kill_leaves_a_whole_file(file: StateFile) -> None:
    program = """
import sys
from fusefs.dockerplugin.options import Options
from fusefs.dockerplugin.state import StateFile, Volume
file = StateFile(sys.argv[1])
volume = Volume(options=Options(kind="pipeline", scope="app"), created="now", mounts=frozenset(["x" * 1000]))
for number in range(1, 1_000_000):
    file.save({f"v{i}": volume for i in range(number % 100 + 1)}, file.ticket())
    if number == 1:
        print("begun", flush=True)
"""
    for seconds in (0.02, 0.05, 0.08):
        with subprocess.Popen([sys.executable, "-c", program, file.path], cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
        assert file.load()


def test_what_cannot_be_written_leaves_the_old_file(file: StateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    save(file, {"one": ONE})

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VolumeError, match=r"volumes\.json cannot be written: No space left on device"):
        save(file, {"two": TWO})
    assert file.load() == {"one": ONE}
    assert os.listdir(os.path.dirname(file.path)) == ["volumes.json"]


@pytest.mark.parametrize("times", [1, 2])
def test_what_has_its_name_and_fails_then_is_taken_back(
    file: StateFile, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Also where the disk goes on failing: what was told to have failed is not remembered."""
    save(file, {"one": ONE})
    fsync, failures = os.fsync, [OSError(5, "Input/output error")] * times

    def failing(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode) and failures:
            raise failures.pop()
        fsync(fd)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(VolumeError, match=r"volumes\.json cannot be written: Input/output error"):
        save(file, {"two": TWO})
    assert failures == []
    assert StateFile(file.path).load() == {"one": ONE}
    save(file, {"two": TWO})
    assert StateFile(file.path).load() == {"two": TWO}


def test_one_that_was_given_up_does_not_undo_a_later_one(file: StateFile) -> None:
    early, late = file.ticket(), file.ticket()
    file.save({"two": TWO}, late)
    file.save({"one": ONE}, early)
    assert file.load() == {"two": TWO}


class HeldBack:
    """Has every fsync wait for `go_on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waits, self.go_on = threading.Event(), threading.Event()
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._wait)

    def _wait(self, fd: int) -> None:
        self.waits.set()
        assert self.go_on.wait(60)
        self._fsync(fd)


def test_one_that_was_given_up_leaves_nothing(file: StateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    save(file, {"one": ONE})
    ticket = file.ticket()
    with monkeypatch.context() as patched:
        held = HeldBack(patched)
        saving = threading.Thread(target=file.save, args=({"two": TWO}, ticket))
        saving.start()
        assert held.waits.wait(60)
        assert file.withdraw(ticket)
        held.go_on.set()
        saving.join(60)
    assert StateFile(file.path).load() == {"one": ONE}
    file.save({"two": TWO}, ticket)  # a thread that comes to its turn only now
    assert StateFile(file.path).load() == {"one": ONE}
    save(file, {"two": TWO})
    assert StateFile(file.path).load() == {"two": TWO}


def test_one_that_has_come_to_its_end_is_not_withdrawn(file: StateFile) -> None:
    ticket = file.ticket()
    file.save({"one": ONE}, ticket)
    assert not file.withdraw(ticket)
    assert StateFile(file.path).load() == {"one": ONE}


@pytest.mark.trio
@pytest.mark.parametrize("how", ["given up", "cancelled"])
async def test_a_mount_whose_writing_was_given_up_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Else the volume is in use for ever, once the plugin was started anew."""
    file = StateFile(str(tmp_path / "state"))
    volumes = Volumes(Directory(tmp_path), str(tmp_path / "views"), file)
    await volumes.create("v", {})
    before = StateFile(file.path).load()
    with monkeypatch.context() as patched:
        held = HeldBack(patched)
        if how == "given up":
            patched.setattr("fusefs.dockerplugin.driver.in_thread", partial(in_thread, seconds=0.5))
            with pytest.raises(VolumeError, match="was given up"):
                await volumes.mount("v", "1")
        else:
            with trio.move_on_after(0.5):
                await volumes.mount("v", "1")
        assert held.waits.is_set()
        held.go_on.set()
        await trio.to_thread.run_sync(file._saving.acquire)  # the thread has ended
        file._saving.release()
    assert StateFile(file.path).load() == before
    assert volumes.in_use() == []
    await volumes.mount("v", "1")
    assert StateFile(file.path).load()["v"].mounts == {"1"}


def test_who_had_it_mounted_is_forgotten_after_a_reboot(file: StateFile) -> None:
    save(file, {"one": ONE})
    content = json.loads(Path(file.path).read_text())
    assert content["boot"] == boot_id()
    Path(file.path).write_text(json.dumps({**content, "boot": "another"}))
    loaded = file.load()
    assert loaded["one"].mounts == frozenset()
    assert loaded["one"].options == ONE.options


def damaged(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("}", "", "damaged"),
        ('"version": 1', '"version": 2', "damaged .it has version 2, and this fusefs knows version 1"),
        ('"version": 1', '"versio": 1', "damaged"),
        ('"app"', '"../app"', "damaged .invalid pipeline name"),
        ('"one"', '"../one"', "damaged .invalid volume name"),
        ('"scope"', '"scop"', "damaged"),
        ('"created"', '"weight": 1, "created"', "damaged"),
        ('"app"', "7", "damaged"),
    ],
)
def test_a_damaged_file_is_one_error_and_is_left_alone(file: StateFile, old: str, new: str, message: str) -> None:
    save(file, {"one": ONE})
    path = Path(file.path)
    content = damaged(path.read_text(), old, new)
    path.write_text(content)
    with pytest.raises(VolumeError, match=message) as caught:
        file.load()
    assert "\n" not in str(caught.value)
    assert path.read_text() == content


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"null", b'{"version":1,"x":' + b"[" * 100_000, b'{"version":1}']
)
def test_a_file_of_something_else_is_damaged(file: StateFile, content: bytes) -> None:
    Path(file.path).write_bytes(content)
    with pytest.raises(VolumeError, match="damaged"):
        file.load()
    assert Path(file.path).read_bytes() == content


def test_a_file_that_cannot_be_read(file: StateFile) -> None:
    os.mkdir(file.path)
    with pytest.raises(VolumeError, match="cannot be read: Is a directory"):
        file.load()
