"""SQLite's log (`-wal`): which of its frames are as they were written, those too behind one that is not.

SQLite takes the first frame that does not check for the end. The checksum of a frame goes on from that of the one
before it, which is stored in it, so what follows can be checked all the same.

What is behind the end may also be left over: who wrote a transaction and died before telling others of it, by SQLite's
index, is written over by whoever comes next. Where that one's transaction is shorter, the rest of the other is there
still, of the same generation and whole but for its beginning. It is no part of the store.
"""

import os
import secrets
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from engine import locks
from engine.salvage import checksums
from engine.salvage.checksums import Checker, Sums
from engine.sqlite.files import PAGE_BYTES

HEADER = struct.Struct(">IIIIIIII")
FRAME = struct.Struct(">IIIIII")
_CHECKED = 8
"""How much of a header of a frame is in its checksum; that of the log has all but the checksum itself."""
_MAGIC = 0x377F0682
_VERSION = 3007000
_ORDERS = {0: "<", 1: ">"}


@dataclass(slots=True)
class Log:
    """What can be relied on in a log."""

    pages: dict[int, int | bytes] = field(default_factory=dict)
    """Where the newest state of each page begins in the file, or that state where a bit of it had to be mended."""
    lost: set[int] = field(default_factory=set)
    """Pages whose newest state is in a frame that cannot be read."""
    size: int | None = None
    """The length of the database in pages; None where nothing was committed."""
    mended: int = 0
    damaged: int = 0
    """How many frames were given up."""
    hidden: int = 0
    """How many commits are behind the first frame that does not check: SQLite does not see them."""

    @property
    def is_whole(self) -> bool:
        return not (self.damaged or self.mended or self.hidden)


@dataclass(slots=True)
class _Frame:
    page: int
    """0: it cannot be told which."""
    commit: int
    """The length of the database after it; 0 where it does not end a transaction."""
    data: int | bytes | None
    """As in Log.pages; None where it is damaged."""
    seen: bool
    """Whether SQLite sees it."""
    follows: bool = False
    """Whether it goes on from what is stored in the one before, as it is."""


def path_of(store: Path) -> Path:
    return Path(f"{store}-wal")


def read(store: Path, page_size: int, checker: Checker) -> Log:
    """The log of a store; an empty one where there is no file."""
    log = Log()
    pending: list[_Frame] = []
    frames = list(_frames(path_of(store), page_size, checker))
    del frames[_end_of(frames) :]
    for frame in frames:
        if frame.data is None:
            log.damaged += 1
        elif isinstance(frame.data, bytes):
            log.mended += 1
        pending.append(frame)
        if frame.commit:
            log.size = frame.commit
            log.hidden += not frame.seen
            for done in pending:
                _take(log, done)
            pending.clear()
    # What no transaction ends with is no damage: it was rolled back, or its process died.
    log.damaged -= sum(frame.data is None for frame in pending)
    log.mended -= sum(isinstance(frame.data, bytes) for frame in pending)
    return log


def _end_of(frames: list[_Frame]) -> int:
    """How many frames are there before what is left over.

    That is the end of one transaction, behind another one. A frame that is damaged looks the same where it is the first
    of the last transaction: then it counts as left over, with the rest of that.
    """
    end = len(frames)
    while end and not frames[end - 1].commit:
        end -= 1  # of no transaction
    if end < len(frames) and frames[end].follows:
        return len(frames)
    while (begin := _begin_of(frames, end)) is not None:
        end = begin
    return end or len(frames)


def _begin_of(frames: list[_Frame], end: int) -> int | None:
    """Where the frames before `end` begin that are left over; None where they are not."""
    at = end - 1
    while at > 0 and frames[at].follows and not frames[at - 1].commit:
        at -= 1
    is_left = at > 0 and frames[at].data is None and frames[at].page and frames[at - 1].commit
    return at if is_left else None


def _take(log: Log, frame: _Frame) -> None:
    if frame.data is not None:
        log.pages[frame.page] = frame.data
        log.lost.discard(frame.page)
    elif frame.page:
        log.lost.add(frame.page)


