"""The idioms of programs that replace a file atomically, call by call, at the limit."""

import errno
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.contract.full_pipelines import FullPipeline, after, before, expected
from tests.support.mounting import MountedStore
from tests.support.processes import Other
from tests.support.renaming import NOREPLACE, renameat2
from tests.support.shared_mount import refused

pytestmark = pytest.mark.mount


def named_temporary_file(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    os.replace(file.name, path)


def mkstemp_and_fsync(path: Path, text: str) -> None:
    fd, name = tempfile.mkstemp(dir=path.parent)
    os.write(fd, text.encode())
    os.fsync(fd)
    os.close(fd)
    os.replace(name, path)


def exclusive_and_rename(path: Path, text: str) -> None:
    with open(f"{path}.tmp", "x") as file:
        file.write(text)
    os.rename(f"{path}.tmp", path)


def replace_before_close(path: Path, text: str) -> None:
    with open(f"{path}.tmp", "w") as file:
        file.write(text)
        file.flush()
        os.replace(f"{path}.tmp", path)


def replace_before_writing(path: Path, text: str) -> None:
    with open(f"{path}.tmp", "w") as file:
        os.replace(f"{path}.tmp", path)
        file.write(text)


def replace_after_fsync_before_close(path: Path, text: str) -> None:
    with open(f"{path}.tmp", "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        os.replace(f"{path}.tmp", path)


def fsync_twice(path: Path, text: str) -> None:
    with open(f"{path}.tmp", "w") as file:
        for half in (text[:5], text[5:]):
            file.write(half)
            file.flush()
            os.fsync(file.fileno())
    os.replace(f"{path}.tmp", path)


def write_file_atomic(path: Path, text: str) -> None:
    """What npm does: a name with the process id, the value, its owner and mode, then the rename."""
    old, name = path.stat(), f"{path}.{os.getpid()}"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.write(fd, text.encode())
    os.fsync(fd)
    os.close(fd)
    os.chown(name, old.st_uid, old.st_gid)
    os.chmod(name, old.st_mode & 0o777)
    os.rename(name, path)


def a_lock_file(path: Path, text: str) -> None:
    """What git does with its index and its references."""
    name = f"{path}.lock"
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with refused(errno.EEXIST):
        os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    os.write(fd, text.encode())
    os.close(fd)
    os.rename(name, path)


def written_twice(path: Path, text: str) -> None:
    """The temporary name itself is overwritten before the rename."""
    Path(f"{path}.tmp").write_text("first")
    Path(f"{path}.tmp").write_text(text)
    os.rename(f"{path}.tmp", path)


def renamed_twice(path: Path, text: str) -> None:
    Path(f"{path}.tmp").write_text(text)
    os.rename(f"{path}.tmp", f"{path}.ready")
    os.rename(f"{path}.ready", path)


def one_temporary_name_over_another(path: Path, text: str) -> None:
    Path(f"{path}.1").write_text("first")
    Path(f"{path}.2").write_text(text)
    os.rename(f"{path}.2", f"{path}.1")
    os.rename(f"{path}.1", path)


def in_a_directory_of_its_own(path: Path, text: str) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        Path(directory, "new").write_text(text)
        os.replace(Path(directory, "new"), path)


def large_and_synced(path: Path, text: str) -> None:
    """A value that is stored in pieces while it is written."""
    with open(f"{path}.tmp", "w") as file:
        file.write("x" * 5_000_000)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        file.write(text)
        file.truncate()
    os.replace(f"{path}.tmp", path)


IDIOMS: list[Callable[[Path, str], None]] = [
    named_temporary_file,
    mkstemp_and_fsync,
    exclusive_and_rename,
    replace_before_close,
    replace_before_writing,
    replace_after_fsync_before_close,
    fsync_twice,
    write_file_atomic,
    a_lock_file,
    written_twice,
    renamed_twice,
    one_temporary_name_over_another,
    in_a_directory_of_its_own,
    large_and_synced,
]


@pytest.mark.parametrize("limit", [3, 2, 1])
@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda idiom: idiom.__name__)
def test_an_idiom_costs_no_other_object(shared: MountedStore, idiom: Callable[[Path, str], None], limit: int) -> None:
    """Replacing an object by a temporary file and a rename costs no other object at the limit."""
    for key in "abc"[:limit]:
        full = FullPipeline(shared, limit)
        idiom(full.path / key, after(key))
        assert full.values() == expected(full.keys, key), key
        assert full.order_of_eviction() == list(expected(full.keys, key)), key


def in_one_process(path: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:
        file.write(b"never published")


def after_fsync(path: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:
        file.write(b"published for a moment")
        file.flush()
        os.fsync(file.fileno())


def rename_onto_a_directory(path: Path) -> None:
    directory = path.parent / "directory"
    directory.mkdir()
    try:
        path.with_suffix(".tmp").write_text("new")
        with refused(errno.EISDIR):
            os.replace(path.with_suffix(".tmp"), directory)
        path.with_suffix(".tmp").unlink()
    finally:
        directory.rmdir()


def rename_that_may_not_replace(path: Path) -> None:
    # Not the oldest, which is evicted while the temporary name is there.
    target = path if path.name == "c" else path.parent / "c"
    path.with_suffix(".tmp").write_text("new")
    with refused(errno.EEXIST):
        renameat2(path.with_suffix(".tmp"), target, NOREPLACE)
    path.with_suffix(".tmp").unlink()


def rename_into_a_missing_directory(path: Path) -> None:
    path.with_suffix(".tmp").write_text("new")
    with refused(errno.ENOENT):
        os.replace(path.with_suffix(".tmp"), path.parent / "missing" / path.name)
    path.with_suffix(".tmp").unlink()


def rename_out_of_the_mount(path: Path) -> None:
    path.with_suffix(".tmp").write_text("new")
    with refused(errno.EXDEV):
        os.rename(path.with_suffix(".tmp"), path.parents[3] / "elsewhere")
    path.with_suffix(".tmp").unlink()


def moved_to_a_run(path: Path) -> None:
    run = path.parents[2] / "run" / f"of-{path.parent.name}-{path.name}"
    run.mkdir()
    path.with_suffix(".tmp").write_text("new")
    os.rename(path.with_suffix(".tmp"), run / "k")


def by_a_process_that_is_killed(path: Path) -> None:
    """Its temporary name is removed by the next one, as a stale lock is."""
    with Other() as writer:
        writer("open(path, 'w').write('new')", path=path.with_suffix(".lock"))
        writer.process.kill()
        writer.process.wait()
    with suppress(FileNotFoundError):
        path.with_suffix(".lock").unlink()


GIVEN_UP: list[Callable[[Path], None]] = [
    in_one_process,
    after_fsync,
    rename_onto_a_directory,
    rename_that_may_not_replace,
    rename_into_a_missing_directory,
    rename_out_of_the_mount,
    moved_to_a_run,
    by_a_process_that_is_killed,
]


# With a limit of 1 there is nothing that a rename could refuse to replace.
CASES = [(idiom, limit) for idiom in GIVEN_UP for limit in (3, 1) if (idiom, limit) != (rename_that_may_not_replace, 1)]


@pytest.mark.parametrize(("idiom", "limit"), CASES, ids=[f"{idiom.__name__}-{limit}" for idiom, limit in CASES])
def test_a_temporary_file_that_replaces_nothing(
    shared: MountedStore, idiom: Callable[[Path], None], limit: int
) -> None:
    """What the temporary name displaced comes back when it is deleted, also after a rename that failed."""
    for key in "abc"[:limit]:
        full = FullPipeline(shared, limit)
        idiom(full.path / key)
        assert full.values() == {each: before(each) for each in full.keys}, key
        assert full.order_of_eviction() == list(full.keys), key


def test_a_temporary_name_that_was_there_first(shared: MountedStore) -> None:
    """A temporary name costs no object, also when there was room for it and a Put that came later met the limit."""
    full = FullPipeline(shared, 3)
    (full.path / "a").unlink()
    (full.path / "tmp").write_text(after("c"))
    (full.path / "d").write_text(before("d"))
    os.rename(full.path / "tmp", full.path / "c")
    assert full.values() == expected("bcd", "c")


@pytest.mark.parametrize("written", ["", "more\n"])
def test_an_append_to_what_was_displaced(shared: MountedStore, written: str) -> None:
    """No byte of a log is lost when it is appended to while another's temporary name has its place."""
    full = FullPipeline(shared, 3)
    (full.path / "tmp").write_text(after("b"))
    with open(full.path / "a", "a") as log:
        log.write(written)
    os.rename(full.path / "tmp", full.path / "b")
    assert full.values() == {"a": before("a") + written, "b": after("b"), "c": before("c")}


@pytest.mark.parametrize("order", ["first in, first out", "first in, last out"])
@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("b", "a"), ("b", "c"), ("a", "c"), ("c", "b")])
def test_two_temporary_names_at_once(shared: MountedStore, one: str, other: str, order: str) -> None:
    """Two programs that replace their keys at the same time cost no third one, though each displaced the other's."""
    full = FullPipeline(shared, 3)
    for key in (one, other):
        (full.path / f"{key}.tmp").write_text(after(key))
    for key in (one, other) if order == "first in, first out" else (other, one):
        os.rename(full.path / f"{key}.tmp", full.path / key)
    assert full.values() == {key: after(key) if key in (one, other) else before(key) for key in "abc"}
