"""Several daemons, and the command beside them, on one store."""

import errno
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.contract.several_mounts import soon
from tests.support.mounting import MountedStore
from tests.support.processes import Other, end, start_python
from tests.support.shared_mount import by_age, listed, refused

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def other(shared: MountedStore) -> Iterator[MountedStore]:
    """A second mount of the same store."""
    with closing(MountedStore(store=shared.store_path)) as store:
        store.mount()
        yield store


@pytest.fixture
def there(other: MountedStore, pipeline: Path) -> Path:
    """The pipeline `pipeline` as the other mount shows it."""
    path = other.pipeline / pipeline.name
    soon(lambda: path.exists())
    return path


def read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def cached(directory: Path) -> list[str]:
    """Have the kernel cache a directory and all that is in it."""
    names = listed(directory)
    for name in names:
        os.stat(directory / name)
        if (directory / name).is_file():
            (directory / name).read_bytes()
    return names


# What the other mount's kernel had cached


def test_an_overwritten_key(pipeline: Path, there: Path) -> None:
    for number in range(5):
        (pipeline / "k").write_bytes(b"%d" % number * (number + 1))
        soon(lambda n=number: read(there / "k") == b"%d" % n * (n + 1))  # type: ignore[misc]
        assert os.stat(there / "k").st_size == number + 1
        cached(there)


def test_a_new_key(pipeline: Path, there: Path) -> None:
    assert not (there / "k").exists()
    assert cached(there) == []
    (pipeline / "k").write_text("v")
    soon(lambda: listed(there) == ["k"])
    assert (there / "k").read_text() == "v"


def test_a_removed_key(pipeline: Path, there: Path) -> None:
    (pipeline / "k").write_text("v")
    (pipeline / "stays").write_text("v")
    soon(lambda: cached(there) == ["k", "stays"])
    os.unlink(pipeline / "k")
    soon(lambda: not (there / "k").exists())
    assert listed(there) == ["stays"]
    assert read(there / "k") is None


def test_a_renamed_key(pipeline: Path, there: Path) -> None:
    (pipeline / "old").write_text("v")
    (pipeline / "replaced").write_text("w")
    soon(lambda: cached(there) == ["old", "replaced"])
    os.rename(pipeline / "old", pipeline / "replaced")
    soon(lambda: read(there / "replaced") == b"v")
    soon(lambda: not (there / "old").exists())
    os.rename(pipeline / "replaced", pipeline / "new")
    soon(lambda: read(there / "new") == b"v")
    soon(lambda: listed(there) == ["new"])


def test_a_key_that_its_writer_could_not_rename(
    shared: MountedStore, pipeline: Path, other_pipeline: Path, there: Path, one: Other
) -> None:
    """O_EXCL claims the name as before: whoever closes second is told, and replaces nothing."""
    shared.cli("pipeline", "set-max-bytes", other_pipeline.name, "10", exit_code=0)
    with refused(errno.EDQUOT):
        other_pipeline.joinpath("full").write_bytes(bytes(11))  # the mount knows by now
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    one("k = os.open(path, flags); os.write(k, bytes(100))", path=pipeline / "k", flags=flags)
    with refused(errno.EDQUOT):
        one("os.rename(path, to)", to=other_pipeline / "k")
    fd = os.open(there / "k", flags)
    os.write(fd, b"of the other mount")
    os.close(fd)
    with refused(errno.EEXIST):
        one("os.close(k)")
    soon(lambda: read(pipeline / "k") == read(there / "k") == b"of the other mount")
    assert listed(other_pipeline) == []


def test_directories_and_symlinks(pipeline: Path, there: Path) -> None:
    (pipeline / "a/b").mkdir(parents=True)
    (pipeline / "a/b/k").write_text("v")
    (pipeline / "link").symlink_to("a/b/k")
    soon(lambda: read(there / "link") == b"v")
    cached(there / "a/b")
    os.rename(pipeline / "a", pipeline / "c")
    soon(lambda: read(there / "c/b/k") == b"v")
    soon(lambda: not (there / "a").exists())
    soon(lambda: not (there / "link").exists())
    os.unlink(pipeline / "link")
    (pipeline / "link").symlink_to("c/b")
    soon(lambda: (there / "link").is_symlink() and os.readlink(there / "link") == "c/b")
    os.unlink(pipeline / "c/b/k")
    os.rmdir(pipeline / "c/b")
    soon(lambda: not (there / "c/b").exists())
    (pipeline / "c/b").write_text("now an object")
    soon(lambda: read(there / "c/b") == b"now an object")


def test_an_evicted_key(shared: MountedStore, pipeline: Path, there: Path) -> None:
    shared.cli("pipeline", "set-limit", pipeline.name, "3", exit_code=0)
    for name in "abc":
        (pipeline / name).write_text(name)
        time.sleep(0.002)
    soon(lambda: cached(there) == ["a", "b", "c"])
    (pipeline / "d").write_text("d")
    soon(lambda: not (there / "a").exists())
    soon(lambda: by_age(there) == ["b", "c", "d"])
    # By a Put on the other mount, the other way round.
    cached(pipeline)
    (there / "e").write_text("e")
    assert listed(there) == ["c", "d", "e"]
    soon(lambda: listed(pipeline) == ["c", "d", "e"] and not (pipeline / "b").exists())


