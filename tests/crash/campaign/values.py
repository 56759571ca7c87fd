"""Values that say what they are: records, each with its writer, its number, its length and a hash over all of that.

So whoever finds bytes can tell the value that was meant from an older one, from a half, and from another's bytes.
"""

import hashlib
import random
import struct
from typing import NamedTuple

_MAGIC = b"rec1"
_HEADER = struct.Struct("<4sIII16s")
_DIGEST = 16
SMALLEST = _HEADER.size
LARGEST = 6 * 1024 * 1024
_BLOCK = random.Random(0).randbytes(LARGEST + 65_521)
_PAGE = 4096


class Record(NamedTuple):
    """What one step of one worker wrote, and nobody else ever writes."""

    worker: int
    number: int
    size: int
    """With its header."""

    def __str__(self) -> str:
        return f"{self.worker}.{self.number} ({self.size} bytes)"


Value = tuple[Record, ...]


class Torn(NamedTuple):
    """What was found in place of a value, and is none."""

    how: str


def _payload(record: Record) -> bytes:
    start = (record.worker * 7919 + record.number * 257) % (len(_BLOCK) - LARGEST)
    return _BLOCK[start : start + record.size - SMALLEST]


def encode(record: Record) -> bytes:
    payload = _payload(record)
    start = _MAGIC + struct.pack("<III", *record)
    return start + hashlib.blake2b(payload, digest_size=_DIGEST, key=start).digest() + payload


def encode_all(value: Value) -> bytes:
    return b"".join(map(encode, value))


def decode(data: bytes) -> Value | Torn:
    """The records that some bytes are, or how they are torn."""
    found: list[Record] = []
    offset = 0
    while offset < len(data):
        if len(data) - offset < SMALLEST or data[offset : offset + 4] != _MAGIC:
            return Torn(f"no record begins at byte {offset} of {len(data)}, behind {shown(tuple(found))}")
        _, worker, number, size, digest = _HEADER.unpack_from(data, offset)
        record = Record(worker, number, size)
        payload = data[offset + SMALLEST : offset + size]
        key = data[offset : offset + SMALLEST - _DIGEST]
        if hashlib.blake2b(payload, digest_size=_DIGEST, key=key).digest() != digest:
            return Torn(f"{record} at byte {offset} of {len(data)} {_difference(record, payload)}")
        found.append(record)
        offset += size
    return tuple(found)


def _difference(record: Record, payload: bytes) -> str:
    """Where a record is not what was written."""
    wanted = _payload(record)
    if payload == wanted:
        return "has a damaged header"
    starts = range(0, len(wanted), _PAGE)
    wrong = [start for start in starts if payload[start : start + _PAGE] != wanted[start : start + _PAGE]]
    zeros = sum(not any(payload[start : start + _PAGE]) for start in wrong)
    return (
        f"has {len(payload)} bytes behind its header, and differs in {len(wrong)} pieces of {_PAGE} bytes,"
        f" {zeros} of them zeros, the first at {wrong[0] if wrong else len(wanted)}"
    )


def shown(value: Value | Torn | None) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Torn):
        return f"torn: {value.how}"
    return "+".join(map(str, value)) or "an empty value"
