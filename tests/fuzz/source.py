"""Takes an input apart: bytes become numbers, choices, names and texts.

The one way in which all targets read theirs, so that an input means the same to Hypothesis, to the coverage-guided
fuzzer and to the replay of the corpus. Whatever the bytes are, they can be read; behind their end everything is 0 and
empty.
"""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

NUMBERS = (0, 1, 2, 3, 7, 255, 256, 4096, 65535, 65536, 65537, 262144, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**32)
HUGE = (2**40, 2**53, 2**62, 2**63 - 4097, 2**63 - 1)
NAMES = (
    *(b"a", b"b", b"app", b"42", b"temporary", b".", b"..", b"", b"-", b"--", b"a b", b"a=b"),
    *(b"new\nline", b"\x1b[31mred\x1b]0;title\x07", b"\xff\xfe", "\u202eright to left".encode(), b"\xed\xa0\x80"),
    *(b"a/b", b"/", b"nul\0", b"x" * 128, b"x" * 129, b"x" * 255, b"x" * 256, b"x" * 1024, b"cr\rname", b"\\", b"%s"),
)


class Source:
    """One input, read from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there is any of it left."""
        return self._at < len(self._data)

    def take(self, length: int) -> bytes:
        """The next bytes, fewer at the end."""
        taken = self._data[self._at : self._at + length]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def byte(self) -> int:
        taken = self.take(1)
        return taken[0] if taken else 0

    def below(self, limit: int) -> int:
        """A number from 0 to less than `limit`, 256 at the most."""
        return self.byte() % limit

    def flag(self) -> bool:
        return bool(self.byte() & 1)

    def pick(self, choices: Sequence[T]) -> T:
        """One of up to 256."""
        return choices[self.below(len(choices))]

    def number(self, choices: Sequence[int] = (*NUMBERS, *HUGE)) -> int:
        """A number that is never negative: one of those where mistakes are made, or any of up to 63 bits."""
        kind = self.byte()
        if kind < 192:
            return choices[kind % len(choices)]
        return int.from_bytes(self.take(kind % 8 + 1), "little") & 2**63 - 1

    def blob(self, limit: int = 255) -> bytes:
        """Bytes of a length that comes before them."""
        return self.take(self.below(min(limit, 255) + 1))

    def name(self) -> bytes:
        """The name of something: of a few, so that names meet again, or any."""
        kind = self.byte()
        return NAMES[kind % len(NAMES)] if kind < 224 else self.blob()

    def text(self, limit: int = 255) -> str:
        """Text as it comes from the command line: what is not UTF-8 is in surrogates."""
        return self.blob(limit).decode("utf-8", "surrogateescape")
