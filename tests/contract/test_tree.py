"""The tree: what lies where, what the names may be."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import sh
from tests.support.shared_mount import listed, refused

pytestmark = pytest.mark.mount


def test_the_root_holds_two_directories(shared: MountedStore) -> None:
    """/pipeline/<name>/<key> and /run/<id>/<key>."""
    assert listed(shared.path) == ["pipeline", "run"]
    assert stat.S_ISDIR(shared.pipeline.stat().st_mode)
    assert stat.S_ISDIR(shared.run.stat().st_mode)


def test_fifty_objects_by_default(pipeline: Path) -> None:
    """A pipeline has at most `pipeline_object_limit` objects, 50 by default."""
    sh("for i in $(seq 101 152); do echo $i > k$i; done", pipeline)
    assert listed(pipeline) == [f"k{number}" for number in range(103, 153)]


def test_a_run_has_no_limit_in_number(run: Path) -> None:
    """No limit in the number of a run's objects."""
    for number in range(120):
        (run / f"k{number}").write_text("x")
    assert len(listed(run)) == 120


def test_fifty_newer_runs_by_default(make_mount: MakeMount) -> None:
    """A run is gone once `run_object_expiry` newer runs exist, 50 by default."""
    store = make_mount()
    for number in range(50):
        (store.run / f"r{number:02}").mkdir()
    assert len(listed(store.run)) == 50
    (store.run / "r50").mkdir()
    assert listed(store.run) == [f"r{number:02}" for number in range(1, 51)]


def test_mkdir_makes_a_pipeline_and_starts_a_run(shared: MountedStore) -> None:
    """`mkdir /pipeline/NAME` makes a pipeline, `mkdir /run/ID` starts a run."""
    sh("mkdir pipeline/made run/started", shared.path)
    assert b"made" in shared.cli("pipeline", "list", exit_code=0).stdout
    assert b"started" in shared.cli("run", "list", exit_code=0).stdout


def test_rmdir_wants_them_empty(shared: MountedStore, pipeline: Path, run: Path) -> None:
    """`rmdir` wants them empty."""
    for directory in (pipeline, run):
        (directory / "k").write_text("x")
        with refused(errno.ENOTEMPTY):
            directory.rmdir()
        assert (directory / "k").read_text() == "x"
        (directory / "k").unlink()
        directory.rmdir()
        assert not directory.exists()


def test_a_directory_in_a_pipeline_is_not_empty(pipeline: Path) -> None:
    """`rmdir` wants them empty: a directory counts as well."""
    (pipeline / "d").mkdir()
    with refused(errno.ENOTEMPTY):
        pipeline.rmdir()


def test_rm_r_works(shared: MountedStore, pipeline: Path, run: Path) -> None:
    """`rm -r` works."""
    for directory in (pipeline, run):
        sh("mkdir -p a/b c; for i in 1 2 3 4 5; do echo $i > a/b/$i; echo $i > $i; done; ln -s a link", directory)
        sh('rm -r "$whole"', shared.path, whole=directory)
        assert not directory.exists()
        assert directory.name not in listed(directory.parent)


@pytest.mark.parametrize("name", ["a", "0", "A.b_c-d", "x" * 128, "9.", "a..b"])
def test_names_that_are_accepted(shared: MountedStore, name: str) -> None:
    """Names and ids match `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`."""
    for parent in (shared.pipeline, shared.run):
        (parent / name).mkdir()
        assert name in listed(parent)
        (parent / name).rmdir()


@pytest.mark.parametrize("name", [".a", "_a", "-a", "a b", "a:b", "a%", "ü", "a\n", "x" * 129, "a\udcff", "~"])
def test_names_that_are_invalid(shared: MountedStore, name: str) -> None:
    """Any other name or id is EINVAL."""
    for parent in (shared.pipeline, shared.run):
        before = listed(parent)
        with refused(errno.EINVAL):
            (parent / name).mkdir()
        assert listed(parent) == before


def test_a_name_that_no_filesystem_takes(shared: MountedStore) -> None:
    """A part is at most 255 bytes: longer is ENAMETOOLONG."""
    with refused(errno.ENAMETOOLONG, errno.EINVAL):
        (shared.pipeline / ("x" * 256)).mkdir()


def test_the_root_is_fixed(shared: MountedStore) -> None:
    """The root and its two directories are fixed: creating, removing or renaming there is EPERM."""
    root = shared.path
    before = listed(root)
    with refused(errno.EPERM):
        (root / "new").mkdir()
    with refused(errno.EPERM):
        (root / "new").write_text("x")
    with refused(errno.EPERM):
        (root / "new").symlink_to("pipeline")
    for fixed in (shared.pipeline, shared.run):
        with refused(errno.EPERM):
            fixed.rmdir()
        with refused(errno.EPERM):
            fixed.rename(root / "new")
    assert listed(root) == before


