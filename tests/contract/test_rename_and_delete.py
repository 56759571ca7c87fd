"""Rename, delete."""

import errno
import os
from pathlib import Path

import pytest

from tests.support.mounting import MountedStore
from tests.support.processes import Other, end, sh, start_python
from tests.support.renaming import EXCHANGE, NOREPLACE, WHITEOUT, renameat2
from tests.support.shared_mount import listed, refused

pytestmark = pytest.mark.mount


def test_rename_replaces(pipeline: Path) -> None:
    """rename is atomic and replaces."""
    (pipeline / "k").write_text("old")
    (pipeline / "new").write_text("new")
    os.rename(pipeline / "new", pipeline / "k")
    assert listed(pipeline) == ["k"]
    assert (pipeline / "k").read_text() == "new"
    with refused(errno.ENOENT):
        os.rename(pipeline / "new", pipeline / "k")
    os.rename(pipeline / "k", pipeline / "k")
    assert (pipeline / "k").read_text() == "new"


def test_rename_is_atomic(pipeline: Path) -> None:
    """rename is atomic: a reader always finds the one value or the other, whole."""
    (pipeline / "k").write_bytes(b"a" * 20_000)
    writing = """
import os, sys
for number in range(150):
    with open(sys.argv[1] + "/" + sys.argv[2], "wb") as file:
        file.write(sys.argv[2].encode() * (20_000 + number))
    os.rename(sys.argv[1] + "/" + sys.argv[2], sys.argv[1] + "/k")
"""
    reading = """
import sys
for number in range(600):
    content = open(sys.argv[1] + "/k", "rb").read()
    assert len(content) >= 20_000 and len(set(content)) == 1, (len(content), set(content))
"""
    end([start_python(writing, pipeline, "a"), start_python(writing, pipeline, "b"), start_python(reading, pipeline)])
    assert listed(pipeline) == ["k"]


def test_rename_across_pipelines_and_runs(pipeline: Path, other_pipeline: Path, run: Path) -> None:
    """Within and across pipelines and runs."""
    (run / "model").write_text("trained")
    (pipeline / "model").write_text("old")
    sh('mv "$run/model" model', pipeline, run=run)
    assert (listed(run), (pipeline / "model").read_text()) == ([], "trained")
    sh('mv model "$other"/m', pipeline, other=other_pipeline)
    assert (listed(pipeline), (other_pipeline / "m").read_text()) == ([], "trained")
    os.rename(other_pipeline / "m", run / "back")
    assert (listed(other_pipeline), (run / "back").read_text()) == ([], "trained")


def test_moving_moves_no_bytes(shared: MountedStore, pipeline: Path, run: Path) -> None:
    """`mv /run/42/model /pipeline/app/model` moves no bytes."""
    (run / "model").write_bytes(os.urandom(8 << 20))
    before = (run / "model").stat()
    written = _store_bytes(shared)
    sh('mv "$run"/model model', pipeline, run=run)
    after = (pipeline / "model").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert _store_bytes(shared) - written < 1 << 20


def _store_bytes(store: MountedStore) -> int:
    return sum(path.stat().st_size for path in store.directory.glob("objects.db*"))


def test_rename_noreplace(pipeline: Path, run: Path) -> None:
    """RENAME_NOREPLACE works."""
    (pipeline / "a").write_text("a")
    (pipeline / "b").write_text("b")
    (pipeline / "d").mkdir()
    for taken in ("b", "d"):
        with refused(errno.EEXIST):
            renameat2(pipeline / "a", pipeline / taken, NOREPLACE)
    assert ((pipeline / "a").read_text(), (pipeline / "b").read_text()) == ("a", "b")
    renameat2(pipeline / "a", run / "c", NOREPLACE)
    assert (listed(pipeline), (run / "c").read_text()) == (["b", "d"], "a")


def test_rename_exchange(pipeline: Path, run: Path) -> None:
    """RENAME_EXCHANGE works."""
    (pipeline / "a").write_text("a")
    (run / "b").write_text("b")
    renameat2(pipeline / "a", run / "b", EXCHANGE)
    assert ((pipeline / "a").read_text(), (run / "b").read_text()) == ("b", "a")
    with refused(errno.ENOENT):
        renameat2(pipeline / "a", pipeline / "missing", EXCHANGE)
    assert listed(pipeline) == ["a"]


def test_rename_exchange_of_different_kinds(pipeline: Path) -> None:
    """RENAME_EXCHANGE works, also between an object, a directory and a symlink."""
    (pipeline / "k").write_text("k")
    (pipeline / "d").mkdir()
    (pipeline / "d/in").write_text("in")
    (pipeline / "l").symlink_to("nowhere")
    renameat2(pipeline / "k", pipeline / "d", EXCHANGE)
    assert ((pipeline / "d").read_text(), (pipeline / "k/in").read_text()) == ("k", "in")
    renameat2(pipeline / "k", pipeline / "l", EXCHANGE)
    assert (os.readlink(pipeline / "k"), listed(pipeline / "l")) == ("nowhere", ["in"])
    with refused(errno.EINVAL):
        renameat2(pipeline / "l", pipeline / "l/in", EXCHANGE)


