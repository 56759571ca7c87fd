"""A mount on a content engine that has four methods and comes from another package; and one in memory."""

import errno
import os
import random
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import ROOT, MountedStore
from tests.support.processes import end, sh, start_python
from tests.support.shared_mount import by_age, listed, refused
from tests.support.third_party_install import dirstore_site

__all__ = ["dirstore_site"]

pytestmark = pytest.mark.mount

VALUE = random.Random(5).randbytes(5 * 1024 * 1024)
PUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


@pytest.fixture
def values(tmp_path: Path) -> Path:
    """The directory where the engine keeps the values."""
    return tmp_path / "values"


@pytest.fixture
def store(make_mount: MakeMount, dirstore_site: Path, values: Path) -> MountedStore:
    """A mount on the four-method engine, with a limit of 3."""
    config = f'[object_store]\nengine = "dirstore"\n[object_store.dirstore]\nlocation = "{values}"\n'
    path = os.pathsep.join([str(dirstore_site), str(ROOT)])
    return make_mount(config=config, environment={"PYTHONPATH": path}, pipeline_object_limit=3)


@pytest.fixture
def directory(store: MountedStore) -> Path:
    path = store.pipeline / "p"
    path.mkdir()
    return path


def kept(values: Path) -> list[Path]:
    return sorted(values.glob("v*"))


def test_puts_and_gets(store: MountedStore, directory: Path, values: Path) -> None:
    for name, value in [("a", b""), ("b", b"small"), ("c", VALUE)]:
        (directory / name).write_bytes(value)
    assert [(directory / name).read_bytes() for name in "abc"] == [b"", b"small", VALUE]
    assert sorted(path.stat().st_size for path in kept(values)) == [5, len(VALUE)]
    (directory / "b").write_bytes(b"overwritten")
    assert (directory / "b").read_bytes() == b"overwritten"
    assert store.cli("pipeline", "object", "get", "p", "c", exit_code=0).stdout == VALUE
    store.cli("pipeline", "object", "put", "p", "b=by the command", "--force", exit_code=0)
    assert sh("sleep 0.5; cat b", directory) == "by the command"


@pytest.mark.parametrize("size", [10, 65_536, 65_537, 1_000_000])
def test_appends(directory: Path, size: int) -> None:
    for number in range(3):
        with (directory / "log").open("ab") as file:
            file.write(b"%d" % number * size)
    assert (directory / "log").read_bytes() == b"0" * size + b"1" * size + b"2" * size


def refuses_holes(directory: Path) -> None:
    """What is larger than the disk is refused, and leaves the old value; what is not is zeros."""
    key = directory / "hole"
    key.write_bytes(b"old")
    with refused(errno.ENOSPC):
        os.truncate(key, 1 << 50)
    fd = os.open(key, os.O_WRONLY)
    with refused(errno.ENOSPC):
        os.pwrite(fd, b"x", 1 << 50)
    with refused(errno.ENOSPC):
        os.close(fd)
    assert key.read_bytes() == b"old"
    os.truncate(key, len(VALUE))
    assert key.read_bytes() == b"old".ljust(len(VALUE), b"\0")


def test_holes(directory: Path) -> None:
    refuses_holes(directory)


APPEND = """
import os, sys
for number in range(20):
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{sys.argv[2]}.{number}\\n".encode())
    os.close(fd)
"""


def test_appends_at_once(directory: Path) -> None:
    end([start_python(APPEND, directory / "log", writer) for writer in range(3)])
    expected = sorted(f"{writer}.{number}" for writer in range(3) for number in range(20))
    assert sorted((directory / "log").read_text().splitlines()) == expected


@pytest.mark.parametrize("value", [b"0123456789", VALUE])
def test_edits(store: MountedStore, directory: Path, value: bytes) -> None:
    (directory / "k").write_bytes(value)
    model = bytearray(value)
    with (directory / "k").open("r+b") as file:
        for offset, piece in [(2, b"AB"), (len(value) - 1, b"the end"), (len(value) + 100, b"behind a gap")]:
            file.seek(offset)
            file.write(piece)
            model.extend(bytes(max(0, offset + len(piece) - len(model))))
            model[offset : offset + len(piece)] = piece
        file.flush()
        assert (directory / "k").read_bytes() == value
        os.fsync(file.fileno())
        assert (directory / "k").read_bytes() == model
        file.truncate(7)
    assert (directory / "k").read_bytes() == model[:7]
    os.truncate(directory / "k", 20)
    assert (directory / "k").read_bytes() == model[:7] + bytes(13)
    store.remount()
    assert (directory / "k").read_bytes() == model[:7] + bytes(13)


