"""The standard streams of the command where they are closed, full, or read by nobody."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusefs.presence import server
from tests.cli.conftest import Fusefs
from tests.support.mounting import FUSEFS
from tests.support.scratch import detach, make_directory, mount_at, remove_directory
from tests.support.waiting import wait_until

Process = Callable[..., subprocess.CompletedProcess[bytes]]


def close(*fds: int) -> Callable[[], None]:
    """What closes these in a process that is to become the command."""
    return lambda: [os.close(fd) for fd in fds] and None


@pytest.fixture
def app(fusefs: Fusefs) -> None:
    """A pipeline that keeps one object."""
    fusefs("pipeline", "create", "app", "--limit", "1").ok()


def test_an_error_does_not_go_where_the_object_should(app: None, process: Process) -> None:
    ended = process("pipeline", "object", "get", "app", "none", preexec_fn=close(2))
    assert (ended.returncode, ended.stdout) == (3, b"")


def test_nothing_is_put_from_a_closed_standard_input(app: None, process: Process) -> None:
    ended = process("pipeline", "object", "put", "app", "k", "-", preexec_fn=close(0))
    assert (ended.returncode, ended.stderr) == (1, b"fusefs: standard input is closed\n")


@pytest.mark.parametrize("fds", [(0,), (1,), (2,), (0, 1, 2)])
def test_no_file_takes_the_place_of_a_closed_one(
    environment: dict[str, str], tmp_path: Path, fds: tuple[int, ...]
) -> None:
    code = (
        "import os; from fusefs.cli import main\n"
        "fds = [f'/proc/self/fd/{fd}' for fd in (0, 1, 2)]\n"
        "try: main()\n"
        f"finally: open({str(tmp_path / 'links')!r}, 'w').write(' '.join(map(os.readlink, fds)))"
    )
    command = [sys.executable, "-c", code, "--help"]
    subprocess.run(command, env=environment, preexec_fn=close(*fds), check=True, capture_output=True, timeout=60)
    links = (tmp_path / "links").read_text().split()
    assert all(links[fd] == "/dev/null" for fd in fds), links


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def unread() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("stderr", [full, unread])
def test_what_cannot_be_told_changes_no_exit_code(app: None, process: Process, stderr: Callable[[], int]) -> None:
    fd = stderr()
    try:
        how = {"capture_output": False, "stdout": subprocess.PIPE, "stderr": fd}
        assert process("pipeline", "object", "get", "app", "none", **how).returncode == 3
        assert process("pipeline", "object", "nonsense", **how).returncode == 2
        assert process("pipeline", **how).returncode == 2
        assert process("pipeline", "object", "put", "app", "a=1", **how).returncode == 0
        assert process("pipeline", "object", "put", "app", "b=1", **how).returncode == 0
    finally:
        os.close(fd)
    assert process("pipeline", "object", "list", "app").stdout == b"b\n"


# Mounts


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory to mount on."""
    scratch = make_directory()
    (scratch / "m").mkdir()
    yield scratch / "m"
    while (mount := mount_at(scratch / "m")) is not None:
        detach(mount)
    remove_directory(scratch)


@pytest.mark.mount
@pytest.mark.parametrize("fds", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_mount_in_the_background(process: Process, directory: Path, fds: tuple[int, ...]) -> None:
    ended = process("mount", str(directory), preexec_fn=close(*fds))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert sorted(os.listdir(directory)) == ["pipeline", "run"]
    assert process("umount", str(directory), preexec_fn=close(*fds)).returncode == 0


@pytest.mark.mount
def test_a_mount_in_the_foreground(environment: dict[str, str], directory: Path) -> None:
    command = [*FUSEFS, "mount", "--foreground", str(directory)]
    with subprocess.Popen(command, env=environment, preexec_fn=close(0, 1, 2)) as daemon:
        try:
            wait_until(lambda: daemon.poll() is not None or bool(server(str(directory)) and mount_at(directory)))
            assert sorted(os.listdir(directory)) == ["pipeline", "run"]
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(30) == 0
        finally:
            daemon.kill()
    assert mount_at(directory) is None
