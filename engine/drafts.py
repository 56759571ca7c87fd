"""Values that are being written: private to one writer, changed at will, then handed to the content engine.

A draft starts in memory. One that outgrows `SMALL_BYTES` moves into the content engine's own form of a large draft
(`LargeDraft`), so that the memory of a writer is bounded whatever the size of its value. Not thread-safe, except
that `LargeDraft.store` may run in another thread while the owner goes on writing.
"""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from engine import disk
from engine.errors import OutOfSpaceError, TooLargeError

SMALL_BYTES = 64 * 1024
"""The largest value that is kept in memory while it is written, and in one row once it is stored."""

_COPY_BYTES = 1024 * 1024


class LargeDraft(Protocol):
    """A large value that is being written, kept by a content engine. Positions and sizes are in bytes."""

    @property
    def size(self) -> int:
        """The length of the value as written so far."""
        ...

    @property
    def unstored_bytes(self) -> int:
        """How much of it is held in memory until `take` and `store` move it out."""
        ...

    def read(self, offset: int, length: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...

    def truncate(self, size: int) -> None: ...

    def take(self, *, whole: bool = False) -> object:
        """Set aside what is to be stored next; reads go on seeing it. None when there is nothing.

        `whole`: not what is better stored together with what is written next.
        """
        ...

    def store(self, batch: object) -> None:
        """Store what `take` set aside. May run in any thread, one call at a time. Raises StoreError."""
        ...

    def sync(self) -> None:
        """Have what is stored survive a power cut, as far as what is going to refer to it may. Raises StoreError."""
        ...

    def seal(self) -> None:
        """Complete the value under its key, as part of the caller's transaction where the engine shares it.

        Everything has been stored by now. The draft may be written again; then it is to be sealed again.
        """
        ...

    def close(self) -> None:
        """Give up what the draft holds in this process. What was sealed stays."""
        ...


class Home(Protocol):
    """Where drafts find their base and become large: `engine.contents`."""

    def read(self, content: int, offset: int, length: int) -> bytes: ...

    def enlarge(self, draft: "Draft", base: int) -> LargeDraft: ...


class Draft:
    """One value that is being written, of any size.

    `home` keeps it once it is large or is to survive. The base, where there is one, is the value that the draft starts
    from; it is read at the first write that needs it.
    """

    def __init__(self, home: Home, base: int = 0, base_size: int = 0) -> None:
        self._home = home
        self._base = base
        self._base_size = base_size
        self._small: bytearray | None = None if base else bytearray()
        self.large: LargeDraft | None = None
        self.content = 0
        """The number of the value in the content engine; 0 until it has been kept there, and while it is empty."""
        self.kept = False
        """Whether the content engine has the value as it is now."""
        self.registered = False
        """Whether the catalog lists `content` as a draft, to be deleted should this process die."""
        self.superseded: list[int] = []
        """Values of this draft that an intent referred to, and that the next one will not refer to."""
        self._handed_over = False

    @property
    def size(self) -> int:
        if self._small is not None:
            return len(self._small)
        return self._base_size if self.large is None else self.large.size

    def whole(self) -> bytes:
        """The whole of a small value; only while `large` is None."""
        return bytes(self._in_memory())

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer at the end. Raises StoreError."""
        if self.large is not None:
            return self.large.read(offset, length)
        if self._small is None:
            return self._home.read(self._base, offset, length)
        return bytes(self._small[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        """Put `data` at `offset`; a gap before it reads as zeros. Raises StoreError."""
        self._change()
        end = offset + len(data)
        if self.large is not None or max(end, self.size) > SMALL_BYTES:
            self._grown().write(offset, data)
            return
        small = self._in_memory()
        if offset == len(small):
            small += data
            return
        if offset > len(small):
            small.extend(bytes(offset - len(small)))
        small[offset:end] = data

    def truncate(self, size: int) -> None:
        """Cut the value at `size`, or lengthen it with zeros. Raises StoreError."""
        self._change()
        if size == 0 and self.large is None:
            self._supersede()
            self._small = bytearray()
        elif self.large is not None or max(size, self.size) > SMALL_BYTES:
            self._grown().truncate(size)
        else:
            small = self._in_memory()
            del small[size:]
            small.extend(bytes(size - len(small)))

    def note_kept(self) -> None:
        """The catalog refers to the value as it is now."""
        self.kept = True
        self.registered = False
        self.superseded.clear()

    def hand_over(self) -> None:
        """The value was published: it is never changed again. The draft goes on, as a copy, if it is written again."""
        self.note_kept()
        self._handed_over = True

    def close(self) -> None:
        """Give up what the draft holds in this process."""
        if self.large is not None:
            self.large.close()

    def _change(self) -> None:
        self.kept = False
        if self._handed_over:
            self._handed_over = False
            if self.large is not None:
                self.large.close()
                self.large = self._home.enlarge(self, self.content)
            else:
                self.content = 0

    def _supersede(self) -> None:
        if self.content:
            self.superseded.append(self.content)
            self.content = 0

    def _in_memory(self) -> bytearray:
        if self._small is None:
            self._small = bytearray(self._home.read(self._base, 0, self._base_size))
        return self._small

    def _grown(self) -> LargeDraft:
        if self.large is None:
            # A small value that was kept already keeps its row: its intent refers to it until the next one.
            self._supersede()
            large = self._home.enlarge(self, self._base if self._small is None else 0)
            if self._small:
                large.write(0, bytes(self._small))
            self.large = large
            self._small = None
        return self.large


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise TooLargeError("the disk cannot have a file as large as this value") from error
        full = "there is no room for what is being written"
        raise disk.failure(error, full, "what is being written cannot be kept") from error


class SpooledDraft:
    """A large draft for engines that can only put whole values: a nameless file beside the store, put when sealed.

    `put` hands the engine the value in pieces. The engine has no holes, so none may be larger than what the disk has
    free. Raises OutOfSpaceError, TooLargeError for what the disk cannot have, and InternalError for its other failures.
    """

    def __init__(self, directory: Path | None, base: Iterator[bytes], put: Callable[[Iterator[bytes]], None]) -> None:
        with _translated():
            self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - closed by close()
        self._put = put
        self.size = 0
        for piece in base:
            self.write(self.size, piece)

    unstored_bytes = 0

    def read(self, offset: int, length: int) -> bytes:
        with _translated():
            return os.pread(self._file.fileno(), length, offset)

    def write(self, offset: int, data: bytes) -> None:
        with _translated():
            self._require_room(offset)
            view = memoryview(data)
            while view:
                written = os.pwrite(self._file.fileno(), view, offset)
                offset += written
                view = view[written:]
        self.size = max(self.size, offset)

    def truncate(self, size: int) -> None:
        with _translated():
            self._require_room(size)
            self._file.truncate(size)
        self.size = size

    def _require_room(self, end: int) -> None:
        """For the hole up to a position."""
        hole = end - self.size
        if hole > _COPY_BYTES and hole > disk.free_bytes(self._file.fileno()):
            raise OutOfSpaceError("a hole is larger than what the disk has free, and this engine has no holes")

    def take(self, *, whole: bool = False) -> object:
        return None

    def store(self, batch: object) -> None:
        raise AssertionError("a spooled draft has nothing to store before it is sealed")

    def sync(self) -> None:
        """The engine's put does that."""

    def seal(self) -> None:
        self._put(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        for offset in range(0, self.size, _COPY_BYTES):
            yield self.read(offset, _COPY_BYTES)

    def close(self) -> None:
        self._file.close()
