"""What another process has just taken away, while some write it: who opens it now begins anew."""

import errno
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from engine import ScopeName, Store, open_store
from engine.config import ObjectStoreSettings
from engine.errors import NotFoundError
from tests.conftest import MakeMount
from tests.support.disks import sync
from tests.support.mounting import MountedStore
from tests.support.processes import Other
from tests.support.shared_mount import refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount


def deleted(beside: Store, name: str) -> bool:
    """Delete an object of the pipeline p; False where another process does not see it yet."""
    try:
        beside.delete_object(ScopeName.pipeline("p"), os.fsencode(name))
    except NotFoundError:
        return False
    return True


def test_an_append_beside_a_put(make_mount: MakeMount) -> None:
    """Before the mount has heard of the deletion, too: an appending handle shows nothing of the deleted value."""
    store = make_mount()
    (store.pipeline / "p").mkdir()
    with open_store(ObjectStoreSettings(path=store.store)) as beside, Other() as other:
        for number in range(10):
            path = store.pipeline / "p" / f"k{number}"
            path.write_bytes(b"old")
            other("k = open(path, 'wb'); k.write(b'put'); k.flush()", path=path)
            wait_until(partial(deleted, beside, path.name))
            appending = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            os.write(appending, b"new")
            assert os.pread(appending, 100, 0) == b"new"
            os.close(appending)
            assert path.read_bytes() == b"new"
            other("k.close()")
            assert path.read_bytes() == b"put"


def full_pipelines(store: MountedStore, names: str, number: int = 15) -> Iterator[Path]:
    """One pipeline after the other, each with an object of every name."""
    for each in range(number):
        pipeline = store.pipeline / f"p{each}"
        pipeline.mkdir()
        for name in names:
            (pipeline / name).write_text("old")
        yield pipeline


@pytest.mark.parametrize("anew", ["write", "rename", "symlink"])
@pytest.mark.parametrize("end", ["os.close(k)", "os.fsync(k)"])
def test_a_put_of_a_name_that_was_taken_anew(pipeline: Path, anew: str, end: str) -> None:
    """Somebody removes the key and makes it anew while it is put: whoever looked at that sees the Put all the same."""
    key, beside = pipeline / "k", pipeline / "beside"
    key.write_bytes(b"old")
    beside.write_bytes(b"new")
    with Other() as other:
        other("k = os.open(path, os.O_WRONLY | os.O_TRUNC); os.write(k, b'put')", path=key)
        key.unlink()
        if anew == "write":
            key.write_bytes(b"new")
        elif anew == "rename":
            assert beside.read_bytes() == b"new"  # the kernel takes what it knows of it along
            beside.rename(key)
        else:
            key.symlink_to("beside")
        assert key.read_bytes() == b"new"
        other(end)
        assert key.read_bytes() == b"put"
        assert stat.S_ISREG(os.lstat(key).st_mode)


@pytest.mark.parametrize("was_there", [False, True])
@pytest.mark.parametrize("closed_before", [False, True])
@pytest.mark.parametrize("end", ["os.close(k)", "os.fsync(k)"])
def test_a_directory_has_the_name(pipeline: Path, other: Other, was_there: bool, closed_before: bool, end: str) -> None:
    """Whoever closes is told that there is no place for it any more, and the directory is as it was."""
    key, directory = pipeline / "k", pipeline / "d"
    if was_there:
        key.write_text("old")
    (directory / "below").mkdir(parents=True)
    other("k = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC); os.write(k, b'put')", path=key)
    if closed_before:
        other("os.close(os.dup(k))")
    if was_there:
        key.unlink()
    directory.rename(key)
    with refused(errno.EISDIR):
        other(end)
    with refused(errno.EISDIR, errno.EBADF):
        other("os.close(k)")
    assert os.listdir(key) == ["below"]


def test_a_directory_has_the_name_of_what_was_removed(pipeline: Path) -> None:
    """Whoever removed it itself wants no place for it."""
    fd = os.open(pipeline / "k", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.unlink(pipeline / "k")
    os.write(fd, b"for a while")
    (pipeline / "k").mkdir()
    os.fsync(fd)
    os.close(fd)
    assert (pipeline / "k").is_dir()


@pytest.mark.parametrize("end", ["os.close(k)", "os.fsync(k)"])
@pytest.mark.parametrize("flags", ["os.O_WRONLY", "os.O_WRONLY | os.O_TRUNC", "os.O_WRONLY | os.O_APPEND"])
def test_what_the_put_of_an_evicted_name_evicts(make_mount: MakeMount, flags: str, end: str) -> None:
    """It is gone at once, although the kernel had it cached and nobody lists the directory."""
    store = make_mount(pipeline_object_limit=2)
    with Other() as other:
        for pipeline in full_pipelines(store, "ka"):
            other(f"k = os.open(path, {flags}); os.write(k, b'put')", path=pipeline / "k")
            (pipeline / "b").write_text("b")  # evicts k
            assert [(pipeline / name).exists() for name in "kab"] == [False, True, True]
            other(end)
            assert [(pipeline / name).exists() for name in "kab"] == [True, False, True]


@pytest.mark.parametrize("end", ["os.close(k)", "os.fsync(k)"])
def test_what_another_process_has_just_evicted(make_mount: MakeMount, end: str) -> None:
    """Before the mount has heard of that, too: what the Put of the name evicts is gone from the cache at once."""
    store = make_mount(pipeline_object_limit=2)
    with open_store(ObjectStoreSettings(path=store.store)) as beside, Other() as other:
        for pipeline in full_pipelines(store, "ka", 50):
            other("k = os.open(path, os.O_WRONLY | os.O_TRUNC); os.write(k, b'put')", path=pipeline / "k")
            sync(pipeline)  # committed, too
            assert (pipeline / "a").exists()
            beside.put_object(ScopeName.pipeline(pipeline.name), b"b", b"b", force=False)  # evicts k
            other(end + "\nfound = os.path.exists(a)", a=pipeline / "a")
            assert not other("found")


def test_another_has_become_the_oldest(make_mount: MakeMount) -> None:
    """Between the closes of two descriptors of a new key, so that it is another that the Put evicts."""
    store = make_mount(pipeline_object_limit=2)
    with Other() as other:
        for pipeline in full_pipelines(store, "ab"):
            other("k = os.open(path, os.O_WRONLY | os.O_CREAT); os.close(os.dup(k))", path=pipeline / "k")
            (pipeline / "a").write_text("new")
            assert [(pipeline / name).exists() for name in "abk"] == [True, True, False]
            other("os.close(k)")
            assert [(pipeline / name).exists() for name in "abk"] == [True, False, True]
