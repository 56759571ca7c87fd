"""The checksum of pages (SQLite's extension cksumvfs) and of frames of the log, and mending a flipped bit by it.

Both are two sums of 32 bits over words: s1 += a + s2; s2 += b + s1. That is linear, so the difference to what the sums
should be tells which bit is wrong, where it is a single one. Of the upper bits of a word it does not always tell.
"""

import struct
from collections.abc import Sequence
from functools import cache

import apsw

from engine.sqlite.connecting import use_checksums

_MASK = 0xFFFFFFFF
_WORD = 4
_BITS = 32

Sums = tuple[int, int]

ZERO: Sums = 0, 0


class Checker:
    """Compares sums as SQLite's extension does, which takes a hundredth of the time that `add` takes."""

    def __init__(self) -> None:
        use_checksums()
        self._cursor = apsw.Connection(":memory:").cursor()

    def agrees(self, page: bytes) -> bool:
        """Whether a page of 2**n bytes ends with its sums."""
        return bool(self._cursor.execute("SELECT verify_checksum(?)", (page,)).get)

    def follows(self, state: Sums, data: bytes, stored: Sums, order: str) -> bool:
        """Whether the sums after `data` are `stored`."""
        if order != "<":
            return add(state, data, order) == stored
        # Zeros in front count nothing, and two words lead to the sums that are there before.
        tail = struct.pack("<II", state[0], (state[1] - state[0]) & _MASK) + data + struct.pack("<II", *stored)
        return self.agrees(tail.rjust(1 << (len(tail) - 1).bit_length(), b"\0"))


def add(state: Sums, data: bytes, order: str = "<") -> Sums:
    """The sums after `data`, whose length is a multiple of 8; `order` is that of the words' bytes, as in struct."""
    one, two = state
    words = iter(_words(data, order))
    for first, second in zip(words, words, strict=True):
        one = (one + first + two) & _MASK
        two = (two + second + one) & _MASK
    return one, two


def mend(state: Sums, data: bytes, stored: Sums, order: str = "<") -> tuple[bytes, Sums] | None:
    """`data` and its sums with the one bit turned that makes them agree; None where there is no or more than one."""
    found = add(state, data, order)
    candidates = [(data, found)] if _is_one_bit(found, stored) else []
    words = _words(data, order)
    difference = (stored[0] - found[0]) & _MASK, (stored[1] - found[1]) & _MASK
    for word, bit, was_set in _flips(len(words)).get(difference, ()):
        if bool(words[word] >> bit & 1) is was_set:
            turned = words[word] ^ (1 << bit)
            start = word * _WORD
            mended = data[:start] + struct.pack(f"{order}I", turned) + data[start + _WORD :]
            candidates.append((mended, stored))
    return candidates[0] if len(candidates) == 1 else None


def _is_one_bit(found: Sums, stored: Sums) -> bool:
    return sum((a ^ b).bit_count() for a, b in zip(found, stored, strict=True)) == 1


def _words(data: bytes, order: str) -> Sequence[int]:
    return struct.unpack(f"{order}{len(data) // _WORD}I", data)


@cache
def _weights(words: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How often each word counts in the first and in the second sum."""
    ones, twos = [0] * words, [0] * words
    first, second = (1, 1), (0, 1)  # of the two words of the last pair
    for word in range(words - 2, -1, -2):
        ones[word], twos[word] = first
        ones[word + 1], twos[word + 1] = second
        first, second = _before(first), _before(second)
    return tuple(ones), tuple(twos)


def _before(weights: Sums) -> Sums:
    """What the weights of a pair's word are for the same word of the pair before it."""
    one, two = weights
    # After the pair came one more: s1 += s2; s2 += s1.
    return (one + two) & _MASK, (one + 2 * two) & _MASK


@cache
def _flips(words: int) -> dict[Sums, list[tuple[int, int, bool]]]:
    """By how the sums differ: which word and bit has been turned, and whether it is set now."""
    flips: dict[Sums, list[tuple[int, int, bool]]] = {}
    ones, twos = _weights(words)
    for word, (one, two) in enumerate(zip(ones, twos, strict=True)):
        for bit in range(_BITS):
            up = (one << bit) & _MASK, (two << bit) & _MASK
            down = -up[0] & _MASK, -up[1] & _MASK
            flips.setdefault(up, []).append((word, bit, False))
            flips.setdefault(down, []).append((word, bit, True))
    return flips
