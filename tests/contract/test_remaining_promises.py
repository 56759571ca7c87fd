"""Promises that no other test at this level covers, and what the table of errnos says of rare cases."""

import ctypes
import errno
import fcntl
import os
import shutil
import sqlite3
import struct
import subprocess
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.contract.several_mounts import in_pipeline, mounts_of_one_store, soon
from tests.support.mounting import ROOT, MountedStore
from tests.support.processes import run_sh
from tests.support.shared_mount import listed, refused
from tests.support.third_party_install import dirstore_site
from tests.support.waiting import wait_until

__all__ = ["dirstore_site"]

pytestmark = pytest.mark.mount

SETTINGS = {"pipeline_object_limit": 3, "options": ["--allow-other"]}
PUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


# Failed Puts


def test_after_a_refused_write_nothing_is_published(make_mount: MakeMount) -> None:
    """Whatever is written after it, and however the Put ends."""
    store = make_mount(max_object_size="100KiB")
    directory = store.pipeline / "p"
    directory.mkdir()
    (directory / "k").write_bytes(b"old")
    for name in ("k", "new"):
        for flags in (PUT, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_APPEND):
            fd = os.open(directory / name, flags)
            os.write(fd, b"fits")
            with refused(errno.EFBIG):
                os.write(fd, bytes(200_000))
            with refused(errno.EFBIG):
                os.write(fd, b"fits as well")
                os.fsync(fd)
            with refused(errno.EFBIG):
                os.close(fd)
            assert {each: (directory / each).read_bytes() for each in listed(directory)} == {"k": b"old"}


@pytest.mark.parametrize("existing", [b"", b"old"])
def test_a_refused_cut_leaves_what_was_appended(make_mount: MakeMount, existing: bytes) -> None:
    """ftruncate beyond `max_object_size` fails and changes nothing; what was appended before is put."""
    store = make_mount(max_object_size="100KiB")
    (store.pipeline / "p").mkdir()
    path = store.pipeline / "p/k"
    if existing:
        path.write_bytes(existing)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"more")
    with refused(errno.EFBIG):
        os.ftruncate(fd, 1_000_000)
    os.close(fd)
    assert path.read_bytes() == existing + b"more"


@pytest.mark.parametrize("size", [5, 200_000], ids=["small", "large"])
@pytest.mark.parametrize("duplicated", [False, True], ids=["closed-once", "a-duplicate-was-closed-before"])
def test_a_put_whose_directory_is_gone(make_mount: MakeMount, duplicated: bool, size: int) -> None:
    """ENOENT, from fsync() and from close(): a directory, a pipeline and an expired run.

    Whoever starts a program closes a duplicate. What that acknowledged is not lost behind the writer's back.
    """
    store = make_mount(run_object_expiry=1)
    homes = [store.pipeline / "p/d", store.pipeline / "q", store.run / "1"]
    for home in homes:
        home.mkdir(parents=True)
    fds = [[os.open(home / name, PUT) for name in ("closed", "synced")] for home in homes]
    for fd in (fd for pair in fds for fd in pair):
        os.write(fd, bytes(size))
        if duplicated:
            os.close(os.dup(fd))
    for home in homes[:2]:
        home.rmdir()
    (store.run / "2").mkdir()
    for closed, synced in fds:
        with refused(errno.ENOENT):
            os.close(closed)
        with refused(errno.ENOENT):
            os.fsync(synced)
        with refused(errno.ENOENT):
            os.close(synced)
    assert (listed(store.pipeline), listed(store.pipeline / "p"), listed(store.run)) == (["p"], [], ["2"])


@pytest.mark.slow
def test_a_store_that_is_locked_for_long(make_mount: MakeMount) -> None:
    """It is waited for 10 seconds at the most; then the call fails with EIO, and the store is as it was."""
    store = make_mount()
    store.expect_log("(?i)locked|busy|Traceback|EIO")
    directory = store.pipeline / "p"
    directory.mkdir()
    other = sqlite3.connect(store.store_path, isolation_level=None, timeout=20)
    other.execute("BEGIN IMMEDIATE")
    try:
        with refused(errno.EIO):
            (directory / "d").mkdir()
    finally:
        other.execute("COMMIT")
        other.close()
    assert listed(directory) == []
    (directory / "d").mkdir()


# Several mounts


def test_what_a_killed_daemon_acknowledged_appears_soon() -> None:
    """On the others within a second or two; a busy machine gets a little more."""
    with mounts_of_one_store(2) as mounts:
        here, there = in_pipeline(mounts, "p")
        fd = os.open(here / "k", PUT)
        os.write(fd, b"acknowledged")
        os.close(os.dup(fd))  # acknowledged, and not published while the other descriptor is open
        mounts[0].kill()
        with refused(errno.ENOTCONN, errno.ECONNABORTED):
            os.close(fd)
        soon((there / "k").exists, 4)
        assert (there / "k").read_bytes() == b"acknowledged"


def test_a_value_that_the_engine_has_lost(make_mount: MakeMount, dirstore_site: Path, tmp_path: Path) -> None:
    """Reading it is EIO; the others are as they were, and it can be put again."""
    config = f'[object_store]\nengine = "dirstore"\n[object_store.dirstore]\nlocation = "{tmp_path / "values"}"\n'
    store = make_mount(config=config, environment={"PYTHONPATH": f"{dirstore_site}:{ROOT}"})
    store.expect_log("Traceback|ERROR")
    directory = store.pipeline / "p"
    directory.mkdir()
    (directory / "kept").write_bytes(b"kept")
    before = set((tmp_path / "values").iterdir())
    (directory / "lost").write_bytes(b"lost")
    (value,) = set((tmp_path / "values").iterdir()) - before
    value.unlink()
    with refused(errno.EIO):
        (directory / "lost").read_bytes()
    assert (directory / "kept").read_bytes() == b"kept"
    (directory / "lost").write_bytes(b"again")
    assert (directory / "lost").read_bytes() == b"again"