def test_attributes(pipeline: Path, there: Path) -> None:
    (pipeline / "k").write_text("v")
    soon(lambda: cached(there) == ["k"])
    os.chmod(pipeline / "k", 0o600)
    os.utime(pipeline / "k", (1, 2))
    soon(lambda: (there / "k").stat().st_mode & 0o777 == 0o600)
    soon(lambda: (there / "k").stat().st_mtime == 2)
    os.setxattr(pipeline / "k", "user.a", b"1")
    soon(lambda: os.listxattr(there / "k") == ["user.a"])


@pytest.mark.parametrize("flags", [os.O_TRUNC, os.O_APPEND, 0])
def test_attributes_of_what_is_being_written(pipeline: Path, there: Path, flags: int) -> None:
    """Attributes that the other mount sets while a Put goes on are those of the new value, too."""
    (pipeline / "k").write_text("old")
    os.chmod(pipeline / "k", 0o644)
    soon(lambda: read(there / "k") == b"old")
    fd = os.open(pipeline / "k", os.O_WRONLY | flags)
    try:
        os.write(fd, b"new")
        os.chmod(there / "k", 0o600)
        os.setxattr(there / "k", "user.a", b"1")
        soon(lambda: os.fstat(fd).st_mode & 0o777 == 0o600 and os.listxattr(fd) == ["user.a"])
        os.fchown(fd, 1, 2)
        soon(lambda: (there / "k").stat().st_uid == 1)
    finally:
        os.close(fd)
    soon(lambda: all(read(path / "k") != b"old" for path in (pipeline, there)))
    for path in (pipeline, there):
        found = (path / "k").stat()
        assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o600, 1, 2)
        assert os.getxattr(path / "k", "user.a") == b"1"


def test_the_time_of_a_directory(pipeline: Path, there: Path) -> None:
    (pipeline / "old").write_text("v")
    soon(lambda: cached(there) == ["old"])
    changes: list[Callable[[], object]] = [
        lambda: (pipeline / "new").write_text("v"),
        lambda: os.unlink(pipeline / "new"),
        lambda: (pipeline / "d").mkdir(),
        lambda: os.rename(pipeline / "old", pipeline / "renamed"),
        lambda: (pipeline / "link").symlink_to("renamed"),
    ]
    for change in changes:
        change()
        soon(lambda: os.stat(there).st_mtime_ns == os.stat(pipeline).st_mtime_ns)


def test_an_expired_run(shared: MountedStore, other: MountedStore) -> None:
    shared.cli("run", "start", "x1", "--pipeline", "none-such", exit_code=None)
    (shared.run / "a").mkdir()
    (shared.run / "a/k").write_text("v")
    soon(lambda: read(other.run / "a/k") == b"v")
    for number in range(51):
        (shared.run / f"newer{number}").mkdir()
    soon(lambda: not (other.run / "a").exists())
    assert read(other.run / "a/k") is None
    assert "a" not in os.listdir(other.run)


# The command beside the mounts


def test_the_command_and_both_mounts(shared: MountedStore, pipeline: Path, there: Path) -> None:
    name = pipeline.name
    shared.cli("pipeline", "object", "put", name, "k=one", exit_code=0)
    for path in (pipeline, there):
        soon(lambda p=path: read(p / "k") == b"one")  # type: ignore[misc]
        cached(path)
    shared.cli("pipeline", "object", "put", name, "k=two", "--force", exit_code=0)
    for path in (pipeline, there):
        soon(lambda p=path: read(p / "k") == b"two")  # type: ignore[misc]
    (there / "k").write_text("three")
    assert shared.cli("pipeline", "object", "get", name, "k", exit_code=0).stdout == b"three"
    cached(pipeline)
    shared.cli("pipeline", "object", "delete", name, "k", exit_code=0)
    for path in (pipeline, there):
        soon(lambda p=path: not (p / "k").exists())  # type: ignore[misc]


def test_a_deleted_pipeline(shared: MountedStore, pipeline: Path, there: Path) -> None:
    (pipeline / "d").mkdir()
    (pipeline / "d/k").write_text("v")
    soon(lambda: read(there / "d/k") == b"v")
    shared.cli("pipeline", "delete", pipeline.name, "--force", exit_code=0)
    for path in (pipeline, there):
        soon(lambda p=path: not p.exists())  # type: ignore[misc]
        assert read(path / "d/k") is None


def test_a_lowered_limit(shared: MountedStore, pipeline: Path, there: Path) -> None:
    for number in range(6):
        (pipeline / f"k{number}").write_text("v")
        time.sleep(0.002)
    soon(lambda: len(cached(there)) == 6)
    cached(pipeline)
    shared.cli("pipeline", "set-limit", pipeline.name, "2", exit_code=0)
    for path in (pipeline, there):
        soon(lambda p=path: listed(p) == ["k4", "k5"] and not (p / "k0").exists())  # type: ignore[misc]