def test_eviction_deletes_the_values(store: MountedStore, directory: Path, values: Path) -> None:
    for name in "abcde":
        (directory / name).write_text(name)
    assert listed(directory) == by_age(directory) == ["c", "d", "e"]
    store.remount()
    assert [(directory / name).read_text() for name in listed(directory)] == ["c", "d", "e"]
    sh("rm c d; for i in 1 2 3 4 5 6 7 8; do echo $i > e; done", directory)
    store.unmount()
    assert store.cli("pipeline", "object", "get", "p", "e", exit_code=0).stdout == b"8\n"
    # What was evicted may come back for some minutes; what was overwritten or removed goes at once.
    assert len(kept(values)) <= 3


def test_renames_move_no_bytes(store: MountedStore, directory: Path, values: Path) -> None:
    (store.run / "1").mkdir()
    (store.run / "1/model").write_bytes(VALUE)
    (directory / "model").write_text("old")
    number = next(path for path in kept(values) if path.stat().st_size == len(VALUE)).stat().st_ino
    sh("mv run/1/model pipeline/p/model", store.path)
    assert (directory / "model").read_bytes() == VALUE
    assert number in [path.stat().st_ino for path in kept(values)]
    assert not (store.run / "1/model").exists()
    sh("echo 1 > a; cp a b; sed -i s/1/2/ a; mv a c", directory)
    assert (directory / "c").read_text() == "2\n"


def test_remounts_and_kills(store: MountedStore, directory: Path) -> None:
    (directory / "large").write_bytes(VALUE)
    store.remount()
    assert (directory / "large").read_bytes() == VALUE
    fds = [os.open(directory / name, PUT) for name in ("large", "new")]
    for fd in fds:
        os.write(fd, b"half a value" * 50_000)
    (directory / "small").write_text("small")
    store.kill()
    store.remount()
    for fd in fds:
        with refused(errno.ENOTCONN, errno.ECONNABORTED):
            os.close(fd)
    assert listed(directory) == ["large", "small"]
    assert (directory / "large").read_bytes() == VALUE
    assert (directory / "small").read_text() == "small"
    store.unmount()


def test_a_snapshot_while_its_value_is_overwritten(directory: Path) -> None:
    (directory / "k").write_bytes(VALUE)
    with (directory / "k").open("rb", buffering=0) as file:
        assert file.read(1000) == VALUE[:1000]
        for number in range(5):
            (directory / "k").write_text(f"{number}")
        sh("sleep 0.8", "/")
        assert b"".join(iter(lambda: file.read(1_000_000), b"")) == VALUE[1000:]
    assert (directory / "k").read_text() == "4"


def test_the_store_says_which_engine_it_is_on(store: MountedStore, directory: Path) -> None:
    """A store on one engine is refused by another one, with one line."""
    (directory / "k").write_text("v")
    store.unmount()
    done = store.cli("--store", f"sqlite:{store.store}", "pipeline", "list", exit_code=None)
    if done.returncode == 2:
        done = store.cli("pipeline", "list", "--store", f"sqlite:{store.store}")
    assert done.returncode == 1
    assert b"dirstore" in done.stderr
    assert done.stderr.count(b"\n") == 1
    store.mount()
    assert (directory / "k").read_text() == "v"


# In memory


def test_a_mount_in_memory(make_mount: MakeMount) -> None:
    """`--store memory:` is a mount like any other, and gone when it ends."""
    store = make_mount(store="memory:", pipeline_object_limit=2)
    directory = store.pipeline / "p"
    directory.mkdir()
    for name, value in [("a", b"1"), ("b", b"2"), ("c", VALUE)]:
        (directory / name).write_bytes(value)
    assert listed(directory) == ["b", "c"]
    assert (directory / "c").read_bytes() == VALUE
    with (directory / "b").open("ab") as file:
        file.write(b"and more")
    os.rename(directory / "b", directory / "d")
    assert (directory / "d").read_bytes() == b"2and more"
    fd = os.open(directory / "d", PUT)
    os.write(fd, b"synced")
    os.fsync(fd)
    os.close(fd)
    assert (directory / "d").read_bytes() == b"synced"
    refuses_holes(directory)
    (store.run / "1").mkdir()
    (store.run / "1/k").write_text("v")
    sh("rm -r run/1", store.path)
    store.remount()
    assert os.listdir(store.pipeline) == []
    assert not list(store.directory.glob("objects.db*"))
