"""Mending a flipped bit by a CRC-32: which bit it is follows from the difference to what the CRC should be."""

import zlib
from functools import cache

_MASK = 0xFFFFFFFF
_TOP = 24


def mend(data: bytes, crc: int) -> bytes | None:
    """`data` with the one bit turned that makes its CRC right; None where no bit does."""
    difference = zlib.crc32(data) ^ crc
    if difference.bit_count() == 1:
        return data  # the CRC itself is what was damaged
    effects, tops = _tables()
    for at in range(len(data) - 1, -1, -1):
        bit = effects.get(difference)
        if bit is not None:
            return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
        # What the difference would have been before this byte.
        index, value = tops[difference >> _TOP]
        difference = ((difference ^ value) << 8 | index) & _MASK
    return None


@cache
def _tables() -> tuple[dict[int, int], list[tuple[int, int]]]:
    """By the effect on the CRC, which bit of the last byte was turned; and the CRC's table by its highest byte."""
    table = [_of_byte(index) for index in range(256)]
    tops = [(0, 0)] * 256
    for index, value in enumerate(table):
        tops[value >> _TOP] = index, value
    return {table[1 << bit]: 1 << bit for bit in range(8)}, tops


def _of_byte(byte: int) -> int:
    value = byte
    for _ in range(8):
        value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    return value