def test_unknown_flags_of_rename(pipeline: Path) -> None:
    """Any other flag of renameat2 is EINVAL."""
    (pipeline / "k").write_text("k")
    with refused(errno.EINVAL):
        renameat2(pipeline / "k", pipeline / "l", WHITEOUT)
    with refused(errno.EINVAL):
        renameat2(pipeline / "k", pipeline / "l", NOREPLACE | EXCHANGE)
    assert listed(pipeline) == ["k"]


def test_directories_are_renamed(pipeline: Path, other_pipeline: Path, run: Path) -> None:
    """Directories inside a pipeline or run can be renamed."""
    sh("mkdir -p a/b e; echo x > a/b/k; ln -s b/k a/l", pipeline)
    os.rename(pipeline / "a", pipeline / "c")
    assert (pipeline / "c/b/k").read_text() == "x\n"
    os.rename(pipeline / "c", pipeline / "e")  # over an empty one
    assert (pipeline / "e/l").read_text() == "x\n"
    os.rename(pipeline / "e", run / "moved")
    assert (run / "moved/b/k").read_text() == "x\n"
    assert listed(pipeline) == []
    os.rename(run / "moved/b", other_pipeline / "b")
    assert sh("find . | sort", other_pipeline) == ".\n./b\n./b/k\n"
    assert sh("find . | sort", run) == ".\n./moved\n./moved/l\n"


def test_renames_of_directories_that_cannot_be(pipeline: Path) -> None:
    """Directories can be renamed, as everywhere: not over what is not empty, and not into themselves."""
    sh("mkdir -p a/b full; echo x > full/k; echo y > k", pipeline)
    for source, target, number in [
        ("a", "full", errno.ENOTEMPTY),
        ("a", "k", errno.ENOTDIR),
        ("k", "a", errno.EISDIR),
        ("a", "a/b/c", errno.EINVAL),
        ("a/b", "a", errno.ENOTEMPTY),
        ("missing", "x", errno.ENOENT),
        ("k", "missing/k", errno.ENOENT),
        ("k", "k/below", errno.ENOTDIR),
    ]:
        with refused(number):
            os.rename(pipeline / source, pipeline / target)
    assert sh("find . | sort", pipeline) == ".\n./a\n./a/b\n./full\n./full/k\n./k\n"


def test_open_files_of_a_renamed_directory(pipeline: Path) -> None:
    """Directories can be renamed: who has an object in it open goes on, writers publish in the new place."""
    sh("mkdir a; echo old > a/k", pipeline)
    with Other() as process:
        process("reader = os.open(path, os.O_RDONLY)", path=pipeline / "a/k")
        process("writer = os.open(path, os.O_WRONLY | os.O_CREAT); os.write(writer, b'new')", path=pipeline / "a/new")
        os.rename(pipeline / "a", pipeline / "b")
        assert process("os.read(reader, 100)") == b"old\n"
        process("os.close(writer)")
    assert (pipeline / "b/new").read_text() == "new"


def test_writers_follow_no_rename_of_others(pipeline: Path) -> None:
    """rename moves the committed value: a Put under way stays at the name that it was opened by."""
    (pipeline / "k").write_text("old")
    with Other() as writer:
        writer("fd = os.open(path, os.O_WRONLY | os.O_TRUNC); os.write(fd, b'new')", path=pipeline / "k")
        os.rename(pipeline / "k", pipeline / "kept")
        writer("os.close(fd)")
    assert (pipeline / "kept").read_text() == "old"
    assert (pipeline / "k").read_text() == "new"


def test_backup_before_overwriting(pipeline: Path) -> None:
    """rename within a script: `mv k k.1; cmd > k` keeps both."""
    sh(
        "for i in 1 2 3; do [ -e k.1 ] && mv k.1 k.2; [ -e k ] && mv k k.1; echo $i > k; done; cat k k.1 k.2 > all",
        pipeline,
    )
    assert (pipeline / "all").read_text() == "3\n2\n1\n"


def test_symlinks_are_renamed_and_removed(pipeline: Path) -> None:
    """rename and rm work on a symlink itself, not on what it points to."""
    (pipeline / "k").write_text("k")
    (pipeline / "l").symlink_to("k")
    os.rename(pipeline / "l", pipeline / "m")
    assert os.readlink(pipeline / "m") == "k"
    os.unlink(pipeline / "m")
    assert listed(pipeline) == ["k"]


def test_rm_deletes_at_once(pipeline: Path) -> None:
    """rm deletes at once; open readers keep their snapshot."""
    (pipeline / "k").write_bytes(b"x" * 100_000)
    with Other() as reader:
        reader("fd = os.open(path, os.O_RDONLY)", path=pipeline / "k")
        sh("cat k > /dev/null; rm k", pipeline)
        assert not reader("os.path.exists(path)")
        assert reader("os.listdir(os.path.dirname(path))") == []
        assert reader("len(os.read(fd, 1_000_000))") == 100_000
        assert reader("os.fstat(fd).st_size") == 100_000
        with refused(errno.ENOENT):
            reader("open(path)")


def test_rm_of_a_directory(pipeline: Path) -> None:
    """rm deletes objects, rmdir directories, and neither the other."""
    sh("mkdir d; echo x > k", pipeline)
    with refused(errno.EISDIR):
        os.unlink(pipeline / "d")
    with refused(errno.ENOTDIR):
        os.rmdir(pipeline / "k")
    with refused(errno.ENOENT):
        os.unlink(pipeline / "missing")
    with refused(errno.ENOENT):
        os.rmdir(pipeline / "missing")
    assert listed(pipeline) == ["d", "k"]
