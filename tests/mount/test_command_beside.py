"""The command, and a second mount, on a store that is mounted."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import Other
from tests.support.shared_mount import listed

pytestmark = pytest.mark.mount


def _soon(condition: Callable[[], bool]) -> None:
    """What one commits is visible on the others within 1 s at the most."""
    end = time.monotonic() + 1
    while not condition():
        assert time.monotonic() < end, "not seen within a second"
        time.sleep(0.01)


def _reads(path: Path, content: bytes) -> Callable[[], bool]:
    return lambda: path.exists() and path.read_bytes() == content


def _is_gone(path: Path) -> Callable[[], bool]:
    return lambda: not path.exists()


def test_what_is_put_in_the_mount_is_got_by_the_command(shared: MountedStore, pipeline: Path) -> None:
    """The command works on the store's file while it is mounted, and reads your writes."""
    for content in (b"one", b"", os.urandom(300_000)):
        (pipeline / "k").write_bytes(content)
        found = shared.cli("pipeline", "object", "get", pipeline.name, "k", exit_code=0)
        assert found.stdout == content
    (pipeline / "k").unlink()
    assert shared.cli("pipeline", "object", "get", pipeline.name, "k").returncode == 3


def test_what_the_command_puts_is_seen_in_the_mount(shared: MountedStore, pipeline: Path) -> None:
    """A Put, an overwrite and a deletion beside the mount are visible within 1 s, stale kernel caches included."""
    assert not (pipeline / "d/k").exists()
    shared.cli("pipeline", "object", "put", pipeline.name, "k", "-", stdin=b"one", exit_code=0)
    _soon(_reads(pipeline / "k", b"one"))
    shared.cli("pipeline", "object", "put", pipeline.name, "k", "-", "--force", stdin=b"two two", exit_code=0)
    _soon(_reads(pipeline / "k", b"two two"))
    assert (pipeline / "k").stat().st_size == 7
    shared.cli("pipeline", "object", "delete", pipeline.name, "k", exit_code=0)
    _soon(lambda: not (pipeline / "k").exists())
    assert listed(pipeline) == []


def test_a_put_under_way_is_not_there_for_the_command(shared: MountedStore, pipeline: Path) -> None:
    """Nobody else sees a Put until the last descriptor is closed: not the command either."""
    fd = os.open(pipeline / "k", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"half")
    assert shared.cli("pipeline", "object", "list", pipeline.name, exit_code=0).stdout == b""
    shared.cli("pipeline", "object", "put", pipeline.name, "k=command", exit_code=0)
    os.close(fd)
    assert shared.cli("pipeline", "object", "get", pipeline.name, "k", exit_code=0).stdout == b"half"


def test_pipelines_and_runs_of_the_command(shared: MountedStore) -> None:
    """What the command makes and deletes is there, and gone, in the mount."""
    shared.cli("pipeline", "create", "made", exit_code=0)
    shared.cli("run", "start", "started", exit_code=0)
    _soon(lambda: (shared.pipeline / "made").is_dir() and (shared.run / "started").is_dir())
    (shared.run / "started/k").write_text("x")
    shared.cli("pipeline", "delete", "made", exit_code=0)
    _soon(lambda: not (shared.pipeline / "made").exists())
    assert "made" not in listed(shared.pipeline)
    shared.cli("run", "finish", "started", exit_code=0)
    assert (shared.run / "started/k").read_text() == "x"


def test_a_snapshot_outlives_the_command(shared: MountedStore, pipeline: Path) -> None:
    """An open reader keeps its value, whatever is deleted beside the mount meanwhile."""
    content = os.urandom(3_000_000)
    (pipeline / "k").write_bytes(content)
    with Other() as reader:
        reader("fd = os.open(path, os.O_RDONLY)", path=pipeline / "k")
        shared.cli("pipeline", "object", "delete", pipeline.name, "k", exit_code=0)
        for _ in range(3):
            shared.cli(
                "pipeline", "object", "put", pipeline.name, "other", "-", "--force", stdin=content[::-1], exit_code=0
            )
        time.sleep(0.3)
        assert reader("os.pread(fd, 10_000_000, 0)") == content


def test_two_mounts(make_mount: MakeMount) -> None:
    """Several daemons may use one store at once: what one commits is visible on the others within 1 s."""
    one = make_mount()
    (one.pipeline / "p").mkdir()
    two = make_mount(store=one.store)
    for number in range(5):
        source, target = (one, two) if number % 2 else (two, one)
        (source.pipeline / "p/k").write_bytes(b"%d" % number)
        _soon(_reads(target.pipeline / "p/k", b"%d" % number))
    (one.pipeline / "p/k").rename(one.pipeline / "p/l")
    _soon(lambda: listed(two.pipeline / "p") == ["l"] and not (two.pipeline / "p/k").exists())
    (two.pipeline / "p/l").unlink()
    _soon(lambda: not (one.pipeline / "p/l").exists())


def test_changes_beside_a_busy_mount(shared: MountedStore, pipeline: Path) -> None:
    """Visible within 1 s, stale kernel caches included: also when the mount commits something of its own meanwhile."""
    (pipeline / "d").mkdir()
    for number in range(6):
        (pipeline / f"k{number}").write_text("old")
        assert (pipeline / f"k{number}").read_text() == "old"
        with Other() as busy:
            busy("stop = time.monotonic() + 0.6")
            busy.begin(
                "n = 0\nwhile time.monotonic() < stop: open(path, 'w').write('x'); n += 1",
                path=pipeline / "d" / f"busy{number}",
            )
            shared.cli("pipeline", "object", "delete", pipeline.name, f"k{number}", exit_code=0)
            _soon(_is_gone(pipeline / f"k{number}"))
            busy.answer()
        assert f"k{number}" not in listed(pipeline)
