"""`fusefs mount` and `fusefs umount` for real: in the background, to the end, and everything that goes wrong."""

import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from fusefs.errors import MountError
from fusefs.mountinfo import mount_at
from fusefs.mountpoint import unmount
from fusefs.presence import present, server, wait_gone
from tests.support.mounting import kill_daemon
from tests.support.scratch import detach, make_directory, remove_directory
from tests.support.scratch import mount_at as fuse_mount_at
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

Process = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory to mount on, in one that the sweep of a later run knows as this run's."""
    scratch = make_directory()
    (scratch / "m").mkdir()
    yield scratch / "m"
    while (mount := fuse_mount_at(scratch / "m")) is not None:
        detach(mount)
    remove_directory(scratch)


@pytest.fixture
def mounted(process: Process, directory: Path) -> Path:
    """A mount in the background."""
    done = process("mount", str(directory))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return directory


def ended(pid: int) -> bool:
    """Whether the daemon has ended: it is a child of init, or of nobody who waits for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def daemon_of(mountpoint: Path) -> int:
    pid = server(str(mountpoint))
    assert pid
    return pid


def test_it_answers_when_the_command_returns(mounted: Path, process: Process) -> None:
    assert sorted(os.listdir(mounted)) == ["pipeline", "run"]
    (mounted / "pipeline/p").mkdir()
    (mounted / "pipeline/p/k").write_bytes(b"v")
    assert process("pipeline", "object", "get", "p", "k").stdout == b"v"
    process("pipeline", "object", "put", "p", "l=w")
    wait_until(lambda: (mounted / "pipeline/p/l").exists(), 1)
    assert process("umount", str(mounted)).returncode == 0
    assert os.listdir(mounted) == []


def test_the_kernels_table_names_the_store(mounted: Path, tmp_path: Path) -> None:
    mount = mount_at(os.fsencode(mounted))
    assert mount is not None
    assert mount.ours
    assert (mount.source, mount.uid) == (os.fsencode(tmp_path / "objects.db"), os.geteuid())


def test_files_of_a_mount_are_private(mounted: Path, tmp_path: Path) -> None:
    for path in tmp_path.glob("objects.db*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert (tmp_path / "objects.db.log").exists()


def test_umount_waits_for_the_daemon_and_for_what_it_commits(mounted: Path, process: Process) -> None:
    (mounted / "run/1").mkdir()
    for number in range(50):
        (mounted / f"run/1/k{number}").write_bytes(os.urandom(100_000))
    pid = daemon_of(mounted)
    done = process("umount", str(mounted))
    assert (done.returncode, done.stderr) == (0, b"")
    assert server(str(mounted)) is None
    wait_until(lambda: ended(pid), 2)
    assert len(process("run", "object", "list", "1").stdout.split()) == 50


def test_umount_of_a_busy_mount_says_who_uses_it(mounted: Path, process: Process) -> None:
    (mounted / "run/1").mkdir()
    with (mounted / "run/1/k").open("wb"):
        done = process("umount", str(mounted))
    assert done.returncode == 1
    assert f"is busy: used by {Path('/proc/self/comm').read_text().strip()} ({os.getpid()})" in done.stderr.decode()
    assert process("umount", str(mounted)).returncode == 0


def test_mounting_twice(mounted: Path, process: Process, tmp_path: Path) -> None:
    done = process("mount", str(mounted))
    assert done.returncode == 1
    assert done.stderr.decode() == f"fusefs: {mounted} is already mounted: {tmp_path}/objects.db\n"
    assert sorted(os.listdir(mounted)) == ["pipeline", "run"]


def test_mounting_over_a_dead_mount_just_works(mounted: Path, process: Process) -> None:
    (mounted / "run/1").mkdir()
    (mounted / "run/1/k").write_bytes(b"v")
    kill_daemon(daemon_of(mounted))
    with pytest.raises(OSError, match="not connected"):
        os.listdir(mounted)
    done = process("mount", str(mounted))
    assert (done.returncode, done.stderr) == (0, b"")
    assert (mounted / "run/1/k").read_bytes() == b"v"
    assert process("umount", str(mounted)).returncode == 0
    assert mount_at(os.fsencode(mounted)) is None


def test_a_dead_mount_can_be_unmounted(mounted: Path, process: Process) -> None:
    pid = daemon_of(mounted)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: ended(pid))
    assert process("umount", str(mounted)).returncode == 0
    assert os.listdir(mounted) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_foreground_ends_cleanly_at_a_signal(
    directory: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    import sys

    command = [sys.executable, "-m", "fusefs", "mount", "--foreground", str(directory)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as daemon:
        wait_until(lambda: mount_at(os.fsencode(directory)) is not None)
        (directory / "run/1").mkdir()
        daemon.send_signal(number)
        _, said = daemon.communicate(timeout=30)
    assert daemon.returncode == 0
    assert b"Traceback" not in said
    assert mount_at(os.fsencode(directory)) is None


@pytest.mark.parametrize("flags", [["--read-only"], ["-o", "ro,noatime"]])
def test_read_only(directory: Path, process: Process, flags: list[str]) -> None:
    process("pipeline", "create", "p")
    assert process("mount", *flags, str(directory)).returncode == 0
    with pytest.raises(OSError, match="Read-only"):
        (directory / "pipeline/p/k").write_bytes(b"v")
    assert process("umount", str(directory)).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="others than root need user_allow_other")
@pytest.mark.parametrize("flags", [["--allow-other"], ["-o", "allow_other"]])
def test_allow_other(directory: Path, process: Process, flags: list[str]) -> None:
    assert process("mount", *flags, str(directory)).returncode == 0
    mount = mount_at(os.fsencode(directory))
    assert mount is not None
    assert "allow_other" in mount.options
    assert "default_permissions" in mount.options
    assert process("umount", str(directory)).returncode == 0


def test_settings_by_flag_and_option(directory: Path, process: Process, tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = f"run_object_expiry=1,log_level=debug,log_file={log}"
    done = process("mount", "--pipeline-object-limit", "2", "-o", options, str(directory))
    assert (done.returncode, done.stderr) == (0, b"")
    (directory / "pipeline/p").mkdir()
    for key in "abc":
        (directory / "pipeline/p" / key).touch()
    assert sorted(os.listdir(directory / "pipeline/p")) == ["b", "c"]
    assert process("umount", str(directory)).returncode == 0
    assert log.exists()


def test_a_relative_store_and_mountpoint(directory: Path, process: Process) -> None:
    done = process("mount", "--store", "here.db", "m", cwd=directory.parent)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (directory.parent / "here.db").exists()
    assert process("umount", "m", cwd=directory.parent).returncode == 0


def test_a_mountpoint_with_odd_characters(directory: Path, process: Process) -> None:
    odd = os.fsencode(directory.parent) + b"/a b,c\\d"
    os.mkdir(odd)
    assert process("mount", odd).returncode == 0
    assert sorted(os.listdir(odd)) == [b"pipeline", b"run"]
    assert process("umount", odd).returncode == 0
    assert os.listdir(odd) == []


# What goes wrong is told by the command that started the daemon


def refused(process: Process, *arguments: str, code: int = 1) -> str:
    done = process("mount", *arguments)
    assert (done.returncode, done.stdout) == (code, b"")
    said = done.stderr.decode()
    assert said.startswith("fusefs: ")
    assert said.count("\n") == 1, said
    return said


def test_a_file_that_is_no_store(directory: Path, process: Process, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no store at all" * 1000)
    refused(process, "--store", str(tmp_path / "text"), str(directory))
    assert (tmp_path / "text").read_text() == "no store at all" * 1000
    assert mount_at(os.fsencode(directory)) is None


def test_a_directory_is_no_store(directory: Path, process: Process, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    refused(process, "--store", str(tmp_path / "directory"), str(directory))


def test_wrong_settings(directory: Path, process: Process) -> None:
    assert "--max-object-size" in refused(process, "--max-object-size", "huge", str(directory), code=2)
    assert "-o run_object_expiry" in refused(process, "-o", "run_object_expiry=x", str(directory), code=2)
    assert "noexec" in refused(process, "-o", "noexec", str(directory), code=2)


def test_wrong_mountpoints(directory: Path, process: Process, tmp_path: Path) -> None:
    assert "does not exist" in refused(process, str(directory / "missing"))
    assert "is not empty" in refused(process, str(directory.parent))
    assert "lies inside" in refused(process, "--store", str(directory / "x.db"), str(directory))
    assert not (tmp_path / "objects.db").exists()


def test_a_log_that_cannot_be_written(directory: Path, process: Process, tmp_path: Path) -> None:
    said = refused(process, "--log-file", str(tmp_path / "no/log"), str(directory))
    assert "cannot write the log" in said


def test_no_process_is_left_after_a_refusal(directory: Path, process: Process, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no store at all" * 1000)
    refused(process, "--store", str(tmp_path / "text"), str(directory))
    wait_until(lambda: server(str(directory)) is None, 2)


def test_umount_of_what_is_not_mounted(directory: Path, process: Process) -> None:
    done = process("umount", str(directory))
    assert (done.returncode, done.stderr.decode()) == (1, f"fusefs: {directory} is not mounted\n")


def test_umount_does_not_wait_for_ever(mounted: Path) -> None:
    pid = daemon_of(mounted)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(MountError, match=f"is unmounted, but process {pid} .* has not ended within 0.1 seconds"):
            unmount(str(mounted), 0.1)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert wait_gone(str(mounted), 20)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a namespace of its own")
def test_a_mount_that_another_namespace_has_still(mounted: Path, process: Process) -> None:
    """As each service with a namespace of its own has that was started while it was mounted: whoever asks is told."""
    pid = daemon_of(mounted)
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", "echo; exec cat"], stdin=PIPE, stdout=PIPE) as service:
        assert service.stdin is not None
        assert service.stdout is not None
        assert service.stdout.readline() == b"\n"
        with pytest.raises(
            MountError, match=f"process {pid} .* has not ended .*: .*another mount namespace may have it"
        ):
            unmount(str(mounted), 0.5)
        with (
            pytest.raises(MountError, match=f"by process {pid} .*another mount namespace may"),
            present(str(mounted), 0),
        ):
            pass
        os.kill(pid, 0)
        service.stdin.close()
    assert wait_gone(str(mounted), 20)
