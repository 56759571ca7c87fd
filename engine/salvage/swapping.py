"""The files of a damaged store, and putting a new one in its place.

The new store's pages become the log of the old one, by one rename: SQLite takes a page from the log where it has it,
and this one has them all. So a death at any moment leaves either the old store or the new one.
"""

import fcntl
import glob
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine import disk, journal, locks
from engine.errors import InternalError, OpenError, OutOfSpaceError, StoreError, UnavailableError
from engine.salvage import log
from engine.salvage.pages import Pages
from engine.sqlite.files import PAGE_BYTES, is_open_here

_LOCKED_FROM = 0x40000000
_LOCKED_BYTES = 512
"""Where SQLite has its locks: whoever has the file open holds one of them."""
_COPIES = 3
_SPARE_BYTES = 1024 * 1024

Tell = Callable[[str, int, int], None]


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let nobody open the store meanwhile. Raises UnavailableError while somebody has it open, and OpenError.

    Everything that is read and written in the block may be opened and closed as any file: this process has no locks
    on it that could be lost (see `database_file`).
    """
    try:
        if is_open_here(path):
            raise UnavailableError("the store is in use by this process: close it first")
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise OpenError(f"cannot open {path}: {error.strerror}") from error
    try:
        try:
            locks.take(fd, fcntl.F_WRLCK, _LOCKED_FROM, length=_LOCKED_BYTES)
        except OSError:
            pid = locks.holder(fd, _LOCKED_FROM, _LOCKED_BYTES)
            who = "another process" if pid is None else f"process {pid}"
            raise UnavailableError(f"the store is in use by {who}: unmount it first") from None
        yield
    finally:
        os.close(fd)


def space_needed(path: Path) -> int:
    """How many bytes `put_in_place` and what comes before it may need beside the store."""
    size = sum(file.stat().st_size for file in (path, log.path_of(path)) if file.exists())
    return _COPIES * size + _SPARE_BYTES


def require_space(path: Path) -> None:
    """Raise OutOfSpaceError where the disk does not hold what `put_in_place` needs."""
    wanted = space_needed(path)
    free = disk.free_bytes(path.parent)
    if free < wanted:
        raise OutOfSpaceError(
            f"the repair needs {wanted} bytes beside {path}, three times what the database has, and there are {free}"
        )


def workplace(path: Path) -> Path:
    """Where the new store is made; what an interrupted repair has left there is gone."""
    place = path.with_name(f"{path.name}.repairing")
    for left in path.parent.glob(f"{glob.escape(place.name)}*"):
        left.unlink()
    return place


def keep(path: Path, sessions: set[int], lost: list[bytes], tell: Tell) -> list[Path]:
    """Copy the damaged database aside with its log, and the journals of sessions that are not known any more.

    The names that are `lost` are written beside them. Returns where. Raises StoreError.
    """
    kept = _free_name(path)
    with _as_store_errors():
        part = path.with_name(f"{path.name}.repairing-kept")
        tell("keeping the damaged files", 0, 0)
        shutil.copyfile(path, part)
        os.chmod(part, 0o600)
        disk.sync(part)
        os.rename(part, kept)
        files = [kept]
        if lost:
            # The process may die before it can tell.
            files.append(kept.with_name(f"{kept.name}-lost"))
            files[-1].touch(0o600)
            files[-1].write_bytes(b"".join(name + b"\n" for name in lost))
        others = {log.path_of(path): log.path_of(kept)}
        for session, forgotten in journal.forgotten(path, lambda: sessions):
            others[forgotten] = journal.path_of(kept, session)
        for source, target in others.items():
            if source.exists():
                # Neither is written to any more: one is replaced, the other deleted.
                disk.keep(source, target)
                files.append(target)
        disk.sync(path.parent)
    return files


def _free_name(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    kept, again = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while kept.exists():
        again += 1
        kept = path.with_name(f"{path.name}.damaged-{stamp}-{again}")
    return kept


def put_in_place(path: Path, new: Path, tell: Tell) -> None:
    """Let the store at `path` be the one at `new`, whose files go. Raises StoreError."""
    with _as_store_errors():
        disk.sync(new)
        prepared = new.with_name(f"{new.name}-log")
        with Pages(new) as pages:
            first = pages.read(1)
            assert first is not None
            log.write(
                prepared,
                pages.raw_pages(),
                pages.count,
                PAGE_BYTES,
                lambda done: tell("writing the new store", done * PAGE_BYTES, pages.count * PAGE_BYTES),
            )
        os.chmod(prepared, 0o600)
        disk.sync(prepared)
        with Pages(path) as old:
            begins_whole = old.begin_whole
        if not begins_whole:
            # SQLite looks at the first page of the file before it looks at the log. The old store cannot be opened.
            with path.open("r+b") as file:
                file.write(first.data)
            disk.sync(path)
        os.replace(prepared, log.path_of(path))
        disk.sync(path.parent)
        for ending in ("", "-wal", "-shm", "-data"):
            with suppress(FileNotFoundError):
                new.with_name(new.name + ending).unlink()


@contextmanager
def _as_store_errors() -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        if error.errno in disk.FULL:
            raise OutOfSpaceError(f"the repair has no space: {error.strerror}; the store is as it was") from error
        raise InternalError(f"the repair failed, and the store is as it was: {error}") from error