# At once

APPEND = """
import os, sys
path, writer, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for number in range(count):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{writer}.{number}.".encode() + b"x" * size + b"\\n")
    os.close(fd)
"""


@pytest.mark.parametrize(("count", "size"), [(50, 20), (15, 30_000)])
def test_no_append_is_lost(pipeline: Path, there: Path, count: int, size: int) -> None:
    """Of N writers appending at once, from any mount, no byte is lost; also when each of them creates the key."""
    directories = [pipeline, pipeline, there, there]
    end([start_python(APPEND, path / "log", writer, count, size) for writer, path in enumerate(directories)])
    expected = Counter(f"{writer}.{number}." + "x" * size for writer in range(4) for number in range(count))
    for path in (pipeline, there):
        soon(lambda p=path: (p / "log").stat().st_size == sum(map(len, expected)) + 4 * count)  # type: ignore[misc]
        lines = (path / "log").read_text().splitlines()
        assert Counter(lines) == expected
        for writer in range(4):
            own = [line for line in lines if line.startswith(f"{writer}.")]
            assert own == [f"{writer}.{number}." + "x" * size for number in range(count)]


PUTS = """
import os, sys
for number in range(int(sys.argv[3])):
    with open(f"{sys.argv[1]}/{sys.argv[2]}.{number}", "wb") as file:
        file.write(b"%d" % number)
"""

WATCH = """
import os, sys, time
most, until = 0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    most = max(most, len(os.listdir(sys.argv[1])))
print(most)
"""


def test_the_limit_holds_for_all_together(shared: MountedStore, pipeline: Path, there: Path) -> None:
    """No reader ever sees more objects than the limit, whoever puts them."""
    shared.cli("pipeline", "set-limit", pipeline.name, "3", exit_code=0)
    watchers = [start_python(WATCH, path, 2) for path in (pipeline, there)]
    end([start_python(PUTS, path, writer, 60) for writer, path in enumerate([pipeline, there])])
    (there / "last").write_text("v")
    assert [int(said) for said in end(watchers)] <= [3, 3]
    for path in (pipeline, there):
        soon(lambda p=path: len(listed(p)) == 3 and "last" in listed(p))  # type: ignore[misc]


OVERWRITE = """
import os, sys, time
size, until = int(sys.argv[2]), time.monotonic() + 1.5
while time.monotonic() < until:
    for letter in b"abc":
        with open(sys.argv[1], "wb") as file:
            file.write(bytes([letter]) * size)
"""

READ = """
import os, sys, time
size, until, reads = int(sys.argv[2]), time.monotonic() + 1.5, 0
while time.monotonic() < until:
    with open(sys.argv[1], "rb") as file:
        value = file.read()
    assert len(value) == size and len(set(value)) == 1, (len(value), set(value))
    reads += 1
print(reads)
"""


@pytest.mark.parametrize("size", [100, 200_000])
def test_each_sees_whole_values_only(pipeline: Path, there: Path, size: int) -> None:
    """Each mount sees only committed values, whole, however quickly the other one overwrites them."""
    (pipeline / "k").write_bytes(b"a" * size)
    soon(lambda: (there / "k").exists())
    writers = [start_python(OVERWRITE, path / "k", size) for path in (pipeline, there)]
    readers = [start_python(READ, path / "k", size) for path in (pipeline, there)]
    assert all(int(said) > 10 for said in end(readers))
    end(writers)
    (pipeline / "k").write_bytes(b"z")
    soon(lambda: read(there / "k") == b"z")


# Snapshots


@pytest.mark.parametrize("size", [50_000, 8_000_000])
@pytest.mark.parametrize("gone_by", ["overwritten", "removed", "evicted", "pipeline deleted"])
def test_an_open_snapshot_outlives_the_upkeep_of_the_other(
    shared: MountedStore, pipeline: Path, there: Path, size: int, gone_by: str
) -> None:
    """An object opened for reading is one committed value until it is closed, whatever another mount does meanwhile."""
    value = random.Random(size).randbytes(size)
    (pipeline / "k").write_bytes(value)
    soon(lambda: (there / "k").exists() and (there / "k").stat().st_size == size)
    # Past the page cache: every byte has to come from the store.
    fd = os.open(there / "k", os.O_RDONLY | os.O_DIRECT)
    try:
        assert os.pread(fd, 1000, 0) == value[:1000]
        if gone_by == "overwritten":
            for number in range(3):
                (pipeline / "k").write_bytes(b"%d" % number)
        elif gone_by == "removed":
            os.unlink(pipeline / "k")
        elif gone_by == "evicted":
            (pipeline / "new").write_text("v")
            shared.cli("pipeline", "set-limit", pipeline.name, "1", exit_code=0)
        else:
            shared.cli("pipeline", "delete", pipeline.name, "--force", exit_code=0)
        time.sleep(0.8)  # upkeep on both mounts has come by a few times
        assert b"".join(os.pread(fd, 1_000_000, offset) for offset in range(0, size, 1_000_000)) == value
        assert os.fstat(fd).st_size == size
    finally:
        os.close(fd)
