"""Inode numbers, link counts, sizes and blocks."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.posix.twins import Twins
from tests.support.processes import Other, sh

pytestmark = pytest.mark.mount


def _furnish(directory: Path) -> list[Path]:
    """Something of every kind; returns the paths."""
    (directory / "k").write_bytes(b"value")
    (directory / "empty").touch()
    (directory / "d/e").mkdir(parents=True)
    (directory / "d/k").write_bytes(b"x" * 100_000)
    (directory / "l").symlink_to("k")
    return [directory / name for name in ("k", "empty", "d", "d/e", "d/k", "l")]


def _numbers(paths: list[Path]) -> list[int]:
    return [path.lstat().st_ino for path in paths]


def _listed_number(path: Path) -> int:
    with os.scandir(path.parent) as entries:
        return next(entry.inode() for entry in entries if entry.name == path.name)


def _other_process(path: Path) -> int:
    with Other() as other:
        found: int = other("os.lstat(path).st_ino", path=str(path))
        return found


def _number_of_descriptor(path: Path) -> int:
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


@pytest.mark.parametrize("way", [_listed_number, _other_process, _number_of_descriptor])
def test_all_ways_tell_the_same_number(run: Path, way: Callable[[Path], int]) -> None:
    """A listing, another process, and a descriptor."""
    paths = _furnish(run)
    assert [way(path) for path in paths] == _numbers(paths)
    assert len(set(_numbers(paths))) == len(paths)


def test_a_reader_and_its_name(twins: Twins) -> None:
    """fstat of a reader tells the number, the size and the link count of the name; of 0 links once it is removed."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(b"value")
        with (directory / "k").open("rb") as file:
            found: list[object] = [os.path.samestat(os.fstat(file.fileno()), (directory / "k").stat())]
            number = os.fstat(file.fileno()).st_ino
            (directory / "k").unlink()
            after = os.fstat(file.fileno())
            return [*found, after.st_ino == number, after.st_nlink, after.st_size, file.read()]

    assert twins.same(steps) == [True, True, 0, 5, b"value"]


