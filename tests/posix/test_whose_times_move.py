"""Which times move with which call: of the object and of its directory, compared with a local directory."""

import ctypes
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.posix.twins import Twins, outcome, tick
from tests.support.mounting import ROOT
from tests.support.processes import end, sh, start_python

pytestmark = pytest.mark.mount

LIBC = ctypes.CDLL(None, use_errno=True)
NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW = -100, 0x100


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _edit(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"more")


def _through(path: Path, step: Callable[[int], object], flags: int = os.O_RDWR) -> None:
    fd = os.open(path, flags)
    step(fd)
    os.close(fd)


CALLS: dict[str, Callable[[Path], object]] = {
    "create": lambda d: (d / "new").touch(),
    "create with a value": lambda d: (d / "new").write_bytes(b"x"),
    "create exclusively": lambda d: os.close(os.open(d / "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)),
    "overwrite": lambda d: (d / "k").write_bytes(b"x"),
    "append": lambda d: _append(d / "k"),
    "edit": lambda d: _edit(d / "k"),
    "open to write": lambda d: _through(d / "k", lambda fd: None),
    "open to create": lambda d: _through(d / "k", lambda fd: None, os.O_RDWR | os.O_CREAT),
    "truncate": lambda d: os.truncate(d / "k", 2),
    "truncate to the same size": lambda d: os.truncate(d / "k", 5),
    "ftruncate": lambda d: _through(d / "k", lambda fd: os.ftruncate(fd, 2)),
    "chmod": lambda d: (d / "k").chmod(0o700),
    "chown": lambda d: os.chown(d / "k", 5, 5),
    "setxattr": lambda d: os.setxattr(d / "k", "user.a", b"x"),
    "removexattr": lambda d: os.removexattr(d / "k", "user.there"),
    "utime": lambda d: os.utime(d / "k"),
    "rename": lambda d: os.rename(d / "k", d / "new"),
    "rename to itself": lambda d: os.rename(d / "k", d / "k"),
    "rename over another": lambda d: os.rename(d / "other", d / "k"),
    "rename into": lambda d: os.rename(d / "k", d / "sub/k"),
    "rename out of": lambda d: os.rename(d / "sub/in", d / "in"),
    "rename a directory": lambda d: os.rename(d / "sub", d / "moved"),
    "unlink": lambda d: os.unlink(d / "k"),
    "mkdir": lambda d: os.mkdir(d / "new"),
    "mkdir below": lambda d: os.mkdir(d / "sub/new"),
    "rmdir": lambda d: os.rmdir(d / "empty"),
    "symlink": lambda d: os.symlink("x", d / "new"),
    "unlink of a symlink": lambda d: os.unlink(d / "l"),
    "fsync": lambda d: _through(d / "k", os.fsync),
    "stat": lambda d: os.stat(d / "k"),
    "failed unlink": lambda d: os.unlink(d / "missing"),
    "failed mkdir": lambda d: os.mkdir(d / "k"),
    "failed rmdir": lambda d: os.rmdir(d / "sub"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_moves(twins: Twins, call: Callable[[Path], object]) -> None:
    """mtime and ctime of a directory, of what is in it, and of what is below: the same ones move."""

    def steps(directory: Path) -> list[object]:
        for name in ("sub", "empty"):
            (directory / name).mkdir()
        for name in ("k", "other", "sub/in"):
            (directory / name).write_bytes(b"value")
        os.setxattr(directory / "k", "user.there", b"x")
        (directory / "l").symlink_to("k")
        paths = [directory, *directory.rglob("*")]
        before = {path.lstat().st_ino: path.relative_to(directory) for path in paths}
        times = {str(path.relative_to(directory)): path.lstat() for path in paths}
        tick(*paths)
        found: list[object] = [outcome(call, directory) if "failed" in str(call) else (outcome(call, directory), 0)[1]]
        for path in sorted([directory, *directory.rglob("*")]):
            info = path.lstat()
            old = times.get(str(before.get(info.st_ino, path.relative_to(directory))))
            moved = None if old is None else (info.st_mtime_ns > old.st_mtime_ns, info.st_ctime_ns > old.st_ctime_ns)
            found.append((str(path.relative_to(directory)), moved))
        return found

    twins.same(steps)


def _utimensat(target: Path | int, atime: tuple[int, int], mtime: tuple[int, int], flags: int = 0) -> str:
    times = (ctypes.c_long * 4)(*atime, *mtime)
    if isinstance(target, int):
        failed = LIBC.futimens(target, times)
    else:
        failed = LIBC.utimensat(_AT_FDCWD, os.fsencode(target), times, flags)
    return os.strerror(ctypes.get_errno()) if failed else "set"


GIVEN = {"a time": (1_500_000_000, 123_456_789), "now": (0, NOW), "omit": (7, OMIT), "invalid": (0, 1_000_000_000)}
BY = ["path", "reader", "writer", "dirty writer", "directory", "symlink"]


@pytest.mark.parametrize("by", BY)
def test_now_and_omit(twins: Twins, by: str) -> None:
    """Each time is set, now, or left, through a path or any descriptor; two that are left change nothing at all."""

    def steps(directory: Path) -> list[object]:
        found: list[object] = []
        for (one, atime), (two, mtime) in itertools.product(GIVEN.items(), repeat=2):
            path = directory / "k"
            path.unlink(missing_ok=True)
            path.symlink_to("x") if by == "symlink" else path.write_bytes(b"value")
            target = directory if by == "directory" else path
            os.utime(target, ns=(10**18 + 1, 10**18 + 2), follow_symlinks=by != "symlink")
            tick(target)
            before = target.lstat()
            began = time.time_ns() - 20_000_000
            answer = _set(by, target, atime, mtime)
            after = target.lstat()
            described = tuple(
                {10**18 + 1 + number: "kept", 1_500_000_000_123_456_789: "set"}.get(
                    value, "now" if value >= began else value
                )
                for number, value in enumerate((after.st_atime_ns, after.st_mtime_ns))
            )
            moved = after.st_ctime_ns > before.st_ctime_ns
            if by == "dirty writer":  # the Put itself has a say, too
                described, moved = (described[0] if answer == "set" and one == "a time" else None, described[1]), None
            found.append((one, two, answer, *described, moved))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    assert found[0][:5] == ("a time", "a time", "set", "set", "set")
    assert found[6][:3] == ("now", "omit", "set")


def _set(by: str, path: Path, atime: tuple[int, int], mtime: tuple[int, int]) -> str:
    if by in ("path", "directory"):
        return _utimensat(path, atime, mtime)
    if by == "symlink":
        return _utimensat(path, atime, mtime, _AT_SYMLINK_NOFOLLOW)
    fd = os.open(path, os.O_RDONLY if by == "reader" else os.O_WRONLY)
    if by == "dirty writer":
        os.write(fd, b"x")
    try:
        return _utimensat(fd, atime, mtime)
    finally:
        os.close(fd)


@pytest.mark.parametrize("seconds", [1 - (1 << 31), -1, 0, 1, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 33])
def test_times_far_away(twins: Twins, seconds: int) -> None:
    """1901, 1970, after 2038 and after 2106, with nanoseconds; through a writer's descriptor too."""

    def steps(directory: Path) -> list[int]:
        found = []
        for by in ("path", "writer", "dirty writer"):
            (directory / "k").write_bytes(b"value")
            _set(by, directory / "k", (seconds, 1), (seconds, 999_999_999))
            info = (directory / "k").stat()
            found += [info.st_atime_ns, info.st_mtime_ns]
        return found

    assert twins.same(steps) == [seconds * 10**9 + 1, seconds * 10**9 + 999_999_999] * 3


def test_a_put_leaves_atime(twins: Twins) -> None:
    """Writing moves mtime, and atime only of what is new."""

    def steps(directory: Path) -> list[object]:
        found = []
        for write in (lambda path: path.write_bytes(b"x"), _append, _edit, lambda path: os.truncate(path, 1)):
            (directory / "k").write_bytes(b"value")
            os.utime(directory / "k", ns=(1, 2))
            write(directory / "k")
            info = (directory / "k").stat()
            found.append((info.st_atime_ns, info.st_mtime_ns == 2))
        return found

    assert twins.same(steps) == [(1, False)] * 4


def test_reading_moves_nothing(run: Path) -> None:
    """Reading does not move atime: not of objects, directories or symlinks."""
    (run / "k").write_bytes(b"x")
    (run / "d").mkdir()
    (run / "l").symlink_to("k")
    for name in ("k", "d", "l"):
        os.utime(run / name, ns=(1, 2), follow_symlinks=False)
    sh("cat k l; ls d; readlink l; cp k /dev/null; grep -r x . ; tar c . >/dev/null", run)
    assert [(run / name).lstat().st_atime_ns for name in ("k", "d", "l")] == [1, 1, 1]


def test_rapid_puts_of_many_processes(run: Path) -> None:
    """Each Put of a name is later than the one before, and ls -t is the order in which they were closed."""
    code = """
import os, sys
home, name = sys.argv[1:]
last, times = 0, []
for number in range(300):
    path = f"{home}/{name}{number}"
    for target in (path, f"{home}/same-{name}"):
        open(target, "w").close()
        info = os.stat(target)
        assert info.st_mtime_ns == info.st_ctime_ns > last, (info, last)
        last = info.st_mtime_ns
"""
    end([start_python(code, run, name) for name in "abc"])
    times = [path.stat().st_mtime_ns for path in run.iterdir()]
    assert len(set(times)) == len(times) == 903


_CLOCK = """
import os, time
_real, _shift = time.time_ns, int(os.environ["CLOCK_SHIFT_NS"])
time.time_ns = lambda: _real() + _shift
"""


def test_a_clock_that_was_set_back(make_mount: MakeMount, tmp_path: Path) -> None:
    """A daemon whose clock is an hour behind the last Put gives the next one a later time all the same."""
    (tmp_path / "sitecustomize.py").write_text(_CLOCK)
    shifted = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "CLOCK_SHIFT_NS": str(3600 * 10**9)}
    ahead = make_mount(environment=shifted)
    (ahead.pipeline / "p").mkdir()
    for name in ("a", "b"):
        (ahead.pipeline / "p" / name).write_bytes(b"x")
    last = (ahead.pipeline / "p/b").stat()
    assert last.st_mtime_ns > time.time_ns() + 3000 * 10**9
    ahead.unmount()
    store = make_mount(store=ahead.store)
    home = store.pipeline / "p"
    seen = [last.st_mtime_ns]
    for name in ("c", "a", "d"):
        (home / name).write_bytes(b"y")
        seen.append((home / name).stat().st_mtime_ns)
        assert (home / name).stat().st_ctime_ns == seen[-1]
    (home / "b").chmod(0o600)
    seen.append((home / "b").stat().st_ctime_ns)
    (home / "b").rename(home / "e")
    seen.append((home / "e").stat().st_ctime_ns)
    seen.append(home.stat().st_mtime_ns)
    assert seen[:-1] == sorted(set(seen[:-1]))
    assert seen[-1] >= seen[-2]
    assert sh("ls -tr", home).split() == ["e", "c", "a", "d"]
