"""The data file: whole chunks of large values, beside the database instead of in it.

SQLite writes everything twice, to its log and then to the database. A value that is stored many chunks at a time goes
to a file of slots, one chunk each, and the database keeps where. What that must not cost:

- A slot is written once, before anything that can survive refers to it: `sync` comes before the commit that does.
- A slot that was given up is not used again before a power cut can no longer undo that (`ripen`): until then
  the value that had it may come back.
- Who reads a value at one moment of the database holds `reading`, and nothing ripens meanwhile.

A slot that is ripe holds no space: it is a hole in the file.
"""

import ctypes
import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from engine import disk, locks
from engine.errors import DamagedError, StoreError

if TYPE_CHECKING:
    from engine.sqlite.database import Database

SLOT_BYTES = 256 * 1024

_BUFFERS_AT_ONCE = 512
_RIPEN_AT_ONCE = 1000
_PUNCH_HOLE = 0x02 | 0x01
"""FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE (fallocate(2))."""
_SYNC_FILE_RANGE_WRITE = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Slots:
    """The data file of one store. The file is made with the first slot. May be used in any thread."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._path = None if database.path is None else Path(f"{database.path}-data")
        self._fd = -1
        self._opening = threading.Lock()
        self._syncing = threading.Lock()
        self._unsynced = False
        self._name_synced = False
        self._failures: list[StoreError] = []
        """The syncs that have failed."""

    @property
    def usable(self) -> bool:
        """Whether there can be a file."""
        return self._path is not None

    def allocate(self, count: int) -> list[int]:
        """Take `count` slots, in the caller's transaction: those that are ripe first, then new ones at the end."""
        rows = self._database.rows(
            "DELETE FROM free_slot WHERE number IN"
            " (SELECT number FROM free_slot WHERE ripe = 1 ORDER BY number LIMIT ?) RETURNING number",
            (count,),
        )
        numbers = sorted(number for (number,) in rows)
        fresh = count - len(numbers)
        if fresh:
            end = self._database.value("UPDATE store SET slots = slots + ? RETURNING slots", (fresh,))
            numbers += range(end - fresh, end)
        return numbers

    def give_up(self, number: int) -> None:
        """Nothing refers to a slot any more; in the caller's transaction."""
        self._database.rows("INSERT INTO free_slot VALUES (?, 0)", (number,))

    def write(self, chunks: Sequence[tuple[int, bytes | bytearray | memoryview]]) -> int:
        """Write whole slots, given in the order of their numbers. Waits for the disk. Raises StoreError.

        Returns what `sync` is to be given.
        """
        failures = len(self._failures)
        for _, run in groupby(enumerate(chunks), lambda item: item[1][0] - item[0]):
            items = [item for _, item in run]
            for start in range(0, len(items), _BUFFERS_AT_ONCE):
                part = items[start : start + _BUFFERS_AT_ONCE]
                self._write_run(part[0][0] * SLOT_BYTES, [data for _, data in part])
        self._unsynced = True  # only now: a sync that another thread began meanwhile may not have all of it
        return failures

    def _write_run(self, offset: int, buffers: list[bytes | bytearray | memoryview]) -> None:
        try:
            fd = self._file()
            written = os.pwritev(fd, buffers, offset)
            total = sum(map(len, buffers))
            if written < total:
                rest = memoryview(b"".join(buffers))[written:]
                while rest:
                    done = os.pwrite(fd, rest, offset + total - len(rest))
                    rest = rest[done:]
            # Begun now, so that the sync at the end does not have all of it before it.
            _libc.sync_file_range(fd, offset, total, _SYNC_FILE_RANGE_WRITE)
        except OSError as error:
            raise _failure(error) from error

    def sync(self, written: int) -> None:
        """Return once what was written survives a power cut. Waits for the disk. Raises StoreError.

        `written` is what the first `write` of it returned. A sync that failed is the last word on all that was written
        before it: the kernel may have dropped those bytes, and will not tell again.
        """
        with self._syncing:  # one that is under way may be the one that fails
            if written == len(self._failures) and self._unsynced:
                self._unsynced = False
                try:
                    os.fdatasync(self._file())
                    self._sync_name()
                except OSError as error:
                    self._failures.append(_failure(error))
            if written < len(self._failures):
                raise self._failures[written]

    def _sync_name(self) -> None:
        """Once a process: whoever made the file may have died before. Raises OSError."""
        if not self._name_synced:
            assert self._path is not None
            disk.sync(self._path.parent)  # to sync a file need not sync its name (fsync(2))
            self._name_synced = True

    def read(self, number: int, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, counted from the start of a slot; they may lie in the ones behind it.

        Raises StoreError.
        """
        try:
            data = os.pread(self._file(), length, number * SLOT_BYTES + offset)
        except OSError as error:
            raise _failure(error) from error
        if len(data) < length:
            raise DamagedError(f"the store's data file {self._path} is shorter than the database says")
        return data

    def read_now(self, number: int, offset: int, length: int) -> bytearray | None:
        """As `read`, without waiting for the disk; None when that is not possible."""
        buffer = bytearray(length)
        try:
            got = os.preadv(self._file(), [buffer], number * SLOT_BYTES + offset, os.RWF_NOWAIT)
        except OSError:
            return None
        return buffer if got == length else None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While the block runs, no slot that anything refers to now is used again, by any process."""
        if not self._path or not self._path.exists():
            yield
            return
        fd = self._open(os.O_RDONLY)
        try:
            locks.take(fd, fcntl.F_RDLCK, wait=True)  # for `ripen`, which takes a moment
            yield
        finally:
            os.close(fd)

    def has_unripe(self) -> bool:
        return self.usable and bool(self._database.value("SELECT EXISTS (SELECT 1 FROM free_slot WHERE ripe = 0)"))

    def ripen(self) -> bool:
        """Let slots that were given up be used again. Waits for the disk. Returns whether there are more.

        Raises StoreError.
        """
        if self._path is None or not self._path.exists():
            return False
        fd = self._open(os.O_RDWR)
        try:
            try:
                locks.take(fd, fcntl.F_WRLCK)
            except OSError:
                return False  # somebody reads, or another process does the same
            # Only now: what another process has made ripe may be in use again.
            rows = self._database.rows("SELECT number FROM free_slot WHERE ripe = 0 LIMIT ?", (_RIPEN_AT_ONCE,))
            if not rows:
                return False
            self._database.log.sync()
            for (number,) in rows:
                self._punch(number)
            with self._database.joined():
                for row in rows:
                    self._database.rows("UPDATE free_slot SET ripe = 1 WHERE number = ?", row)
        finally:
            os.close(fd)
        return len(rows) == _RIPEN_AT_ONCE

    def _open(self, flags: int) -> int:
        """A description of the file with locks of its own."""
        assert self._path is not None
        try:
            return os.open(self._path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise _failure(error) from error

    def _punch(self, number: int) -> None:
        # A filesystem that knows no holes keeps the space, and the slot is used again all the same.
        try:
            fd = self._file()
        except OSError as error:
            raise _failure(error) from error
        _libc.fallocate(fd, _PUNCH_HOLE, number * SLOT_BYTES, SLOT_BYTES)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _file(self) -> int:
        """Raises OSError."""
        if self._fd < 0:
            assert self._path is not None
            flags = os.O_RDONLY if self._database.read_only else os.O_RDWR | os.O_CREAT
            with self._opening:
                if self._fd < 0:
                    self._fd = os.open(self._path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        return self._fd


def _failure(error: OSError) -> StoreError:
    return disk.failure(error, "the store's data file cannot grow", "the store's data file cannot be used")
