"""Hashes of stored values: what the disk returns is compared with what was stored.

A small value has one hash, a chunk one for each block, so that a part of it is read and checked without the rest. The
pages of the database have checksums of their own (see connecting); these find what pages do not: one that is whole, but
not the one that was asked for, and everything in the data file.

Values that were stored before there were hashes have none; `fusefs compact` adds them.
"""

import xxhash

from engine.errors import DamagedError

BLOCK_BYTES = 64 * 1024
HASH_BYTES = 8

Data = bytes | bytearray | memoryview

hash_of = xxhash.xxh3_64_digest
"""The hash of a small value, 8 bytes: 64 bits make an accident as good as impossible. No protection from people."""


def hashes_of(data: Data) -> bytes:
    """The hashes of a chunk's blocks, one behind the other."""
    if len(data) <= BLOCK_BYTES:
        return hash_of(data) if data else b""
    view = memoryview(data)
    return b"".join([hash_of(view[start : start + BLOCK_BYTES]) for start in range(0, len(view), BLOCK_BYTES)])


def block_span(start: int, length: int) -> tuple[int, int]:
    """Where the blocks begin and end, in a chunk, that hold `length` bytes from `start`."""
    return start - start % BLOCK_BYTES, -(-(start + length) // BLOCK_BYTES) * BLOCK_BYTES


def is_whole(data: Data, hashes: bytes | None, start: int, end: int) -> bool:
    """Whether `data` is what a chunk had between two borders of blocks; less than that where the chunk ends before."""
    return (
        hashes is None or hashes_of(data) == hashes[start // BLOCK_BYTES * HASH_BYTES : end // BLOCK_BYTES * HASH_BYTES]
    )


def check_small(number: int, data: bytes, stored: bytes | None) -> None:
    """Raise DamagedError when a small value is not what was stored."""
    if stored is not None and hash_of(data) != stored:
        raise damaged(number)


def damaged(number: int) -> DamagedError:
    """The error for a value of which something is not what was stored."""
    return DamagedError(
        f"the value {number} is damaged, the disk returned other bytes: `fusefs check` names the object"
    )
