"""The pages of a store's file as its last commit left them: from the file, and from its log."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from engine.salvage import checksums, log
from engine.salvage.checksums import Checker
from engine.sqlite.connecting import CHECKSUM_BYTES
from engine.sqlite.files import PAGE_BYTES

_SAMPLE = 64
_RESERVED_AT = 20
_TRUNK = struct.Struct(">II")


class Page(NamedTuple):
    """A page, and whether it is certainly what was written."""

    number: int
    data: bytes
    sure: bool


class Pages:
    """Reads pages by their numbers, from 1 to `count`. Changes nothing."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._file = path.open("rb")
        self._checker = Checker()
        self.log = log.read(path, PAGE_BYTES, self._checker)
        self._log_file = log.path_of(path).open("rb") if self.log.pages else None
        self.have_checksums = True
        # SQLite makes it longer before it says so; what is missing of a file that was cut short reads as nothing.
        self._in_file = -(-os.fstat(self._file.fileno()).st_size // PAGE_BYTES)
        self.have_checksums = self._find_out()
        self.usable = PAGE_BYTES - (CHECKSUM_BYTES if self.have_checksums else 0)
        self.count = self.log.size or self._in_file
        self.mended: set[int] = set()
        self.damaged: set[int] = set()
        """Pages that were asked for, and are not what was written."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if self._log_file is not None:
            self._log_file.close()

    def read(self, number: int) -> Page | None:
        """A page; None where there is none of that number."""
        if not 1 <= number <= self.count:
            return None
        where = self.log.pages.get(number)
        if where is not None and number not in self.log.lost:
            return Page(number, where if isinstance(where, bytes) else self._from_log(where), True)
        page = self._from_log_or_file(number, where)
        sure = page.sure and number not in self.log.lost
        if not sure:
            self.damaged.add(number)
        return page._replace(sure=sure)

    def _from_log_or_file(self, number: int, where: int | bytes | None) -> Page:
        """What is older than what was lost."""
        if isinstance(where, bytes):
            return Page(number, where, True)
        return self.in_file(number) if where is None else Page(number, self._from_log(where), True)

    def _from_log(self, offset: int) -> bytes:
        assert self._log_file is not None
        self._log_file.seek(offset)
        return self._log_file.read(PAGE_BYTES)

    def in_file(self, number: int) -> Page:
        """What the file has, whatever is in the log."""
        data = self._raw(number)
        if len(data) < PAGE_BYTES:
            return Page(number, data.ljust(PAGE_BYTES, b"\0"), False)
        if not self.have_checksums or self._checker.agrees(data):
            # Zeros agree with themselves, and no page that is in use is nothing but zeros.
            return Page(number, data, any(data))
        stored = struct.unpack("<II", data[-CHECKSUM_BYTES:])
        mended = checksums.mend(checksums.ZERO, data[:-CHECKSUM_BYTES], stored)
        if mended is None:
            return Page(number, data, False)
        self.mended.add(number)
        return Page(number, mended[0] + struct.pack("<II", *mended[1]), True)

    @property
    def begin_whole(self) -> bool:
        """Whether the first page of the file itself is as it was written: SQLite looks at it before the log."""
        return self.in_file(1).sure and 1 not in self.mended

    def _raw(self, number: int) -> bytes:
        self._file.seek((number - 1) * PAGE_BYTES)
        return self._file.read(PAGE_BYTES)

    def _find_out(self) -> bool:
        """Whether pages have checksums: the first page says so, but may be damaged itself."""
        newest = self.log.pages.get(1)
        first = newest if isinstance(newest, bytes) else self._raw(1) if newest is None else self._from_log(newest)
        if first[_RESERVED_AT : _RESERVED_AT + 1] == bytes([CHECKSUM_BYTES]):
            return True
        if newest is not None and 1 not in self.log.lost:
            return False
        sample = [page for number in range(1, 1 + min(_SAMPLE, self._in_file)) if any(page := self._raw(number))]
        return 2 * sum(len(page) == PAGE_BYTES and self._checker.agrees(page) for page in sample) >= len(sample)

    def free(self) -> tuple[set[int], bool]:
        """The pages that are not in use, and whether these are all of them."""
        free: set[int] = set()
        first = self.read(1)
        if first is None:
            return free, False
        trunk, count = _TRUNK.unpack_from(first.data, 32)
        sure = first.sure
        while trunk and trunk not in free:
            page = self.read(trunk)
            if page is None or not page.sure:
                return free, False
            free.add(trunk)
            trunk, leaves = _TRUNK.unpack_from(page.data)
            if leaves > PAGE_BYTES // 4 - 2:
                return free, False
            free.update(struct.unpack_from(f">{leaves}I", page.data, 8))
        return free, sure and len(free) == count

    def raw_pages(self) -> Iterator[bytes]:
        """All pages of the file alone."""
        for number in range(1, self._in_file + 1):
            yield self._raw(number)
