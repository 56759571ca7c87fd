"""Values that carry their identity: whoever reads one knows whether it is whole, and who wrote it."""

import random

SMALL = 8_000
LARGE = 3_000_000


def make(writer: int, number: int, size: int) -> bytes:
    """The value that `writer` puts as its `number`th, of about `size` bytes."""
    line = b"%d.%d.%d;" % (writer, number, size)
    return line * (size // len(line) + 1)


def check(value: bytes) -> None:
    """Raise AssertionError unless this is one whole value."""
    name = value.partition(b";")[0].split(b".")
    assert len(name) == 3, f"no value of ours: {value[:60]!r}"
    writer, number, size = map(int, name)
    assert value == make(writer, number, size), f"torn: {len(value)} bytes of {name}"


def size(chance: random.Random) -> int:
    """Mostly small, some large."""
    return chance.randrange(65_000, LARGE) if chance.random() < 0.01 else chance.randrange(1, SMALL)
