"""Damage of every kind that a disk does to a file, chosen by a random number generator."""

import random
from collections.abc import Callable
from pathlib import Path

SECTOR = 512
PAGE = 4096
_FRAMES_FROM, _FRAME = 32, 24 + PAGE
_SLOT = 256 * 1024

Random = random.Random
Damage = Callable[[bytearray, Random], str]


def _bit(data: bytearray, chance: Random) -> str:
    at = chance.randrange(len(data) * 8)
    data[at // 8] ^= 1 << at % 8
    return f"bit {at % 8} of byte {at // 8} turned"


def _burst(data: bytearray, chance: Random) -> str:
    length = min(len(data), chance.choice((2, 3, 8, 64, 600)))
    at = chance.randrange(len(data) - length + 1)
    data[at : at + length] = chance.randbytes(length)
    return f"{length} bytes from {at} on are others"


def _few_bits(data: bytearray, chance: Random) -> str:
    start = chance.randrange(len(data))
    bits = [min(len(data) - 1, start + chance.randrange(200)) * 8 + chance.randrange(8) for _ in range(3)]
    for at in bits:
        data[at // 8] ^= 1 << at % 8
    return f"bits {bits} turned"


def _zeros(size: int) -> Damage:
    def damage(data: bytearray, chance: Random) -> str:
        at = chance.randrange(-(-len(data) // size)) * size
        data[at : at + size] = bytes(len(data[at : at + size]))
        return f"{size} zeros from {at} on"

    return damage


def _cut(data: bytearray, chance: Random) -> str:
    at = chance.randrange(len(data))
    if chance.random() < 0.5:
        at -= at % SECTOR
    del data[at:]
    return f"cut to {at} bytes"


def _swap(size: int, begin: int = 0) -> Damage:
    def damage(data: bytearray, chance: Random) -> str:
        count = (len(data) - begin) // size
        if count < 2:
            return _cut(data, chance)
        first, second = (begin + number * size for number in chance.sample(range(count), 2))
        one, other = data[first : first + size], data[second : second + size]
        data[first : first + size], data[second : second + size] = other, one
        return f"{size} bytes at {first} and at {second} swapped"

    return damage


_ANY: list[Damage] = [_bit, _bit, _few_bits, _burst, _zeros(SECTOR), _zeros(PAGE), _cut]
_OF: list[tuple[str, int, Damage]] = [
    ("-wal", 4, _swap(_FRAME, _FRAMES_FROM)),
    ("-data", 2, _swap(_SLOT)),
    ("-puts", 1, _swap(SECTOR)),
    ("", 6, _swap(PAGE)),
]
"""By the end of a file's name: how often it is chosen, and what else is done to it."""


def damage(files: list[Path], chance: Random) -> str:
    """Damage one of these files. Returns what was done."""
    weighed = [(file, *_kind(file)) for file in files if file.stat().st_size]
    ((file, _, own),) = chance.choices(weighed, [weight for _, weight, _ in weighed])
    before = file.read_bytes()
    data = bytearray(before)
    while True:
        what = chance.choice([*_ANY, own])(data, chance)
        if data != before:
            break
    file.write_bytes(data)
    return f"{file.name}: {what}"


def _kind(file: Path) -> tuple[int, Damage]:
    return next((weight, own) for ending, weight, own in _OF if ending in file.name)
