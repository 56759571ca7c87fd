"""Limits in bytes on a real mount: what is over them is refused to its writer, and the old value stands."""

import errno
import os
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.contract.several_mounts import mounts_of_one_store, soon
from tests.contract.test_told_in_the_mount import fact
from tests.support.mounting import MountedStore
from tests.support.processes import Other, run_sh, sh
from tests.support.shared_mount import listed, refused

pytestmark = pytest.mark.mount

KIB = 1024
LIMIT = 300 * KIB
SETTINGS = {"max_pipeline_bytes": "300KiB", "pipeline_object_limit": 3}
PUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
SIZES = pytest.mark.parametrize("size", [10 * KIB, 100 * KIB], ids=["small", "large"])


def fill(pipeline: Path, left: int) -> None:
    """Leave so much room in a pipeline."""
    (pipeline / "old").write_bytes(bytes(LIMIT - left))


def contents(pipeline: Path) -> dict[str, int]:
    return {name: (pipeline / name).stat().st_size for name in listed(pipeline)}


@SIZES
@pytest.mark.parametrize("flags", [PUT, APPEND, PUT | os.O_EXCL], ids=["put", "append", "exclusive"])
def test_a_put_over_the_limit(pipeline: Path, flags: int, size: int) -> None:
    """EDQUOT from close(), and from fsync()."""
    fill(pipeline, size)
    for synced in (False, True):
        fd = os.open(pipeline / "k", flags)
        os.write(fd, bytes(size + 1))
        if synced:
            with refused(errno.EDQUOT):
                os.fsync(fd)
        with refused(errno.EDQUOT):
            os.close(fd)
        assert contents(pipeline) == {"old": LIMIT - size}
    fd = os.open(pipeline / "k", flags)
    os.write(fd, bytes(size))
    os.close(fd)
    assert contents(pipeline) == {"old": LIMIT - size, "k": size}


def test_what_can_never_fit_is_refused_as_it_is_written(pipeline: Path) -> None:
    """A value that is larger than the whole limit; one of up to 64 KiB when it is closed."""
    fd = os.open(pipeline / "k", PUT)
    os.write(fd, bytes(LIMIT))
    with refused(errno.EDQUOT):
        os.write(fd, b"x")
    with refused(errno.EDQUOT):
        os.close(fd)
    with refused(errno.EDQUOT):
        (pipeline / "k").write_bytes(bytes(LIMIT * 4))
    assert contents(pipeline) == {}


def test_opening_again_what_was_refused(pipeline: Path) -> None:
    """By its own writer, which replaces nothing by that: the name is free once all are closed."""
    fd = os.open(pipeline / "k", PUT | os.O_EXCL)
    os.write(fd, b"x")
    with refused(errno.EDQUOT):
        os.pwrite(fd, b"x", LIMIT)
    with refused(errno.EDQUOT):
        os.open(pipeline / "k", PUT)
    with refused(errno.EDQUOT):
        os.close(fd)
    fd = os.open(pipeline / "k", PUT | os.O_EXCL)
    os.write(fd, b"y")
    os.close(fd)
    assert contents(pipeline) == {"k": 1}


def test_truncating(pipeline: Path) -> None:
    """By path and by descriptor; making a value smaller always works."""
    fill(pipeline, 10)
    (pipeline / "k").touch()
    with refused(errno.EDQUOT):
        os.truncate(pipeline / "k", 11)
    with refused(errno.EDQUOT), open(pipeline / "k", "r+b") as file:
        file.truncate(11)
    os.truncate(pipeline / "k", 10)
    os.truncate(pipeline / "old", 5)
    assert contents(pipeline) == {"old": 5, "k": 10}


@pytest.mark.parametrize(("limit", "number"), [("max_object_size", errno.EFBIG), ("max_pipeline_bytes", errno.EDQUOT)])
@pytest.mark.parametrize("appended", [8, 100 * KIB])
def test_truncating_what_was_appended_to(make_mount: MakeMount, limit: str, number: int, appended: int) -> None:
    """Refused, it leaves the value as it is with what was appended, and others may append meanwhile."""
    directory = make_mount(**{limit: "300KiB"}).pipeline / "p"
    directory.mkdir()
    (directory / "k").write_bytes(b"base")
    fd = os.open(directory / "k", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"a" * appended)
    for size in (301 * KIB, 2**40):
        with refused(number):
            os.ftruncate(fd, size)
    with open(directory / "k", "ab") as other:
        other.write(b"other")
    os.close(fd)
    assert (directory / "k").read_bytes() == b"baseother" + b"a" * appended