def test_objects_live_inside_pipelines_and_runs(shared: MountedStore, pipeline: Path) -> None:
    """The root and its two directories are fixed: no object, symlink or directory from elsewhere there, EPERM."""
    (pipeline / "k").write_text("x")
    (pipeline / "d").mkdir()
    for parent in (shared.pipeline, shared.run):
        before = listed(parent)
        with refused(errno.EPERM):
            (parent / "new").write_text("x")
        with refused(errno.EPERM):
            (parent / "new").symlink_to(pipeline)
        for name in ("k", "d"):
            with refused(errno.EPERM):
                (pipeline / name).rename(parent / "new")
            with refused(errno.EPERM):
                (pipeline / name).rename(shared.path / "new")
        assert listed(parent) == before
    assert listed(pipeline) == ["d", "k"]


def test_pipelines_and_runs_keep_their_names(shared: MountedStore, pipeline: Path, run: Path) -> None:
    """Creating, removing or renaming there is EPERM: also of a pipeline or a run as a whole."""
    for directory in (pipeline, run):
        with refused(errno.EPERM):
            directory.rename(directory.parent / "renamed")
        assert directory.is_dir()
        assert not (directory.parent / "renamed").exists()


def test_parts_of_a_key_are_directories(shared: MountedStore, pipeline: Path) -> None:
    """A key may hold `/`: the parts before the last are directories, made by mkdir."""
    with refused(errno.ENOENT):
        (pipeline / "a/b/k").write_text("x")
    (pipeline / "a/b").mkdir(parents=True)
    (pipeline / "a/b/k").write_text("x")
    assert listed(pipeline) == ["a"]
    assert (pipeline / "a/b/k").read_text() == "x"
    assert shared.cli("pipeline", "object", "list", pipeline.name, exit_code=0).stdout.split() == [b"a/b/k"]


def test_directories_are_kept_while_empty(make_mount: MakeMount) -> None:
    """Directories are kept while empty."""
    store = make_mount()
    (store.pipeline / "p/a/b").mkdir(parents=True)
    (store.pipeline / "p/a/b/k").write_text("x")
    (store.pipeline / "p/a/b/k").unlink()
    assert (store.pipeline / "p/a/b").is_dir()
    store.remount()
    assert (store.pipeline / "p/a/b").is_dir()


def test_a_part_of_255_bytes(pipeline: Path) -> None:
    """A part is at most 255 bytes: longer is ENAMETOOLONG."""
    fits, too_long = "k" * 255, "k" * 256
    (pipeline / fits).write_text("x")
    (pipeline / ("d" * 255)).mkdir()
    assert (pipeline / fits).read_text() == "x"
    with refused(errno.ENAMETOOLONG):
        (pipeline / too_long).write_text("x")
    with refused(errno.ENAMETOOLONG):
        (pipeline / too_long).mkdir()
    with refused(errno.ENAMETOOLONG):
        (pipeline / too_long).symlink_to("x")
    with refused(errno.ENAMETOOLONG):
        (pipeline / fits).rename(pipeline / too_long)
    with refused(errno.ENAMETOOLONG):
        (pipeline / too_long).stat()
    assert listed(pipeline) == ["d" * 255, fits]


def test_bytes_of_a_part_count_not_characters(pipeline: Path) -> None:
    """A part is at most 255 bytes."""
    with refused(errno.ENAMETOOLONG):
        (pipeline / ("ü" * 128)).write_text("x")
    (pipeline / ("ü" * 127)).write_text("x")
    assert listed(pipeline) == ["ü" * 127]


def test_deep_keys(pipeline: Path) -> None:
    """Depth and length of a key are the kernel's affair (PATH_MAX a call)."""
    directory = os.open(pipeline, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=directory)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    fd = os.open("k", os.O_WRONLY | os.O_CREAT, dir_fd=directory)
    os.write(fd, b"deep")
    os.close(fd)
    fd = os.open("k", os.O_RDONLY, dir_fd=directory)
    assert os.read(fd, 10) == b"deep"
    os.close(fd)
    assert os.listdir(directory) == ["k"]
    os.close(directory)
    sh("rm -r d*", pipeline)
    assert listed(pipeline) == []


@pytest.mark.parametrize("name", [b"\xff\xfe", b"caf\xe9", b"a\nb", b" ", b"%_*?", "ü".encode(), b"u\xcc\x88", b"\x01"])
def test_names_are_bytes(pipeline: Path, name: bytes) -> None:
    """Names are bytes: what is not UTF-8 is kept as it is."""
    path = os.path.join(os.fsencode(pipeline), name)
    with open(path, "wb") as file:
        file.write(name)
    os.mkdir(path + b".d")
    os.symlink(name, path + b".l")
    assert sorted(os.listdir(os.fsencode(pipeline))) == sorted([name, name + b".d", name + b".l"])
    with open(path + b".l", "rb") as file:
        assert file.read() == name
    assert os.readlink(path + b".l") == name


