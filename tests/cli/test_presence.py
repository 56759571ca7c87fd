"""One process serves a mountpoint, others can tell and wait, and a dead one counts for nothing."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from fusefs import presence
from fusefs.errors import MountError
from fusefs.presence import present, server, wait_gone


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files are, for these tests."""
    monkeypatch.setattr(presence, "_directories", lambda uid: [str(tmp_path / f"of-{uid}"), str(tmp_path / "old")])
    return tmp_path / f"of-{os.geteuid()}"


@pytest.fixture
def other(tmp_path: Path, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that serves /m."""
    code = (
        "import sys, time; from fusefs import presence\n"
        f"presence._directories = lambda uid: [{str(directory)!r}]\n"
        "with presence.present('/m'): print('here', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        yield process
        process.kill()


def test_nobody_is_there() -> None:
    assert server("/m") is None
    assert wait_gone("/m", 0)


def test_while_somebody_is_there(directory: Path) -> None:
    with present("/m"):
        assert server("/m") == os.getpid()
        assert server("/other") is None
        assert not wait_gone("/m", 0.05)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert server("/m") is None
    assert list(directory.iterdir()) == []


def test_the_place_is_free_again_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), present("/m"):
        raise ZeroDivisionError
    with present("/m", 0):
        pass


def test_one_mountpoint_by_all_its_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with present(str(tmp_path / "real")):
        assert server(str(tmp_path / "link")) == os.getpid()


def test_a_second_one_is_refused_and_told_who_is_there(other: subprocess.Popen[bytes]) -> None:
    with pytest.raises(MountError, match=f"^/m is {served_by(other.pid)}$"), present("/m", 0.05):
        pass
    assert server("/m") == other.pid


def test_a_second_one_waits_for_the_first(other: subprocess.Popen[bytes]) -> None:
    assert other.stdin is not None
    release = Thread(target=lambda: (time.sleep(0.1), other.stdin.close()))  # type: ignore[union-attr]
    release.start()
    with present("/m", 20):
        assert server("/m") == os.getpid()
    release.join()


def served_by(pid: int) -> str:
    """What is said of one that is not mounted, or not where we are."""
    return f"already served by process {pid} and not mounted here, but {presence.ELSEWHERE}"


def test_waiting_for_the_end(other: subprocess.Popen[bytes]) -> None:
    assert other.stdin is not None
    assert not wait_gone("/m", 0.05)
    other.stdin.close()
    assert wait_gone("/m", 20)


def test_a_killed_process_holds_nothing(other: subprocess.Popen[bytes], directory: Path) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert len(list(directory.iterdir())) == 1
    assert server("/m") is None
    with present("/m", 0):
        assert server("/m") == os.getpid()


def place_of(mountpoint: str, directory: Path) -> Path:
    return directory / f"mount-{presence._digest(mountpoint)}"


def test_places_of_the_dead_are_cleared(other: subprocess.Popen[bytes], directory: Path) -> None:
    """Those that a process had to mount on for a moment: its own of before, and others'. One that lives keeps its."""
    for mountpoint in ("/m", "/gone", "/own"):
        assert presence.make_place(mountpoint) == str(place_of(mountpoint, directory))
    with present("/own"):
        assert place_of("/m", directory).is_dir()
        assert not place_of("/gone", directory).exists()
        assert not place_of("/own", directory).exists()
        presence.make_place("/own")
        with pytest.raises(MountError, match="File exists"):
            presence.make_place("/own")
    other.kill()
    other.wait()
    with present("/another"):
        assert [name for name in os.listdir(directory) if name.startswith("mount-")] == []


def test_nothing_but_places_is_cleared(directory: Path, tmp_path: Path) -> None:
    """No symlink is followed, and what is in a directory stays."""
    (tmp_path / "precious").mkdir()
    presence._make_directory(str(directory))
    place_of("/link", directory).symlink_to(tmp_path / "precious")
    place_of("/full", directory).mkdir()
    (place_of("/full", directory) / "k").touch()
    (directory / "mount-1").mkdir()
    before = sorted(os.listdir(directory))
    with present("/m"):
        pass
    assert sorted(os.listdir(directory)) == before
    assert (tmp_path / "precious").is_dir()


def test_many_take_turns(tmp_path: Path, directory: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    code = (
        "import pathlib, time; from fusefs import presence\n"
        f"presence._directories = lambda uid: [{str(directory)!r}]\n"
        f"counter = pathlib.Path({str(counter)!r})\n"
        "for _ in range(20):\n"
        "    with presence.present('/m', 60):\n"
        "        value = int(counter.read_text()); time.sleep(0.001); counter.write_text(str(value + 1))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert counter.read_text() == "80"


def test_a_directory_of_somebody_else_is_not_trusted(directory: Path) -> None:
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    with pytest.raises(MountError, match="remove it"), present("/m"):
        pass


def test_one_that_came_before_the_directory(
    other: subprocess.Popen[bytes], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mounted before its user logged in, when the directory of the session was not there yet."""
    monkeypatch.setattr(presence, "_directories", lambda uid: [str(directory.with_name("session")), str(directory)])
    assert server("/m") == other.pid
    assert not wait_gone("/m", 0.05)
    with pytest.raises(MountError, match=f"^/m is {served_by(other.pid)}$"), present("/m", 0.05):
        pass
    other.kill()
    assert wait_gone("/m", 20)


def test_where_the_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert presence._directories(0) == ["/run/fusefs"]
    assert presence._directories(4_000_000) == ["/tmp/fusefs-4000000"]
    monkeypatch.setattr(presence.os.path, "isdir", lambda path: path == "/run/user/4000000")
    assert presence._directories(4_000_000) == ["/run/user/4000000/fusefs", "/tmp/fusefs-4000000"]