def test_the_tools(pipeline: Path, run: Path) -> None:
    """dd, cp, mv, >> and truncate say it and fail; what is there stays."""
    (run / "big").write_bytes(bytes(20 * KIB))
    fill(pipeline, 10 * KIB)
    for script in (
        "dd if={run}/big of=k bs=4k",
        "cp {run}/big k",
        "mv {run}/big k",
        "cat {run}/big >> old",
        "truncate -s 310K old",
        "truncate -s 20K new",
    ):
        done = run_sh(script.format(run=run), pipeline)
        assert done.returncode != 0, script
        assert "Disk quota exceeded" in done.stderr, (script, done.stderr)
        assert {name: size for name, size in contents(pipeline).items() if size} == {"old": LIMIT - 10 * KIB}
        assert listed(run) == ["big"]
        (pipeline / "new").unlink(missing_ok=True)
    sh(f"head -c 10K {run}/big > k; mv -T {run}/big old", pipeline)
    assert contents(pipeline) == {"k": 10 * KIB, "old": 20 * KIB}


def test_what_is_evicted_gives_its_bytes_first(pipeline: Path) -> None:
    for name in ("a", "b", "c"):
        (pipeline / name).write_bytes(bytes(LIMIT // 3))
    (pipeline / "d").write_bytes(bytes(LIMIT // 3))
    with refused(errno.EDQUOT):
        (pipeline / "e").write_bytes(bytes(LIMIT // 3 + 1))
    assert listed(pipeline) == ["b", "c", "d"]
    assert fact(pipeline, "evicted") == "a\n"


def test_a_refused_rename_of_a_directory(pipeline: Path, run: Path) -> None:
    fill(pipeline, 10 * KIB)
    (run / "d").mkdir()
    (run / "d/k").write_bytes(bytes(20 * KIB))
    with refused(errno.EDQUOT):
        os.rename(run / "d", pipeline / "d")
    assert (contents(run / "d"), listed(pipeline)) == ({"k": 20 * KIB}, ["old"])


def test_a_new_name_that_its_writer_renames_elsewhere(pipeline: Path, run: Path) -> None:
    """It is published by the rename, where it comes to: what was refused there goes on under its old name."""
    fill(pipeline, 10)
    with open(run / "tmp", "wb", buffering=0) as file:
        file.write(bytes(11))
        with refused(errno.EDQUOT):
            os.rename(run / "tmp", pipeline / "k")
    assert (contents(run), listed(pipeline)) == ({"tmp": 11}, ["old"])


def test_a_temporary_file_that_was_unlinked_is_not_counted(pipeline: Path) -> None:
    fill(pipeline, 0)
    with open(pipeline / "tmp", "w+b", buffering=0) as file:
        os.unlink(pipeline / "tmp")
        file.write(bytes(LIMIT + 1))
        assert os.fstat(file.fileno()).st_size == LIMIT + 1
    assert listed(pipeline) == ["old"]


def test_what_is_still_being_written_does_not_count(pipeline: Path) -> None:
    """Each of several values has the whole limit for as long as it is open."""
    fds = [os.open(pipeline / f"k{number}", PUT) for number in range(3)]
    for fd in fds:
        assert os.write(fd, bytes(LIMIT)) == LIMIT
    os.close(fds.pop())
    for fd in fds:
        with refused(errno.EDQUOT):
            os.close(fd)
    assert contents(pipeline) == {"k2": LIMIT}


def test_one_descriptor_closed_and_another_open(pipeline: Path) -> None:
    """What close() has acknowledged keeps its room, also when the last descriptor is closed much later."""
    fd = os.open(pipeline / "k", PUT)
    os.write(fd, bytes(200 * KIB))
    os.close(os.dup(fd))
    with refused(errno.EDQUOT):
        (pipeline / "other").write_bytes(bytes(100 * KIB + 1))
    (pipeline / "other").write_bytes(bytes(100 * KIB))
    os.write(fd, b"x")
    with refused(errno.EDQUOT):
        os.close(fd)
    assert contents(pipeline) == {"other": 100 * KIB}


def test_what_it_tells(pipeline: Path, run: Path, shared: MountedStore) -> None:
    """The owner of a pipeline can read its limit, and not set it: that is for who has the store."""
    (pipeline / "k").write_bytes(bytes(10))
    (run / "k").write_bytes(bytes(20))
    assert [fact(pipeline, name) for name in ("bytes", "max_bytes", "max_bytes_of")] == ["10", str(LIMIT), "store"]
    assert fact(run, "bytes") == "20"
    assert [fact(shared.path, "max_bytes"), fact(shared.pipeline, "max_bytes")] == ["0", str(LIMIT)]
    assert int(fact(shared.path, "bytes")) >= 30
    with refused(errno.EPERM):
        os.setxattr(pipeline, "fusefs.max_bytes", b"0")
    shared.cli("pipeline", "set-max-bytes", pipeline.name, "15", exit_code=0)
    assert [fact(pipeline, name) for name in ("max_bytes", "max_bytes_of")] == ["15", "pipeline"]
    with refused(errno.EDQUOT):
        (pipeline / "more").write_bytes(bytes(6))
    assert shared.cli("pipeline", "object", "put", pipeline.name, "more=123456").returncode == 1
    shared.cli("pipeline", "object", "put", pipeline.name, "more=12345", exit_code=0)


def test_a_lowered_limit_evicts_nothing(pipeline: Path, shared: MountedStore) -> None:
    fill(pipeline, 0)
    shared.cli("pipeline", "set-max-bytes", pipeline.name, "1K", exit_code=0)
    with refused(errno.EDQUOT):
        (pipeline / "k").write_bytes(b"x")
    assert contents(pipeline) == {"old": LIMIT}
    os.truncate(pipeline / "old", 1023)
    (pipeline / "k").write_bytes(b"x")


# The whole store


def test_a_full_store(make_mount: MakeMount) -> None:
    """ENOSPC, for pipelines and runs, and df tells of the limit."""
    store = make_mount(max_bytes="1MiB")
    for directory in (store.pipeline / "p", store.run / "1"):
        directory.mkdir()
        (directory / "k").write_bytes(bytes(512 * KIB))
    found = os.statvfs(store.path)
    assert [found.f_blocks * found.f_frsize, found.f_bfree, found.f_bavail] == [1024 * KIB, 0, 0]
    for directory in (store.pipeline / "p", store.run / "1"):
        with refused(errno.ENOSPC):
            (directory / "new").write_bytes(b"x")
        with refused(errno.ENOSPC):
            (directory / "k").write_bytes(bytes(2048 * KIB))
    done = run_sh("dd if=/dev/zero of=new bs=1k count=1", store.run / "1")
    assert "No space left on device" in done.stderr
    (store.run / "1/k").rename(store.pipeline / "p/moved")
    assert contents(store.pipeline / "p") == {"k": 512 * KIB, "moved": 512 * KIB}
    (store.pipeline / "p/k").unlink()
    (store.run / "1/new").write_bytes(bytes(500 * KIB))
    found = os.statvfs(store.path)
    assert found.f_bavail * found.f_frsize == 12 * KIB


# Several mounts, and a death


def test_two_mounts_together() -> None:
    with mounts_of_one_store(2, max_pipeline_bytes="300KiB") as (one, other):
        (one.pipeline / "p").mkdir()
        (one.pipeline / "p/a").write_bytes(bytes(200 * KIB))
        soon((other.pipeline / "p/a").exists)
        with refused(errno.EDQUOT):
            (other.pipeline / "p/b").write_bytes(bytes(100 * KIB + 1))
        (other.pipeline / "p/b").write_bytes(bytes(100 * KIB))
        with refused(errno.EDQUOT):
            (one.pipeline / "p/c").write_bytes(b"x")
        (other.pipeline / "p/b").unlink()
        (one.pipeline / "p/c").write_bytes(bytes(100 * KIB))


def test_after_a_kill(make_mount: MakeMount) -> None:
    """What was acknowledged is there, and is counted."""
    store = make_mount(options=["--pipeline", "p"])
    pipeline = store.pipeline / "p"
    store.cli("pipeline", "set-max-bytes", "p", "300KiB", exit_code=0)
    with Other() as holder:
        holder("fd = os.open(path, flags)", path=str(pipeline / "held"), flags=PUT)
        holder("os.write(fd, bytes(size)); os.close(os.dup(fd))", size=200 * KIB)
        with refused(errno.EDQUOT):
            (pipeline / "k").write_bytes(bytes(101 * KIB))
        store.kill()
    store.remount()
    assert contents(pipeline) == {"held": 200 * KIB}
    found = os.statvfs(store.path)  # of a mount that shows this pipeline alone
    sizes = [blocks * found.f_frsize for blocks in (found.f_blocks, found.f_bfree, found.f_bavail)]
    assert sizes == [300 * KIB, 100 * KIB, 100 * KIB]
    with refused(errno.EDQUOT):
        (pipeline / "k").write_bytes(bytes(101 * KIB))
    (pipeline / "k").write_bytes(bytes(100 * KIB))
