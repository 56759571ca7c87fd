"""A daemon that is killed while others serve the same store: what it acknowledged appears on them without it."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer

import pytest

from tests.contract.several_mounts import in_pipeline, mounts_of_one_store, soon
from tests.support.mounting import MountedStore
from tests.support.processes import end, start_python
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.slow]

RECOVERY_SECONDS = 20.0
"""A mount looks every ten seconds for what the dead left."""


@pytest.fixture
def mounts() -> Iterator[list[MountedStore]]:
    with mounts_of_one_store(2) as mounted:
        yield mounted


@contextmanager
def nobody_waits_for_the_dead(mount: MountedStore, seconds: float = 20.0) -> Iterator[None]:
    """What is inside kills the daemon of a busy mount. Its clients and its own threads have to come free of it."""
    freed: list[int] = []

    def free() -> None:
        freed.append(subprocess.run(["umount", "-f", str(mount.path)], capture_output=True, check=False).returncode)

    watchdog = Timer(seconds, free)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
    assert not freed, f"somebody still waited for the dead daemon after {seconds} s"


def prepare(path: Path, value: bytes, flags: int = os.O_CREAT | os.O_TRUNC) -> int:
    """Write a value and close one of two descriptors: acknowledged, and not published while the other one is open."""
    fd = os.open(path, os.O_WRONLY | flags)
    os.write(fd, value)
    os.close(os.dup(fd))
    return fd


def test_what_was_acknowledged_appears_on_the_other(mounts: list[MountedStore]) -> None:
    """New, overwritten, appended, small and large: no Put that close() acknowledged waits for its daemon to return."""
    dying, living = mounts
    here, there = in_pipeline(mounts, "p")
    for name in ("old", "log"):
        (here / name).write_bytes(b"old\n")
    large = os.urandom(3_000_000)
    fds = [
        prepare(here / "new", b"new"),
        prepare(here / "old", b"overwritten"),
        prepare(here / "log", b"line\n", os.O_APPEND),
        prepare(here / "large", large),
    ]
    soon(lambda: (there / "log").exists() and (there / "old").read_bytes() == b"old\n")
    assert sorted(os.listdir(there)) == ["log", "old"]
    dying.kill()
    for fd in fds:
        with suppress(OSError):
            os.close(fd)
    wait_until(lambda: sorted(os.listdir(there)) == ["large", "log", "new", "old"], RECOVERY_SECONDS)
    found = {name: (there / name).read_bytes() for name in os.listdir(there)}
    assert found == {"new": b"new", "old": b"overwritten", "log": b"old\nline\n", "large": large}
    dying.mount()  # over the dead mount: nothing is published twice
    assert {name: (here / name).read_bytes() for name in os.listdir(here)} == found
    (living.pipeline / "p/later").write_bytes(b"later")
    soon(lambda: (here / "later").exists())


PUT = """
import errno, os, sys
directory, writer = sys.argv[1:]
number = 0
try:
    while True:
        number += 1
        with open(f"{directory}/{writer}.{number}", "wb") as file:
            file.write(b"%d" % number * (1 if number % 3 else 30_000))
        with open(f"{directory}/log", "ab", buffering=0) as file:
            file.write(f"{writer}.{number}\\n".encode())
        print(number, flush=True)
except OSError as error:
    assert error.errno in (errno.ENOTCONN, errno.ECONNABORTED), error
"""


def test_nothing_acknowledged_is_lost_under_load(mounts: list[MountedStore]) -> None:
    """Killed in the middle of many Puts: all that were acknowledged are on the other mount, the log has each once."""
    dying, _ = mounts
    here, there = in_pipeline(mounts, "p")
    dying.cli("pipeline", "set-limit", "p", "0", exit_code=0)
    beside = start_python(PUT.replace("while True", "while number < 150"), there, "living")
    writers = [start_python(PUT, here, f"dying{number}") for number in range(3)]
    wait_until(lambda: len(os.listdir(there)) > 150)
    with nobody_waits_for_the_dead(dying):
        dying.kill()
        said = end(writers)
    acknowledged = {f"dying{number}": int(lines.split()[-1]) for number, lines in enumerate(said)}
    acknowledged["living"] = int(end([beside])[0].split()[-1])

    def all_there() -> bool:
        last = {f"{writer}.{number}" for writer, number in acknowledged.items()}
        return last <= {*os.listdir(there)} & {*(there / "log").read_text().splitlines()}

    wait_until(all_there, RECOVERY_SECONDS)
    lines = (there / "log").read_text().splitlines()
    assert len(lines) == len(set(lines))
    for writer, last in acknowledged.items():
        for number in range(1, last + 1):
            value = b"%d" % number * (1 if number % 3 else 30_000)
            assert (there / f"{writer}.{number}").read_bytes() == value
            assert f"{writer}.{number}" in lines


def test_a_limit_holds_for_what_the_dead_left(mounts: list[MountedStore]) -> None:
    """What another mount publishes for a daemon that died evicts as any Put, and who had it cached is told."""
    dying, _ = mounts
    here, there = in_pipeline(mounts, "p")
    dying.cli("pipeline", "set-limit", "p", "2", exit_code=0)
    for name in "ab":
        (there / name).write_text(name)
    fds = [prepare(here / name, b"of the dead") for name in "cd"]
    assert [(there / name).stat().st_size for name in "ab"] == [1, 1]
    dying.kill()
    for fd in fds:
        with suppress(OSError):
            os.close(fd)
    wait_until(lambda: sorted(os.listdir(there)) == ["c", "d"], RECOVERY_SECONDS)
    soon(lambda: not (there / "a").exists() and not (there / "b").exists())
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        (there / "a").read_text()
