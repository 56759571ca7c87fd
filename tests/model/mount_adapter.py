"""A real mount for the machine: worker processes make system calls, and another process looks at the tree."""

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from engine import Effects, ScopeName, Store, open_store
from engine.config import ObjectStoreSettings
from tests.model.copies import MODES, Mode
from tests.model.limits import Changes
from tests.model.mount_pool import Pool
from tests.model.processes import Model
from tests.model.tree import Listing, Path
from tests.model.workers import Worker
from tests.support.disks import sync
from tests.support.renaming import EXCHANGE, NOREPLACE
from tests.support.waiting import wait_until

_TOLD = re.compile(rb"\b(evicted|expired|restored) (\S+)$", re.MULTILINE)


class MountAdapter:
    """One store, mounted."""

    has_processes = True
    can_reopen = True
    lags_seconds = 2.0
    """What another process commits is seen within a second."""

    def __init__(self, pool: Pool, limit: int, expiry: int) -> None:
        self._pool = pool
        self._workers: dict[str, Worker] = {}
        self._children: list[Worker] = []
        self._of: dict[int, str] = {}
        """Whose descriptors are whose."""
        self._limits = limit, expiry
        self._mount = pool.mount(limit, expiry)
        # What becomes impossible between the two halves of a close can only be told to the log.
        self._mount.expect_log("could not be published: (the directory is gone|a directory has this name)")
        self._told = 0
        self._known: list[bytes] = []
        """The objects that were there at the last look."""
        self.changes: Changes | None = Changes()
        """What was told of evictions and the like; None where nobody tells."""
        self.lags = False

    def finish(self) -> None:
        try:
            for worker in list(self._workers.values()):
                if worker in self._children:
                    worker.kill()
                else:
                    self._pool.give(worker)
        finally:
            self._mount.close()

    def before(self, model: Model) -> None:
        """Nothing here needs to know what is expected."""

    after = before

    def done(self) -> None:
        """A step is over, and was looked at."""
        self.changes = Changes()
        self.lags = False

    # Files

    def _path(self, path: Path) -> bytes:
        return os.fsencode(self._mount.path) + b"/" + b"/".join(path)

    def start(self, process: str) -> None:
        self._workers[process] = self._pool.take()

    def open(self, fd: int, process: str, path: Path, mode: str) -> None:
        # A creation that cannot write evicts at once, while its directory is locked, as a rename does.
        self.lags = self.lags or (MODES[mode].read_only and MODES[mode].create)
        self._workers[process]("start(fd, path, flags)", fd=fd, path=self._path(path), flags=_flags(MODES[mode]))
        self._of[fd] = process

    def _tell(self, fd: int, code: str, **names: object) -> object:
        return self._workers[self._of[fd]](code, fd=fd, **names)

    def duplicate(self, fd: int, new: int) -> None:
        self._tell(fd, "duplicate(fd, new)", new=new)
        self._of[new] = self._of[fd]

    def write(self, fd: int, offset: int, data: bytes) -> None:
        self._tell(fd, "write(fd, offset, data)", offset=offset, data=data)

    def append(self, fd: int, data: bytes) -> None:
        self._tell(fd, "write(fd, None, data)", data=data)

    def truncate(self, fd: int, size: int) -> None:
        self._tell(fd, "os.ftruncate(files[fd], size)", size=size)

    def fsync(self, fd: int) -> None:
        self._tell(fd, "os.fsync(files[fd])")

    def close(self, fd: int) -> object:
        return self._tell(fd, "close(fd)")

    # Names

    def mkdir(self, process: str, path: Path) -> None:
        self._workers[process]("os.mkdir(path)", path=self._path(path))

    def rmdir(self, process: str, path: Path) -> None:
        self._workers[process]("os.rmdir(path)", path=self._path(path))

    def symlink(self, process: str, path: Path) -> None:
        self._workers[process]("os.symlink(b'nowhere/at/all', path)", path=self._path(path))

    def unlink(self, process: str, path: Path) -> None:
        self._workers[process]("os.unlink(path)", path=self._path(path))

    def move(self, process: str, old: Path, new: Path, replace: bool) -> None:
        self._rename(process, old, new, 0 if replace else NOREPLACE)

    def swap(self, process: str, one: Path, other: Path) -> None:
        self._rename(process, one, other, EXCHANGE)

    def _rename(self, process: str, old: Path, new: Path, flags: int) -> None:
        # An evicted object may be seen for a moment after a rename that evicted it.
        self.lags = True
        self._workers[process]("rename(old, new, flags)", old=self._path(old), new=self._path(new), flags=flags)

    def set_note(self, path: Path, note: bytes) -> None:
        self._pool.observer("os.setxattr(path, NOTE, note)", path=self._path(path), note=note)

    # Beside the mount

    @contextmanager
    def _beside(self) -> Iterator[Store]:
        self.lags = True
        self._pool.observer("settle(path)", path=self._path(()))
        with open_store(ObjectStoreSettings(path=self._mount.store)) as store:
            yield store

    def _note(self, effects: Effects) -> None:
        assert self.changes is not None
        self.changes.evicted += [gone.path for gone in effects.evicted]
        self.changes.expired += [gone.path for gone in effects.expired]
        self.changes.restored += [back.path for back in effects.restored]

    def set_limit(self, name: bytes, limit: int | None) -> None:
        with self._beside() as store:
            self._note(store.set_limit(name, limit))

    def set_max_bytes(self, name: bytes, max_bytes: int) -> None:
        with self._beside() as store:
            store.set_max_bytes(name, max_bytes)

    def start_run(self, name: bytes, group: bytes | None) -> None:
        with self._beside() as store:
            self._note(store.start_run(name, group))

    def finish_run(self, name: bytes) -> None:
        with self._beside() as store:
            self._note(store.finish_run(name))

    def put_beside(self, path: Path, value: bytes, force: bool) -> None:
        scope = (ScopeName.pipeline if path[0] == b"pipeline" else ScopeName.run)(path[1])
        with self._beside() as store:
            self._note(store.put_object(scope, b"/".join(path[2:]), value, force=force))

    # Processes and daemons

    def fork(self, process: str, child: str, fds: dict[int, int]) -> None:
        self._workers[child] = self._workers[process].fork(fds)
        self._children.append(self._workers[child])
        self._of |= dict.fromkeys(fds.values(), child)

    def end(self, process: str) -> None:
        self._workers.pop(process).stop()

    def kill(self, process: str) -> None:
        self._workers.pop(process).kill()

    def remount(self, limit: int, expiry: int) -> None:
        self._mount.unmount()
        self._mount_anew(limit, expiry)

    def crash(self, limit: int, expiry: int) -> None:
        if (limit, expiry) != self._limits:
            # What is acknowledged and not yet published goes by the limits of the next daemon. How much that is nobody
            # can tell: on a busy machine it is something.
            sync(self._mount.path)
        self._mount.kill()
        for worker in self._workers.values():
            answers = worker("drop_dead()")
            assert set(answers) <= {"ENOTCONN"}, answers
        self._mount_anew(limit, expiry)

    def _mount_anew(self, limit: int, expiry: int) -> None:
        self.changes = None
        self._limits = limit, expiry
        self._mount.tell_limits(limit, expiry)
        self._mount.mount()

    # Looking

    def check(self, story: list[str]) -> None:
        """The daemon lives."""
        assert self._mount.daemon is not None
        assert self._mount.daemon.poll() is None, self._mount.log()

    def look(self, model: Model, paths: list[Path]) -> tuple[dict[int, bytes], dict[str, set[Path]]]:
        """What the descriptors read, and which of the paths each process sees."""
        values: dict[int, bytes] = {}
        seen: dict[str, set[Path]] = {}
        known = {self._path(path): path for path in paths}
        for worker in self._workers.values():
            worker.begin("look(paths)", paths=list(known))
        for process, worker in self._workers.items():
            found, there = worker.answer()
            values |= found
            seen[process] = {known[path] for path in there}
        return values, seen

    def listing(self) -> tuple[Listing, dict[bytes, int]]:
        """The tree as a process sees it that has nothing open, and when its objects were put."""
        deadline = time.monotonic() + self.lags_seconds
        top = os.fsencode(self._mount.path) + b"/"
        while True:
            try:
                # Before the listing, by which the kernel learns anew what the names stand for.
                by_path = self._pool.observer("by_path(top, paths)", top=top, paths=self._known)
                found: tuple[Listing, dict[bytes, int]] = self._pool.observer("walk(top)", top=top)
                break
            except OSError as error:
                # Between listing a name and opening it, the mount hears that it is gone.
                if not self.lags or error.errno not in (errno.ENOENT, errno.ESTALE) or time.monotonic() > deadline:
                    raise
        self._read_log()
        if self.lags:
            self._wait_for_the_kernel(found[0])
        self._known = list(found[1])
        for path, value in by_path.items():
            if value != (found[0].get(path) if path in found[1] else None):
                found[0][path + b" (by path)"] = value
        return found

    def _wait_for_the_kernel(self, listing: Listing) -> None:
        """It hears of what is gone a moment after the listing does, within the time that the contract gives it."""
        if self.changes is None:
            return
        gone = [path for path in (*self.changes.evicted, *self.changes.expired) if path not in listing]
        full = [os.fsencode(self._mount.path) + b"/" + path for path in gone]
        wait_until(
            lambda: not self._pool.observer("[path for path in paths if os.path.lexists(path)]", paths=full),
            self.lags_seconds,
        )

    def _read_log(self) -> None:
        with self._mount.log_path.open("rb") as log:
            log.seek(self._told)
            told = log.read()
        self._told += len(told)
        for what, path in _TOLD.findall(told) if self.changes is not None else []:
            getattr(self.changes, what.decode()).append(path)


def _flags(mode: Mode) -> int:
    flags = os.O_RDONLY if mode.read_only else os.O_RDWR
    for wanted, flag in [
        (mode.create, os.O_CREAT),
        (mode.truncate, os.O_TRUNC),
        (mode.append, os.O_APPEND),
        (mode.exclusive, os.O_EXCL),
    ]:
        flags |= flag if wanted else 0
    return flags
