"""Where it differs from POSIX: the deviations that no other test at this level shows, each as the contract has it."""

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.contract.full_pipelines import FullPipeline, before
from tests.support import disks
from tests.support.mounting import ROOT, MountedStore
from tests.support.processes import Other, run_sh, sh
from tests.support.shared_mount import listed, refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

SETTINGS = {"pipeline_object_limit": 3}
PUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


# Appending


@pytest.mark.parametrize("value", ["", "value\n"])
def test_two_descriptors_that_append(pipeline: Path, value: str) -> None:
    """What is written through each stays together; through one descriptor and its duplicate it stays in order."""
    log = pipeline / "log"
    if value:
        log.write_text(value)
    command = "{ for i in 1 2; do echo out; echo err >&2; done; }"
    sh(f"{command} >> log 2>> log", pipeline)
    parts = ["out\nout\n", "err\nerr\n"]
    assert log.read_text() in [value + "".join(order) for order in (parts, parts[::-1])]
    both = log.read_text()
    sh(f"{command} >> log 2>&1", pipeline)
    assert log.read_text() == both + "out\nerr\n" * 2


# Inodes


def test_the_inode_of_a_writer(pipeline: Path) -> None:
    """One of its own while it replaces or appends; that of the object while it edits; after fsync the new one."""
    path = pipeline / "k"
    path.write_text("value")
    for flags in (os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        before_it = path.stat().st_ino
        fd = os.open(path, flags)
        own = os.fstat(fd).st_ino
        assert own != before_it == path.stat().st_ino
        os.write(fd, b"more")
        os.fsync(fd)
        assert os.fstat(fd).st_ino == own
        assert path.stat().st_ino not in (own, before_it)
        os.close(fd)
    fd = os.open(path, os.O_RDWR)
    assert os.fstat(fd).st_ino == path.stat().st_ino
    os.write(fd, b"edit")
    assert os.fstat(fd).st_ino == path.stat().st_ino
    edited = path.stat().st_ino
    os.fsync(fd)
    assert os.fstat(fd).st_ino == path.stat().st_ino != edited
    os.close(fd)


def test_directories_have_no_size(shared: MountedStore, pipeline: Path) -> None:
    """Directories have a size of 0, whatever is in them."""
    (pipeline / "d").mkdir()
    (pipeline / "d/k").write_text("value")
    assert [path.stat().st_size for path in (pipeline / "d", pipeline, shared.run, shared.path)] == [0] * 4


def test_tail_stays_with_the_old_value(pipeline: Path, tmp_path: Path) -> None:
    """`tail -f` shows what it opened, and nothing of the value that took its place; `tail -F` follows."""
    script = """
    echo old > k
    tail -n +1 -f -s 0.05 k > "$there"/f & f=$!
    tail -n +1 -F -s 0.05 k > "$there"/F 2> /dev/null & F=$!
    await() { for i in $(seq 400); do grep -q "$1" "$there/$2" && return; sleep 0.05; done; echo "no $1"; }
    await old f; await old F
    for value in longer longest; do echo "the $value value" > k; await $value F; done
    kill $f $F; cat "$there"/f
    """
    assert sh(script, pipeline, there=tmp_path) == "old\n"


# Locks


@pytest.mark.parametrize("lock", ["fcntl.flock", "fcntl.lockf"])
def test_locks_do_not_reach_other_mounts(
    shared: MountedStore, make_mount: MakeMount, pipeline: Path, lock: str
) -> None:
    """Two mounts of a store: each lets one have the lock."""
    second = make_mount(store=shared.store_path)
    (pipeline / "lock").touch()
    there = second.pipeline / pipeline.name / "lock"
    wait_until(there.exists)
    with Other() as one, Other() as other, Other() as third:
        for process, path in ((one, pipeline / "lock"), (other, there), (third, pipeline / "lock")):
            process("fd = os.open(path, os.O_RDWR)", path=str(path))
        for process in (one, other):
            process(f"{lock}(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)")
        with pytest.raises(BlockingIOError):
            third(f"{lock}(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)")


# ESTALE


def test_opening_by_descriptor(pipeline: Path) -> None:
    """/proc/PID/fd/N and /dev/fd/N: ESTALE where N writes to a name that exists, or to write where the name is gone."""
    (pipeline / "k").write_text("old")
    (pipeline / "gone").write_text("gone")
    writer = os.open(pipeline / "k", os.O_RDWR | os.O_TRUNC)
    reader = os.open(pipeline / "k", os.O_RDONLY)
    lost = os.open(pipeline / "gone", os.O_RDONLY)
    (pipeline / "gone").unlink()
    for directory in (f"/proc/{os.getpid()}/fd", "/dev/fd"):
        assert Path(f"{directory}/{reader}").read_text() == "old"
        assert Path(f"{directory}/{lost}").read_text() == "gone"
        with refused(errno.ESTALE):
            os.open(f"{directory}/{writer}", os.O_RDONLY)
        with refused(errno.ESTALE):
            os.open(f"{directory}/{lost}", os.O_WRONLY)
    for fd in (writer, reader, lost):
        os.close(fd)


def test_opening_by_descriptor_what_another_process_removed(pipeline: Path) -> None:
    """ESTALE where N is a new key, removed by its process: that one has it, nobody else."""
    with Other() as writer:
        writer("fd = os.open(path, os.O_RDWR | os.O_CREAT); os.write(fd, b'new')", path=str(pipeline / "k"))
        writer("os.unlink(path)")
        number = writer("fd")
        assert writer(f"open('/dev/fd/{number}').read()") == "new"
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
            with refused(errno.ESTALE):
                os.open(f"/proc/{writer.pid}/fd/{number}", flags)
        assert writer("os.pread(fd, 100, 0)") == b"new"


def test_truncating_a_new_key_by_descriptor(pipeline: Path) -> None:
    """`> /dev/fd/N` is a Put of its own, as `> k` is, and the last to close wins; `>> /dev/fd/N` and `>&N` are none."""
    for to in ("k", "/dev/fd/3"):
        assert sh(f"exec 3> k; echo x > {to}; cat k; exec 3>&-; wc -c < k; rm k", pipeline) == "x\n0\n"
    for to in (">> /dev/fd/3", ">&3"):
        assert sh(f"exec 3> k; echo x {to}; exec 3>&-; cat k; rm k", pipeline) == "x\n"


@pytest.mark.slow
def test_opening_long_after_the_look_up(pipeline: Path) -> None:
    """Between look-up and open (here O_PATH and /proc) the value is kept for ten seconds; later it may be ESTALE."""
    (pipeline / "k").write_text("old")
    fd = os.open(pipeline / "k", os.O_PATH)
    for value in ("new", "newer"):
        (pipeline / "k").write_text(value)
    assert Path(f"/proc/self/fd/{fd}").read_text() == "old"

    def stale() -> bool:
        try:
            assert Path(f"/proc/self/fd/{fd}").read_text() == "old"
        except OSError as error:
            assert error.errno == errno.ESTALE  # noqa: PT017
            return True
        return False

    begun = time.monotonic()
    wait_until(stale, 40)
    assert time.monotonic() - begun > 8
    assert (pipeline / "k").read_text() == "newer"
    os.close(fd)


def test_an_attribute_of_an_object_that_lost_its_name(pipeline: Path) -> None:
    """fsetxattr sets the attribute of what has the name now, or fails with ESTALE; the value is as it was."""
    for how in ("replaced", "removed"):
        (pipeline / "k").write_text("old")
        fd = os.open(pipeline / "k", os.O_RDONLY)
        if how == "removed":
            (pipeline / "k").unlink()
        else:
            (pipeline / "k").write_text("new")
        try:
            os.setxattr(fd, "user.a", b"1")
        except OSError as error:
            assert error.errno == errno.ESTALE  # noqa: PT017
        else:
            assert (pipeline / "k").read_text() == "new"
            assert os.getxattr(pipeline / "k", "user.a") == b"1"
        assert os.read(fd, 10) == b"old"
        os.close(fd)


def test_the_mode_of_an_object_that_lost_its_name(pipeline: Path) -> None:
    """By a descriptor that is open for nothing (O_PATH) it is the mode of what has the name now."""
    (pipeline / "k").write_text("old")
    fd = os.open(pipeline / "k", os.O_PATH)
    (pipeline / "k").write_text("new")
    assert (pipeline / "k").stat().st_mode & 0o777 == 0o644
    os.chmod(f"/proc/self/fd/{fd}", 0o600)
    assert (pipeline / "k").stat().st_mode & 0o777 == 0o600
    (pipeline / "k").unlink()
    with refused(errno.ESTALE):
        os.chmod(f"/proc/self/fd/{fd}", 0o640)
    os.close(fd)


# New names


@pytest.mark.parametrize("swapped", ["new, k", "k, new"])
def test_exchanging_a_new_key(pipeline: Path, swapped: str) -> None:
    """RENAME_EXCHANGE of a key that its process is still creating: EINVAL, and nothing is changed."""
    (pipeline / "k").write_text("old")
    with Other() as writer:
        writer("fd = os.open(new, os.O_RDWR | os.O_CREAT); os.write(fd, b'new')", new=str(pipeline / "new"))
        writer("libc = ctypes.CDLL(None, use_errno=True); swap = lambda a, b: libc.renameat2(-100, a, -100, b, 2)")
        writer("new, k = names", names=(bytes(pipeline / "new"), bytes(pipeline / "k")))
        assert writer(f"swap({swapped}), errno.errorcode[ctypes.get_errno()]") == (-1, "EINVAL")
        assert {path.name: path.read_text() for path in pipeline.iterdir()} == {"k": "old"}
        assert writer("os.pread(fd, 100, 0), open(new).read()") == (b"new", "new")
        writer("os.fsync(fd)")
        assert writer(f"swap({swapped})") == 0
        assert {path.name: path.read_text() for path in pipeline.iterdir()} == {"k": "new", "new": "old"}
        writer("os.close(fd)")


# What was displaced


@pytest.mark.parametrize("how", ["mv $run/d d", "flock d true"])
def test_an_object_that_a_rename_evicted(pipeline: Path, run: Path, how: str) -> None:
    """It may answer for a moment longer, to whoever had it cached; not for longer than that."""
    for name in "abc":
        (pipeline / name).write_text(name)
    (run / "d").write_text("d")
    with Other() as watcher:
        watcher("os.chdir(path); [open(name).read() for name in 'abc']", path=str(pipeline))
        sh(how, pipeline, run=run)
        assert watcher("sorted(os.listdir('.'))") == ["b", "c", "d"]
        wait_until(lambda: not watcher("os.path.exists('a')"), 5)
        with refused(errno.ENOENT):
            watcher("open('a')")


def test_rm_brings_back_what_it_displaced(pipeline: Path) -> None:
    """A pipeline with a limit of 3 that holds k2, k3, k4 holds k1, k2, k3 after `rm k4`; both go by `rm k4 k1`."""
    sh("for i in 1 2 3 4; do echo $i > k$i; done", pipeline)
    assert sh("ls; rm k4; ls", pipeline).split() == ["k2", "k3", "k4", "k1", "k2", "k3"]
    assert sh("echo 5 > k5; rm k5; rm k1; ls", pipeline).split() == ["k2", "k3"]


_CLOCK = """
import os, time
_real, _shift = time.time_ns, int(os.environ["CLOCK_SHIFT_NS"])
time.time_ns = lambda: _real() + _shift
"""


@pytest.mark.parametrize(("minutes", "back"), [(9, True), (11, False)])
def test_nothing_comes_back_after_ten_minutes(make_mount: MakeMount, tmp_path: Path, minutes: int, back: bool) -> None:
    """By the daemon's clock: what is kept aside comes back until then, and its space is free after that."""
    (tmp_path / "sitecustomize.py").write_text(_CLOCK)
    store = make_mount(pipeline_object_limit=1)
    (store.pipeline / "p").mkdir()
    (store.pipeline / "p/old").write_text("old")
    (store.pipeline / "p/new").write_text("new")
    assert listed(store.pipeline / "p") == ["new"]
    store.unmount()
    shifted = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "CLOCK_SHIFT_NS": str(minutes * 60 * 10**9)}
    later = make_mount(store=store.store, environment=shifted, pipeline_object_limit=1)
    if not back:
        wait_until(lambda: os.getxattr(later.pipeline / "p/new", "fusefs.evicted") == b"")
    (later.pipeline / "p/new").unlink()
    assert listed(later.pipeline / "p") == (["old"] if back else [])


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A filesystem of 20 MiB."""
    with disks.small_disk(20) as disk:
        yield disk


@pytest.mark.slow
def test_a_full_disk_takes_what_is_kept_aside(small_disk: Path, make_mount: MakeMount) -> None:
    """Many more values than fit, each evicting the last: none is refused for good."""
    store = make_mount(store=small_disk / "objects.db", pipeline_object_limit=1)
    store.expect_log("disk is full")
    directory = store.pipeline / "p"
    directory.mkdir()

    def put(number: int) -> bool:
        try:
            (directory / f"k{number}").write_bytes(bytes([number]) * 2_000_000)
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017
            return False
        return True

    for number in range(11):
        wait_until(lambda n=number: put(n))  # type: ignore[misc]
    assert listed(directory) == ["k10"]


def test_rmdir_of_a_directory_whose_objects_came_back(pipeline: Path) -> None:
    """`rm -r` empties a directory, and what that brought back into it does not keep it; an object of its own does."""
    sh("mkdir d; for i in 1 2 3; do echo $i > d/$i; done; mkdir e; echo 4 > e/4; echo 5 > e/5", pipeline)
    assert listed(pipeline / "d") == ["3"]
    sh("rm -r e d", pipeline)
    assert listed(pipeline) == []
    sh("mkdir d; for i in 1 2 3; do echo $i > d/$i; done; echo 4 > x; rm x", pipeline)
    assert listed(pipeline / "d") == ["1", "2", "3"]
    with refused(errno.ENOTEMPTY):
        (pipeline / "d").rmdir()
    sh("for i in 6 7 8; do echo $i > d/$i; done; rm d/6 d/7 d/8", pipeline)
    found = listed(pipeline / "d")
    (pipeline / "d").rmdir()
    assert found != []
    assert listed(pipeline) == []


def test_gzip_of_the_oldest(shared: MountedStore) -> None:
    """At the limit gzip says that it cannot remove what its output displaced; no other object is lost."""
    full = FullPipeline(shared, 3)
    done = run_sh("gzip a", full.path)
    assert "a: No such file" in done.stderr
    assert listed(full.path) == ["a.gz", "b", "c"]
    assert sh("zcat a.gz", full.path) == before("a")
