"""What the conformance tests put under which keys, and the calls that all of them are made with."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.interface import KEY_MAX_BYTES, ObjectEngine

EVERY_BYTE = bytes(range(256))
LARGE = EVERY_BYTE * 8200 + b"an odd end"  # more than 2 MiB, and no multiple of any block size
VALUES = {"empty": b"", "one-zero": b"\0", "text": b"hello\n", "every-byte": EVERY_BYTE, "large": LARGE}

# Keys that become one where an engine gives a meaning to a character, or joins, folds or cleans names. The first three
# are how "a_b" + "c" and "a" + "b_c" met when the two parts of a key were joined with "_".
KEYS = (
    *("a_b/c", "a/b_c", "a_b_c"),
    *("a", "a/b", "a/b/c", "a/b/", "/a/b", "a//b", "a/./b", "a/../b", ".", "..", "./a", ".a", "~"),
    *("a%2Fb", "a%252Fb", "a\\b", "a+b", "a b", " a", "a ", "a\n", "a.tmp", "a;b", "a'b", 'a"b'),
    *("%", "_", "*", "?", "[a]", "\x01a", "\x7f"),
    *("A", "é", "e\u0301", "ü/日本", "\U0001f600", "1", "01", "-1", "é" * (KEY_MAX_BYTES // 2)),
)
PREFIXES = ("", "a", "A", "a/", "a/b", "a_", "a_b", "a%", "%", "_", "*", "?", "[", ".", "é", "e", "日", "ü/", "a/b/d")
INVALID_KEYS = {"empty": "", "nul": "a\0b", "surrogate": "\udc80"}

USES_OF_A_KEY: dict[str, Callable[[ObjectEngine, str], object]] = {
    "get_object": lambda engine, key: engine.get_object(key),
    "delete_object": lambda engine, key: engine.delete_object(key),
    "object_size": lambda engine, key: engine.object_size(key),
    "read_object": lambda engine, key: engine.read_object(key, 0, 1),
    "copy_object": lambda engine, key: engine.copy_object(key, "copy"),
}
PUTS: dict[str, Callable[[ObjectEngine, str, bytes, bool], None]] = {
    "put_object": lambda engine, key, value, force: engine.put_object(key, value, force=force),
    "put_stream": lambda engine, key, value, force: engine.put_stream(key, pieces(value), force=force),
}

each_use_of_a_key = pytest.mark.parametrize("use", USES_OF_A_KEY.values(), ids=USES_OF_A_KEY)
each_put = pytest.mark.parametrize("put", PUTS.values(), ids=PUTS)
each_value = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
each_invalid_key = pytest.mark.parametrize("key", INVALID_KEYS.values(), ids=INVALID_KEYS)

Put = Callable[[ObjectEngine, str, bytes, bool], None]


class BrokenStreamError(Exception):
    """What a stream of chunks raises here. It is none of the engine's errors, and must come through unchanged."""


def pieces(value: bytes) -> Iterator[bytes]:
    """Give `value` in uneven chunks, an empty one first, all in one buffer that is filled again and again."""
    buffer = bytearray()
    yield buffer  # type: ignore[misc]  # any bytes-like object will do
    size = max(1, len(value) // 7)
    for start in range(0, len(value), size):
        buffer[:] = value[start : start + size]
        yield buffer  # type: ignore[misc]


def broken_stream() -> Iterator[bytes]:
    yield b"the first chunk"
    yield LARGE
    raise BrokenStreamError


def run_at_once(jobs: list[Callable[[], bool]]) -> list[bool]:
    """Run every job in a thread of its own, started as nearly together as can be, and return what each returned."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], bool]) -> bool:
        barrier.wait(timeout=60)
        return job()

    with ThreadPoolExecutor(len(jobs)) as threads:
        return list(threads.map(run, jobs))