def test_names_that_look_alike_are_different(pipeline: Path) -> None:
    """Names are bytes: neither case nor composition makes two of them one."""
    for name in ("K", "k", "\u00fc", "u\u0308"):
        (pipeline / name).write_text(name)
    assert len(listed(pipeline)) == 4
    assert (pipeline / "k").read_text() == "k"


def test_objects_are_regular_files(pipeline: Path, run: Path) -> None:
    """Objects are regular files."""
    for directory in (pipeline, run):
        (directory / "k").write_text("x")
        found = (directory / "k").stat()
        assert stat.S_ISREG(found.st_mode)
        assert (found.st_size, found.st_nlink, found.st_uid) == (1, 1, os.geteuid())


def test_symlinks_are_kept(pipeline: Path, run: Path) -> None:
    """Symlinks inside a pipeline or run are kept too."""
    for directory in (pipeline, run):
        (directory / "d").mkdir()
        (directory / "k").write_text("x")
        (directory / "d/up").symlink_to("../k")
        (directory / "dangling").symlink_to("nowhere")
        assert (directory / "d/up").read_text() == "x"
        assert (directory / "d/up").is_symlink()
        assert os.readlink(directory / "dangling") == "nowhere"
        assert (directory / "dangling").lstat().st_size == len("nowhere")
        assert not (directory / "dangling").exists()
        with refused(errno.EEXIST):
            (directory / "k").symlink_to("other")
        long_target = "t" * 4095
        (directory / "long").symlink_to(long_target)
        assert os.readlink(directory / "long") == long_target


def test_cp_a_and_tar_keep_symlinks(pipeline: Path, run: Path, tmp_path: Path) -> None:
    """Symlinks are kept too (cp -a, tar and package caches need them)."""
    sh(
        "mkdir -p t/d; echo x > t/d/k; ln -s d/k t/link; ln -s gone t/dangling; chmod 750 t/d; chmod 600 t/d/k",
        tmp_path,
    )
    sh('cp -a "$source"/t . && diff -r --no-dereference "$source"/t t', pipeline, source=tmp_path)
    sh('tar -C "$source" -c t | tar x && diff -r --no-dereference "$source"/t t', run, source=pipeline)
    assert os.readlink(run / "t/dangling") == "gone"
    assert stat.S_IMODE((run / "t/d").stat().st_mode) == 0o750
    assert stat.S_IMODE((run / "t/d/k").stat().st_mode) == 0o600
    original = (tmp_path / "t/d/k").stat()
    assert (pipeline / "t/d/k").stat().st_mtime_ns == original.st_mtime_ns
    assert (run / "t/d/k").stat().st_mtime == int(original.st_mtime)  # tar keeps whole seconds


def test_hard_links_and_special_files(pipeline: Path, run: Path) -> None:
    """Hard links, devices, FIFOs and sockets: EPERM."""
    for directory in (pipeline, run):
        (directory / "k").write_text("x")
        with refused(errno.EPERM):
            os.link(directory / "k", directory / "link")
        with refused(errno.EPERM):
            os.mkfifo(directory / "fifo")
        with refused(errno.EPERM):
            os.mknod(directory / "node", stat.S_IFIFO | 0o600)
        if os.geteuid() == 0:
            with refused(errno.EPERM):
                os.mknod(directory / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        with socket.socket(socket.AF_UNIX) as server, refused(errno.EPERM):
            _bind_in(directory, server)
        assert listed(directory) == ["k"]


def _bind_in(directory: Path, server: socket.socket) -> None:
    """Bind by a relative name: the whole path is too long for the address of a socket."""
    before = os.getcwd()
    os.chdir(directory)
    try:
        server.bind("socket")
    finally:
        os.chdir(before)


def test_only_objects_count(make_mount: MakeMount) -> None:
    """Only objects count against the limit, not directories."""
    store = make_mount(pipeline_object_limit=2)
    directory = store.pipeline / "p"
    sh("mkdir p; cd p; mkdir a b c d; echo 1 > a/k1; echo 2 > k2; mkdir e; ln -s k2 l1; ln -s k2 l2", store.pipeline)
    assert listed(directory) == ["a", "b", "c", "d", "e", "k2", "l1", "l2"]
    assert (directory / "a/k1").read_text() == "1\n"
    sh("echo 3 > k3", directory)
    assert listed(directory / "a") == []
    assert (directory / "a").is_dir()