CHANGES: dict[str, Callable[[Path], None]] = {
    "chmod": lambda path: path.chmod(0o700),
    "chown": lambda path: os.chown(path, 1, 1),
    "utime": lambda path: os.utime(path, (1, 1)),
    "setxattr": lambda path: os.setxattr(path, "user.a", b"x"),
    "rename": lambda path: (path.rename(path.with_name("moved")), path.with_name("moved").rename(path))[0] and None,
    "open to write": lambda path: path.is_dir() or os.close(os.open(path, os.O_RDWR)),
    "removal beside it": lambda path: (path.with_name("new").touch(), path.with_name("new").unlink())[1],
    "touch": lambda path: path.touch(),
    "read": lambda path: None if path.is_dir() else path.read_bytes() and None,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_no_put_keeps_the_number(twins: Twins, change: Callable[[Path], None]) -> None:
    """Attributes, renames and reading leave the number of objects and directories, as on a local filesystem."""

    def steps(directory: Path) -> list[object]:
        paths = [path for path in _furnish(directory) if not path.is_symlink()]
        before = _numbers(paths)
        for path in paths:
            change(path)
        return [_numbers(paths) == before, [_listed_number(path) for path in paths] == before]

    assert twins.same(steps) == [True, True]


def test_over_a_remount(make_mount: MakeMount) -> None:
    """The numbers are those of the store, not of the daemon; none that went is given to something else."""
    store = make_mount()
    (store.run / "1").mkdir()
    paths = [*_furnish(store.run / "1"), store.run / "1", store.run, store.pipeline, store.path]
    before = _numbers(paths)
    (store.run / "1/gone").write_bytes(b"x")
    gone = (store.run / "1/gone").stat().st_ino
    (store.run / "1/gone").unlink()
    store.remount()
    assert _numbers(paths) == before
    assert [_listed_number(path) for path in paths[:-1]] == before[:-1]
    for number in range(20):
        (store.run / f"1/new{number}").touch()
    assert len({path.lstat().st_ino for path in (store.run / "1").iterdir()} | {gone}) == 20 + 4 + 1
    store.kill()
    store.remount()
    assert _numbers(paths) == before


def test_numbers_across_a_rename_of_directories(run: Path, pipeline: Path) -> None:
    """What is below a directory keeps its numbers when the directory moves, to a pipeline too."""
    _furnish(run)
    before = _numbers([run / name for name in ("d", "d/e", "d/k")])
    os.rename(run / "d", pipeline / "moved")
    assert _numbers([pipeline / name for name in ("moved", "moved/e", "moved/k")]) == before


def test_an_exchange_swaps_the_numbers(run: Path) -> None:
    """After `mv --exchange` or two renames each number is where its value is."""
    (run / "a").write_bytes(b"a")
    (run / "b").write_bytes(b"b")
    before = _numbers([run / "a", run / "b"])
    sh("mv a c; mv b a; mv c b", run)
    assert _numbers([run / "b", run / "a"]) == before
    assert (run / "b").read_bytes() == b"a"


def test_every_put_has_a_number_of_its_own(run: Path) -> None:
    """Every Put gives a name a new number, which no other name has or had."""
    seen = set()
    for number in range(50):
        (run / "k").write_bytes(str(number).encode())
        seen.add((run / "k").stat().st_ino)
        with (run / "log").open("ab") as file:
            file.write(b"line\n")
        seen.add((run / "log").stat().st_ino)
    assert len(seen) == 100


def test_links_and_kinds(twins: Twins) -> None:
    """One link for objects and symlinks, the right kind for all, sizes of objects and symlinks in bytes."""

    def steps(directory: Path) -> list[object]:
        found: list[object] = []
        for path in _furnish(directory):
            info = path.lstat()
            is_directory = stat.S_ISDIR(info.st_mode)
            found.append((stat.S_IFMT(info.st_mode), None if is_directory else (info.st_nlink, info.st_size)))
            found.append((info.st_dev == directory.stat().st_dev, info.st_rdev))
        return found

    found = twins.same(steps)
    assert found[0] == (stat.S_IFREG, (1, 5))
    assert found[10] == (stat.S_IFLNK, (1, 1))


def test_links_of_directories(run: Path) -> None:
    """Directories have a link count of 1, and find looks into all of them."""
    for number in range(5):
        (run / f"d/{number}/e").mkdir(parents=True)
    assert {path.stat().st_nlink for path in [run, *run.rglob("*")]} == {1}
    assert sh("find . -type d | wc -l", run) == "12\n"


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4096, 100_000, 3_000_000])
def test_blocks(run: Path, size: int) -> None:
    """st_blocks covers the size and not much more; du and ls -s tell of it."""
    (run / "k").write_bytes(b"x" * size)
    info = (run / "k").stat()
    assert size <= info.st_blocks * 512 < size + 8192
    assert info.st_blksize % 4096 == 0
    said = sh("du -B1 k; du -b k; stat -c '%s %b %B' k", run).split()
    assert said == [str(info.st_blocks * 512), "k", str(size), "k", str(size), str(info.st_blocks), "512"]


def test_du_of_a_tree(twins: Twins) -> None:
    """du -b adds up what objects hold, and du counts each name once."""

    def steps(directory: Path) -> object:
        for number in range(20):
            (directory / f"d{number % 3}").mkdir(exist_ok=True)
            (directory / f"d{number % 3}" / f"k{number}").write_bytes(b"x" * number * 1000)
        return sh(
            "find . -type f -printf '%s\\n' | sort -n; find . -type f -print0 | du -cb --files0-from=- | tail -1",
            directory,
        )

    found = twins.same(steps)
    assert isinstance(found, str)
    assert found.split()[-2:] == [str(1000 * sum(range(20))), "total"]


def test_the_writer_sees_its_own_blocks(run: Path) -> None:
    """fstat of a writer: size and blocks grow as it writes, and shrink as it cuts."""
    with (run / "k").open("wb", buffering=0) as file:
        for size in (1, 5000, 200_000, 3_000_000, 100):
            file.truncate(size) if size == 100 else os.pwrite(file.fileno(), b"x", size - 1)
            info = os.fstat(file.fileno())
            assert info.st_size == size
            assert size <= info.st_blocks * 512 < size + 8192


def test_a_copy_with_times(run: Path, local: Path) -> None:
    """`cp -a` out of the mount and back keeps what stat tells of, but for the numbers."""
    _furnish(run)
    os.utime(run / "k", ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321))
    shutil.copytree(run, local / "copy", symlinks=True)
    shutil.copytree(local / "copy", run / "back", symlinks=True)
    names = ("k", "empty", "d/k")
    for name in names:
        one, two = (run / name).stat(), (run / "back" / name).stat()
        assert (one.st_mode, one.st_size, one.st_mtime_ns) == (two.st_mode, two.st_size, two.st_mtime_ns)