def _frames(path: Path, page_size: int, checker: Checker) -> Iterator[_Frame]:
    """The frames of the last generation of a log, damaged ones too, to the last one that is whole."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        header = file.read(HEADER.size)
        if len(header) < HEADER.size:
            return
        magic, _, _, _, *salts, one, two = HEADER.unpack(header)
        order = _ORDERS[magic & 1]
        state: Sums = one, two
        seen = checksums.add(checksums.ZERO, header[:24], order) == state and magic & ~1 == _MAGIC
        if not seen:
            salts = _salts_behind(file, page_size) or salts
        bad: list[_Frame] = []
        trusted = True
        while len(head := file.read(FRAME.size)) == FRAME.size:
            start = file.tell()
            data = file.read(page_size)
            if len(data) < page_size:
                break
            page, commit, *own_salts, one, two = FRAME.unpack(head)
            checked = head[:_CHECKED] + data
            if not trusted and own_salts != salts:
                # Of a generation before, or nothing at all: that it goes on from what is before it says nothing.
                frame, state = None, (one, two)
            elif checker.follows(state, checked, (one, two), order):
                seen = seen and own_salts == salts
                frame, state = _Frame(page, commit, start, seen, follows=True), (one, two)
            else:
                seen = False
                frame, state = _mended(state, checked, (one, two), order)
            if frame is None:
                seen = trusted = False
                bad.append(_Frame(page if own_salts == salts else 0, 0, None, False))
                continue
            trusted = True
            yield from bad
            bad.clear()
            yield frame


def _salts_behind(file: BinaryIO, page_size: int) -> list[int] | None:
    """Of which generation the frames are where the header does not tell: of that of the second and the third one."""
    heads = []
    for number in (1, 2):
        file.seek(HEADER.size + number * (FRAME.size + page_size))
        heads.append(file.read(FRAME.size))
    file.seek(HEADER.size)
    salts = [list(FRAME.unpack(head)[2:4]) for head in heads if len(head) == FRAME.size]
    return salts[0] if len(salts) == len(heads) and salts[0] == salts[1] and any(salts[0]) else None


def _mended(state: Sums, checked: bytes, stored: Sums, order: str) -> tuple[_Frame | None, Sums]:
    mended = checksums.mend(state, checked, stored, order)
    if mended is None:
        return None, stored
    data, sums = mended
    page, commit = struct.unpack_from(">II", data)
    return _Frame(page, commit, data[_CHECKED:], False), sums


def hides_changes(store: Path) -> bool:
    """Whether there are commits that SQLite does not see. Not while anybody writes to the store. Raises OSError."""
    path = path_of(store)
    if not path.exists() or not path.stat().st_size or is_in_use(store):
        return False
    return bool(read(store, PAGE_BYTES, Checker()).hidden)


def keep_hidden(store: Path) -> Path | None:
    """Where there are commits that SQLite does not see, copy the log before it begins anew. Returns where it is then.

    Not while anybody writes to the store. Raises OSError.
    """
    if not hides_changes(store):
        return None
    path = path_of(store)
    kept = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
    shutil.copyfile(path, kept)
    kept.chmod(0o600)
    return kept


def is_in_use(store: Path) -> bool:
    """Whether a process has the store open for writing."""
    try:
        fd = os.open(f"{store}-lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return locks.any_taken(fd)
    finally:
        os.close(fd)


def write(path: Path, pages: Iterator[bytes], count: int, page_size: int, tell: Callable[[int], None]) -> None:
    """Make a log of one transaction that has every page of a database. `tell` is told how many pages are written."""
    salts = secrets.randbits(32), secrets.randbits(32)
    head = HEADER.pack(_MAGIC, _VERSION, page_size, 0, *salts, 0, 0)[:24]
    state = checksums.add(checksums.ZERO, head)
    with path.open("wb") as file:
        file.write(head + struct.pack(">II", *state))
        for page, data in enumerate(pages, 1):
            start = struct.pack(">II", page, count if page == count else 0)
            state = checksums.add(state, start + data)
            file.write(start + struct.pack(">IIII", *salts, *state) + data)
            tell(page)