# Told by whoever caused it


def test_what_expired_is_told_by_who_caused_it(make_mount: MakeMount) -> None:
    """A mount writes it to its log, the command to stderr."""
    store = make_mount(run_object_expiry=1)
    (store.run / "1").mkdir()
    (store.run / "2").mkdir()
    wait_until(lambda: "expired run/1\n" in store.log())
    assert store.cli("run", "start", "3", exit_code=0).stderr == b"expired 2\n"


def test_the_order_of_pipelines(shared: MountedStore) -> None:
    """A number that rises with every pipeline made."""
    names = ["z", "a", "m"]
    for name in names:
        (shared.pipeline / name).mkdir()
    numbers = [int(os.getxattr(shared.pipeline / name, "fusefs.order")) for name in names]
    assert numbers == sorted(set(numbers))


def test_the_protection_of_a_run_ends(shared: MountedStore) -> None:
    """1 between `fusefs run start` and `fusefs run finish`, else 0."""
    shared.cli("run", "start", "job", exit_code=0)
    assert os.getxattr(shared.run / "job", "fusefs.protected") == b"1"
    shared.cli("run", "finish", "job", exit_code=0)
    wait_until(lambda: os.getxattr(shared.run / "job", "fusefs.protected") == b"0")


# Errnos


def test_attributes_that_are_not_kept(shared: MountedStore, pipeline: Path) -> None:
    """user.* on a symlink and in the fixed tree is EPERM, other namespaces are ENOTSUP to set and ENODATA to get."""
    (pipeline / "k").write_text("value")
    (pipeline / "l").symlink_to("k")
    with refused(errno.EPERM):
        os.setxattr(pipeline / "l", "user.a", b"x", follow_symlinks=False)
    for fixed in (shared.path, shared.pipeline, shared.run):
        with refused(errno.EPERM):
            os.setxattr(fixed, "user.a", b"x")
    for name in ("security.mine", "trusted.mine"):
        with refused(errno.ENOTSUP):
            os.setxattr(pipeline / "k", name, b"x")
        with refused(errno.ENODATA):
            os.getxattr(pipeline / "k", name)
    with refused(errno.ENOTSUP):
        os.setxattr(
            pipeline / "k", "system.posix_acl_access", struct.pack("<IHHIHHIHHI", 2, 1, 7, 0, 4, 7, 0, 32, 7, 0)
        )
    assert os.listxattr(pipeline / "k") == []


def test_one_attribute_over_64_kib(pipeline: Path) -> None:
    """E2BIG, from the kernel."""
    (pipeline / "k").write_text("value")
    with refused(errno.E2BIG):
        os.setxattr(pipeline / "k", "user.a", bytes(65_537))
    assert os.listxattr(pipeline / "k") == []


@pytest.mark.parametrize("mode", [0, 1, 2 | 1, 8, 16, 32])
def test_fallocate_with_any_flag(pipeline: Path, mode: int) -> None:
    """ENOTSUP: plain, keeping the size, and all that cuts or inserts. Nothing is changed."""
    libc = ctypes.CDLL(None, use_errno=True)
    (pipeline / "k").write_bytes(b"x" * 8192)
    fd = os.open(pipeline / "k", os.O_RDWR)
    assert libc.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(4096)) == -1
    assert ctypes.get_errno() == errno.ENOTSUP
    os.close(fd)
    assert (pipeline / "k").read_bytes() == b"x" * 8192


def test_inode_flags(pipeline: Path) -> None:
    """ENOTTY as for any other ioctl, on objects and directories; lsattr and chattr say that it is not supported."""
    (pipeline / "k").write_text("value")
    for tool in ("chattr +a k", "lsattr k", "lsattr -d ."):
        assert "not supported" in run_sh(tool, pipeline).stderr
    for path in (pipeline / "k", pipeline):
        fd = os.open(path, os.O_RDONLY)
        try:
            for number in (0x80086601, 0x801C581F, 0x1234):  # FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR, and none at all
                with refused(errno.ENOTTY):
                    fcntl.ioctl(fd, number, bytes(28))
        finally:
            os.close(fd)


def test_a_program_that_runs(pipeline: Path) -> None:
    """ETXTBSY, from the kernel, however it is opened for writing; it is as it was."""
    shutil.copy("/bin/sleep", pipeline / "program")
    running = subprocess.Popen([pipeline / "program", "60"])
    try:
        for flags in (os.O_WRONLY, os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
            with refused(errno.ETXTBSY):
                os.open(pipeline / "program", flags)
    finally:
        running.kill()
        running.wait()
    assert (pipeline / "program").read_bytes() == Path("/bin/sleep").read_bytes()


def test_renaming_to_another_filesystem(
    shared: MountedStore, make_mount: MakeMount, pipeline: Path, tmp_path: Path
) -> None:
    """EXDEV: to and from a local disk, and another mount of the same store."""
    second = make_mount(store=shared.store_path)
    (pipeline / "k").write_text("value")
    (tmp_path / "local").write_text("local")
    there = second.pipeline / pipeline.name
    wait_until((there / "k").exists)
    for source, target in [
        (pipeline / "k", tmp_path / "k"),
        (tmp_path / "local", pipeline / "local"),
        (pipeline / "k", there / "moved"),
        (there / "k", pipeline / "moved"),
    ]:
        with refused(errno.EXDEV):
            os.rename(source, target)
    assert (listed(pipeline), listed(there)) == (["k"], ["k"])
