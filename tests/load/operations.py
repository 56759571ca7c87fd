"""What the processes of a load do: everything that jobs do, with a check of whatever they read."""

import errno
import fcntl
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.load import values

PIPELINES = 10
KEYS = 80
LIMIT = 50
EXPIRY = 20
LOG_S = 5
"""For how long one log is appended to."""


class Worker:
    """One process."""

    def __init__(self, number: int, mount: Path, seed: int) -> None:
        self.number = number
        self.chance = random.Random(f"{seed}.{number}")
        self.puts = 0
        self.increments = 0
        self.appended: Counter[str] = Counter()
        """The lines that were acknowledged, by log."""
        self._pipelines = [mount / "pipeline" / f"p{index}" for index in range(PIPELINES)]
        self._runs = mount / "run"
        self._kept = mount / "pipeline" / "kept"

    def _key(self) -> Path:
        return self.chance.choice(self._pipelines) / f"k{self.chance.randrange(KEYS)}"

    def _value(self) -> bytes:
        self.puts += 1
        return values.make(self.number, self.puts, values.size(self.chance))

    def put(self) -> None:
        self._put(self._key(), os.O_CREAT | os.O_TRUNC)

    def put_and_sync(self) -> None:
        self._put(self._key(), os.O_CREAT | os.O_TRUNC, sync=True)

    def create(self) -> None:
        with suppress(FileExistsError):
            self._put(self._key(), os.O_CREAT | os.O_EXCL)

    def _put(self, path: Path, flags: int, *, sync: bool = False) -> None:
        fd = os.open(path, os.O_WRONLY | flags, 0o644)
        try:
            value = memoryview(self._value())
            while value:
                value = value[os.write(fd, value[: 128 * 1024]) :]
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)

    def replace(self) -> None:
        """By a temporary name, as editors do."""
        path = self._key()
        temporary = path.with_name(f"t{self.number}")
        self._put(temporary, os.O_CREAT | os.O_TRUNC)
        with suppress(FileNotFoundError):  # it was the oldest by then
            temporary.rename(path)

    def get(self) -> None:
        with suppress(FileNotFoundError):
            values.check(self._key().read_bytes())

    def look(self) -> None:
        with suppress(FileNotFoundError):
            assert self._key().stat().st_size > 0

    def list(self) -> None:
        names = os.listdir(self.chance.choice(self._pipelines))
        assert len(names) <= LIMIT, f"{len(names)} objects in a pipeline"
        assert len(set(names)) == len(names)

    def move(self) -> None:
        with suppress(FileNotFoundError):
            self._key().rename(self._key())

    def remove(self) -> None:
        with suppress(FileNotFoundError):
            self._key().unlink()

    def mark(self) -> None:
        path, mark = self._key(), b"%d" % self.number
        try:
            os.setxattr(path, "user.by", mark)
            assert os.getxattr(path, "user.by").isdigit()
        except OSError as error:
            # It was overwritten, or taken away.
            if error.errno not in (errno.ENOENT, errno.ENODATA, errno.ESTALE):
                raise

    def append(self) -> None:
        log = f"log{int(time.time()) // LOG_S}"
        fd = os.open(self._kept / log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(fd, b"%d.%d\n" % (self.number, self.appended[log]))
        finally:
            os.close(fd)
        self.appended[log] += 1

    def count(self) -> None:
        """An edit in place, under a lock."""
        fd = os.open(self._kept / f"counter{self.chance.randrange(4)}", os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            number = int(os.pread(fd, 20, 0))
            os.pwrite(fd, b"%020d" % (number + 1), 0)
        finally:
            os.close(fd)
        self.increments += 1

    def run(self) -> None:
        """A run of its own, which may be gone before it is done: others start theirs."""
        self.puts += 1
        run = self._runs / f"r{self.number}.{self.puts}"
        run.mkdir()
        try:
            (run / "d").mkdir()
            for name in ("a", "d/b", "d/c"):
                self._put(run / name, os.O_CREAT)
                values.check((run / name).read_bytes())
            if self.chance.random() < 0.5:
                shutil.rmtree(run, ignore_errors=True)
        except FileNotFoundError:
            pass

    def look_at_runs(self) -> None:
        for run in os.listdir(self._runs)[:3]:
            try:
                for name in os.listdir(self._runs / run):
                    if name == "a":
                        values.check((self._runs / run / name).read_bytes())
            except AssertionError:
                if (self._runs / run / name).exists() and (self._runs / run / name).stat().st_size:
                    raise
            except (FileNotFoundError, NotADirectoryError):
                pass

    def operations(self) -> dict[str, tuple[Callable[[], None], int]]:
        """All of them by name, and how often each is done."""
        return {
            "put": (self.put, 20),
            "put and sync": (self.put_and_sync, 1),
            "create": (self.create, 4),
            "replace": (self.replace, 6),
            "get": (self.get, 30),
            "stat": (self.look, 20),
            "list": (self.list, 6),
            "rename": (self.move, 6),
            "remove": (self.remove, 4),
            "xattr": (self.mark, 4),
            "append": (self.append, 6),
            "edit": (self.count, 6),
            "run": (self.run, 1),
            "runs": (self.look_at_runs, 2),
        }


def prepare(mount: Path) -> None:
    """What all of them work in."""
    for index in range(PIPELINES):
        (mount / "pipeline" / f"p{index}").mkdir()
    kept = mount / "pipeline" / "kept"
    kept.mkdir()
    os.setxattr(kept, "fusefs.limit", b"0")
    for index in range(4):
        (kept / f"counter{index}").write_bytes(b"%020d" % 0)


def check_kept(mount: Path, appended: Counter[tuple[str, int]], increments: int) -> None:
    """Nothing that was acknowledged is lost, and nothing is there twice. `appended`: lines by log and writer."""
    kept = mount / "pipeline" / "kept"
    counted = sum(int(path.read_bytes()) for path in kept.glob("counter*"))
    assert counted == increments, f"{increments} edits under a lock, and {counted} of them counted"
    found: Counter[tuple[str, int]] = Counter()
    for path in kept.glob("log*"):
        lines = path.read_bytes().split(b"\n")
        assert lines.pop() == b""
        for line in lines:
            writer, number = map(int, line.split(b"."))
            assert number == found[path.name, writer], f"{path.name} has {line!r} in the wrong place"
            found[path.name, writer] += 1
    assert found == appended, f"{appended - found} lost, {found - appended} too much"
