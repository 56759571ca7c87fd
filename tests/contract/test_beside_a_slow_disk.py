"""Who writes a name renames or removes it while its fsync, or the close of a duplicate, waits for the disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import gated
from tests.support.gated import Gated, gated_mount
from tests.support.processes import Other
from tests.support.shared_mount import listed
from tests.support.waiting import wait_for_upkeep, wait_until

pytestmark = pytest.mark.mount

VALUE = b"x" * 200_000
LARGE = 9_000_000
NUMBERS = {"fsync": "74 ", "close": "3 "}
"""Of system calls, as /proc/PID/syscall tells of a thread that waits in one."""


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Gated]:
    with gated_mount(tmp_path) as mounted:
        yield mounted


@pytest.fixture
def key(mount: Gated, one: Other) -> Path:
    """A key with a value, that a process replaces."""
    key = mount.directory / "k"
    key.write_text("old")
    one("import threading; k = os.open(path, os.O_RDWR | os.O_TRUNC)", path=key, to=key.with_name("l"))
    return key


def begin_waiting(mount: Gated, process: Other, call: str, fd: str) -> None:
    """Have a thread of a process wait for the disk in a system call."""
    mount.shut(gated.SETTLE)
    process(f"thread = threading.Thread(target=os.{call}, args=({fd},)); thread.start()")
    waiting = Path(f"/proc/{process.pid}/task/{process('thread.native_id')}/syscall")
    wait_until(lambda: waiting.read_text().startswith(NUMBERS[call]))


def end_waiting(mount: Gated, process: Other) -> None:
    mount.open()
    process("thread.join()")


def test_an_fsync_beside_a_rename_publishes_under_the_new_name(
    mount: Gated, key: Path, one: Other, other: Other
) -> None:
    """Where another process writes the key as well, and keeps the old name."""
    one("os.write(k, value)", value=VALUE)
    other("k = os.open(path, os.O_RDWR | os.O_TRUNC); os.write(k, b'two')", path=key)
    begin_waiting(mount, one, "fsync", "k")
    one("os.rename(path, to)")
    end_waiting(mount, one)
    assert {name: (mount.directory / name).read_bytes() for name in listed(mount.directory)} == {"l": VALUE}
    one("os.close(k)")
    other("os.close(k)")
    assert (key.with_name("l").read_bytes(), key.read_bytes()) == (VALUE, b"two")


def test_what_is_removed_beside_an_fsync_stays_readable(mount: Gated, key: Path, one: Other) -> None:
    one("os.write(k, b'x' * size)", size=LARGE)
    begin_waiting(mount, one, "fsync", "k")
    one("os.unlink(path)")
    end_waiting(mount, one)
    assert listed(mount.directory) == []
    key.write_bytes(b"another")
    wait_for_upkeep(mount.store.store_path)
    assert one("os.pread(k, size, 0).count(b'x')") == LARGE
    one("os.pwrite(k, b'y', size); os.fsync(k); os.close(k)")
    assert key.read_bytes() == b"another"


def test_two_that_call_fsync_at_once(mount: Gated, key: Path, one: Other) -> None:
    """The second finds that the first has published it, and leaves what they go on with alone."""
    one("os.write(k, b'x' * size)", size=LARGE)
    begin_waiting(mount, one, "fsync", "k")
    one("first = thread")
    begin_waiting(mount, one, "fsync", "k")
    end_waiting(mount, one)
    one("first.join(); os.pwrite(k, b'y', 0)")
    assert one("os.pread(k, size, 0).count(b'x')") == LARGE - 1
    one("os.close(k)")
    assert key.read_bytes().count(b"x") == LARGE - 1


@pytest.mark.parametrize("name", ["k", "new"])
def test_what_is_removed_beside_a_close_does_not_come_back(mount: Gated, key: Path, one: Other, name: str) -> None:
    """Neither where it had a value nor where it is new: after the daemon was killed."""
    path = key.with_name(name)
    one("n = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC); os.write(n, value)", path=path, value=VALUE)
    one("dup = os.dup(n)")
    begin_waiting(mount, one, "close", "dup")
    one("os.unlink(path)")
    end_waiting(mount, one)
    mount.store.kill()
    mount.store.mount()
    assert listed(mount.directory) == ([] if name == "k" else ["k"])
