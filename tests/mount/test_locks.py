"""Locks: among the processes of one mount that write a key, and among those that read it."""

import os
from pathlib import Path

import pytest

from tests.support.processes import Other, end, sh, start_python

pytestmark = pytest.mark.mount

_COUNT_UNDER_A_LOCK = """
for i in $(seq 15); do
    exec 9{}lock; flock 9
    n=$(cat "$counter"); echo $((n + 1)) > "$counter"
    exec 9>&-
done
"""


@pytest.mark.parametrize("redirection", [">", ">>", "<>"])
@pytest.mark.parametrize("existing", [False, True])
def test_flock_of_a_shell(pipeline: Path, tmp_path: Path, redirection: str, existing: bool) -> None:
    """Locks hold among all processes of one mount that open a key for writing (`exec 9>lock; flock 9`)."""
    (tmp_path / "counter").write_text("0\n")
    if existing:
        (pipeline / "lock").touch()
    one = _COUNT_UNDER_A_LOCK.replace("{}", redirection)
    sh(f"for j in 1 2 3 4; do ({one}) & done; wait", pipeline, counter=tmp_path / "counter")
    assert (tmp_path / "counter").read_text() == "60\n"


def test_flock_of_a_command(pipeline: Path, tmp_path: Path) -> None:
    """And among those that open it for reading (`flock lock cmd`), from the creation of the lock on."""
    (tmp_path / "counter").write_text("0\n")
    (tmp_path / "count").write_text('n=$(cat "$counter"); echo $((n + 1)) > "$counter"')
    sh(
        'for j in 1 2 3 4; do (for i in $(seq 10); do flock lock sh "$count"; done) & done; wait',
        pipeline,
        counter=tmp_path / "counter",
        count=tmp_path / "count",
    )
    assert (tmp_path / "counter").read_text() == "40\n"


@pytest.mark.parametrize("lock", ["fcntl.lockf", "fcntl.flock"])
def test_a_lock_keeps_others_out(pipeline: Path, lock: str) -> None:
    """Locks (flock, fcntl) hold between processes, and end with the one that holds them."""
    with Other() as one, Other() as two:
        for process in (one, two):
            process("fd = os.open(path, os.O_RDWR | os.O_CREAT)", path=pipeline / "k")
        one(f"{lock}(fd, fcntl.LOCK_EX)")
        with pytest.raises(BlockingIOError):
            two(f"{lock}(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)")
        two.begin(f"{lock}(fd, fcntl.LOCK_EX)")
        assert not two.answered(0.2)
        one.stop()
        two.answer()


def test_shared_locks(pipeline: Path) -> None:
    """Shared locks go together, and keep an exclusive one out."""
    (pipeline / "k").touch()
    with Other() as one, Other() as two, Other() as three:
        for process in (one, two, three):
            process("fd = os.open(path, os.O_RDONLY)", path=pipeline / "k")
        for process in (one, two):
            process("fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)")
        with pytest.raises(BlockingIOError):
            three("fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)")
        for process in (one, two):
            process("fcntl.flock(fd, fcntl.LOCK_UN)")
        three("fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)")


def test_ranges(pipeline: Path) -> None:
    """fcntl locks are for ranges of bytes."""
    (pipeline / "k").write_bytes(bytes(100))
    with Other() as one, Other() as two:
        for process in (one, two):
            process("fd = os.open(path, os.O_RDWR)", path=pipeline / "k")
        one("fcntl.lockf(fd, fcntl.LOCK_EX, 10, 0)")
        two("fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10)")
        with pytest.raises((BlockingIOError, PermissionError)):
            two("fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)")


def test_a_pid_file(pipeline: Path) -> None:
    """The idiom of a pid file: the lock is held from the creation on, and what is written in it is kept."""
    code = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
try:
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    print("locked")
    sys.exit()
os.ftruncate(fd, 0)
os.write(fd, b"me")
os.fsync(fd)
print("mine")
if len(sys.argv) > 2:
    import subprocess
    print(subprocess.run([sys.executable, "-c", sys.argv[2], sys.argv[1]], capture_output=True, text=True).stdout)
"""
    (output,) = end([start_python(code, pipeline / "pid", code)])
    assert output.split() == ["mine", "locked"]
    assert (pipeline / "pid").read_text() == "me"
    assert os.listdir(pipeline) == ["pid"]
