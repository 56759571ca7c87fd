"""The conformance suite of content engines: every promise of `engine.interface`, as tests.

Somebody who writes an engine subclasses `EngineConformance` in a test module of their own and runs pytest:

    class TestDirectoryEngine(EngineConformance):
        def make_engine(self, directory: Path) -> ObjectEngine:
            return DirectoryEngine({"location": str(directory)})

It needs pytest and nothing else, and is the only module here that does.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from engine.errors import ExistsError, InvalidError, NotFoundError
from engine.interface import KEY_MAX_BYTES, RANGE_BYTES, ObjectEngine

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


class EngineConformance:
    """Subclass it, name the subclass Test..., and define `make_engine`."""

    def make_engine(self, directory: Path) -> ObjectEngine:
        """Return an open engine: an empty one for a fresh `directory`, with the old content for one used before.

        Only a closed engine's directory is used again. An engine that keeps nothing in files can take the directory's
        path as the name of whatever it keeps.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define make_engine")

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[ObjectEngine]:
        engine = self.make_engine(tmp_path)
        yield engine
        engine.close()

    # Put and get

    @each_put
    @each_value
    def test_what_is_put_is_got(self, engine: ObjectEngine, put: Put, value: bytes) -> None:
        put(engine, "key", value, False)
        got = engine.get_object("key")
        assert type(got) is bytes
        assert got == value
        assert engine.object_size("key") == len(value)

    @each_put
    def test_without_force_the_old_value_stands(self, engine: ObjectEngine, put: Put) -> None:
        engine.put_object("key", b"old")
        with pytest.raises(ExistsError):
            put(engine, "key", b"new", False)
        assert engine.get_object("key") == b"old"

    @each_put
    def test_an_empty_value_exists_too(self, engine: ObjectEngine, put: Put) -> None:
        engine.put_object("key", b"")
        with pytest.raises(ExistsError):
            put(engine, "key", b"new", False)
        assert engine.list_object_keys() == ["key"]

    @each_put
    @pytest.mark.parametrize(
        ("old", "new"), [(b"old", LARGE), (LARGE, b"new"), (b"old", b"")], ids=["grows", "shrinks", "empties"]
    )
    def test_force_replaces_the_whole_value(self, engine: ObjectEngine, put: Put, old: bytes, new: bytes) -> None:
        engine.put_object("key", old)
        put(engine, "key", new, True)
        assert engine.get_object("key") == new
        assert engine.object_size("key") == len(new)
        assert engine.list_object_keys() == ["key"]

    @each_put
    def test_force_needs_no_old_value(self, engine: ObjectEngine, put: Put) -> None:
        put(engine, "key", b"new", True)
        assert engine.get_object("key") == b"new"

    @each_put
    @each_invalid_key
    def test_an_invalid_key_cannot_be_put(self, engine: ObjectEngine, put: Put, key: str) -> None:
        with pytest.raises(InvalidError):
            put(engine, key, b"value", True)
        assert engine.list_object_keys() == []

    @each_use_of_a_key
    @each_invalid_key
    def test_an_invalid_key_is_refused(
        self, engine: ObjectEngine, use: Callable[[ObjectEngine, str], object], key: str
    ) -> None:
        with pytest.raises(InvalidError):
            use(engine, key)

    @each_use_of_a_key
    def test_a_missing_key_is_not_found(self, engine: ObjectEngine, use: Callable[[ObjectEngine, str], object]) -> None:
        engine.put_object("key", b"value")
        engine.put_object("key/below", b"value")
        for missing in ("missing", "ke", "key/", "key/below/too"):
            with pytest.raises(NotFoundError):
                use(engine, missing)
        assert sorted(engine.list_object_keys()) == ["key", "key/below"]

    @pytest.mark.parametrize("view", [bytearray, lambda value: memoryview(bytearray(value))], ids=["bytearray", "view"])
    def test_a_value_is_not_the_callers_buffer(
        self, engine: ObjectEngine, view: Callable[[bytes], bytearray | memoryview]
    ) -> None:
        for key, value in (("small", b"as it was put"), ("large", LARGE)):
            buffer = view(value)
            engine.put_object(key, buffer)  # type: ignore[arg-type]  # any bytes-like object will do
            buffer[0:2] = b"??"
            assert engine.get_object(key) == value

    # Delete

    def test_a_deleted_key_is_gone(self, engine: ObjectEngine) -> None:
        engine.put_object("key", b"value")
        engine.delete_object("key")
        assert engine.list_object_keys() == []
        with pytest.raises(NotFoundError):
            engine.get_object("key")
        with pytest.raises(NotFoundError):
            engine.delete_object("key")

    def test_a_deleted_key_can_be_put_again(self, engine: ObjectEngine) -> None:
        engine.put_object("key", LARGE)
        engine.delete_object("key")
        engine.put_object("key", b"again")
        assert engine.get_object("key") == b"again"

    # Keys and prefixes

    def test_no_two_keys_collide(self, engine: ObjectEngine) -> None:
        for key in KEYS:
            engine.put_object(key, f"value of {key}".encode())
        assert sorted(engine.list_object_keys()) == sorted(KEYS)
        assert {key: engine.get_object(key) for key in KEYS} == {key: f"value of {key}".encode() for key in KEYS}

    def test_deleting_a_key_takes_no_other(self, engine: ObjectEngine) -> None:
        left = set(KEYS)
        for key in KEYS:
            engine.put_object(key, b"value")
        for key in KEYS:
            engine.delete_object(key)
            left.remove(key)
            assert set(engine.list_object_keys()) == left

    def test_an_empty_engine_has_no_keys(self, engine: ObjectEngine) -> None:
        assert engine.list_object_keys() == []
        assert engine.list_object_keys("a") == []

    @pytest.mark.parametrize("prefix", PREFIXES)
    def test_a_prefix_is_literal(self, engine: ObjectEngine, prefix: str) -> None:
        for key in KEYS:
            engine.put_object(key, b"value")
        expected = sorted(key for key in KEYS if key.startswith(prefix))
        assert sorted(engine.list_object_keys(prefix)) == expected

    def test_many_keys_are_listed_once_each(self, engine: ObjectEngine) -> None:
        keys = [f"{number:05}" for number in range(1100)]  # more than a page of an S3 listing
        for key in keys:
            engine.put_object(key, key.encode())
        assert sorted(engine.list_object_keys()) == keys
        assert sorted(engine.list_object_keys("010")) == keys[1000:1100]
        assert engine.get_object("01099") == b"01099"

    # Ranges

    @pytest.mark.parametrize("value", [b"0123456789", LARGE], ids=["small", "large"])
    def test_a_range_is_that_part_of_the_value(self, engine: ObjectEngine, value: bytes) -> None:
        engine.put_object("key", value)
        end = len(value)
        offsets = {0, 1, 5, end // 2, end - 1, end, end + 1, end + 2**40}
        lengths = {0, 1, 3, end // 2, end - 1, end, end + 1, 2**40}
        for offset in offsets:
            for length in lengths:
                part = engine.read_object("key", offset, length)
                assert type(part) is bytes
                assert part == value[offset : offset + length], (offset, length)

    def test_a_range_of_nothing_is_empty(self, engine: ObjectEngine) -> None:
        engine.put_object("key", b"")
        assert engine.read_object("key", 0, 10) == b""

    @pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (-1, -1)])
    def test_a_negative_range_is_invalid(self, engine: ObjectEngine, offset: int, length: int) -> None:
        engine.put_object("key", b"value")
        with pytest.raises(InvalidError):
            engine.read_object("key", offset, length)

    @pytest.mark.parametrize(
        "value", [b"", b"value", LARGE, LARGE * 3 + b"end"], ids=["empty", "small", "large", "larger"]
    )
    def test_what_is_stored_is_the_value(self, engine: ObjectEngine, value: bytes) -> None:
        engine.put_object("key", value)
        found = bytearray(len(value))
        end = 0
        for offset, length in engine.stored_ranges("key"):
            assert offset >= end
            assert 0 < length <= RANGE_BYTES
            end = offset + length
            found[offset:end] = engine.read_object("key", offset, length)
        assert found == value
        with pytest.raises(NotFoundError):
            list(engine.stored_ranges("other"))

    # Streams

    def test_a_stream_without_chunks_is_an_empty_value(self, engine: ObjectEngine) -> None:
        engine.put_stream("key", iter(()))
        assert engine.get_object("key") == b""

    def test_a_list_of_chunks_is_a_stream(self, engine: ObjectEngine) -> None:
        engine.put_stream("key", [b"one ", b"", b"two"])
        assert engine.get_object("key") == b"one two"

    def test_a_stream_is_not_seen_before_its_end(self, engine: ObjectEngine) -> None:
        def watched() -> Iterator[bytes]:
            for number in range(4):
                yield LARGE
                assert engine.list_object_keys() == ["old"], number
                assert engine.get_object("old") == b"old", number
                with pytest.raises(NotFoundError):
                    engine.get_object("new")

        engine.put_object("old", b"old")
        engine.put_stream("new", watched())
        assert engine.get_object("new") == LARGE * 4
        engine.delete_object("new")
        engine.put_stream("old", watched(), force=True)
        assert engine.get_object("old") == LARGE * 4

    @pytest.mark.parametrize("force", [False, True])
    def test_a_broken_stream_stores_nothing(self, engine: ObjectEngine, force: bool) -> None:
        with pytest.raises(BrokenStreamError):
            engine.put_stream("key", broken_stream(), force=force)
        assert engine.list_object_keys() == []
        with pytest.raises(NotFoundError):
            engine.get_object("key")

    def test_a_broken_stream_leaves_the_old_value(self, engine: ObjectEngine) -> None:
        engine.put_object("key", b"old")
        with pytest.raises(BrokenStreamError):
            engine.put_stream("key", broken_stream(), force=True)
        assert engine.get_object("key") == b"old"
        assert engine.object_size("key") == 3

    # Copies

    @each_value
    def test_a_copy_is_the_same_value(self, engine: ObjectEngine, value: bytes) -> None:
        engine.put_object("source", value)
        engine.copy_object("source", "target")
        assert engine.get_object("target") == value
        assert engine.get_object("source") == value

    @pytest.mark.parametrize(("removed", "other"), [("source", "target"), ("target", "source")])
    def test_a_copy_stands_on_its_own(self, engine: ObjectEngine, removed: str, other: str) -> None:
        engine.put_object("source", LARGE)
        engine.copy_object("source", "target")
        engine.put_object(removed, b"replaced", force=True)
        assert engine.get_object(other) == LARGE
        engine.delete_object(removed)
        assert engine.get_object(other) == LARGE

    def test_a_copy_of_nothing_changes_nothing(self, engine: ObjectEngine) -> None:
        with pytest.raises(NotFoundError):
            engine.copy_object("missing", "target")
        assert engine.list_object_keys() == []

    def test_a_copy_replaces_nothing(self, engine: ObjectEngine) -> None:
        engine.put_object("source", b"new")
        engine.put_object("target", b"old")
        for target in ("target", "source"):
            with pytest.raises(ExistsError):
                engine.copy_object("source", target)
        assert engine.get_object("target") == b"old"
        assert engine.get_object("source") == b"new"

    @each_invalid_key
    def test_a_copy_needs_a_valid_target(self, engine: ObjectEngine, key: str) -> None:
        engine.put_object("source", b"value")
        with pytest.raises(InvalidError):
            engine.copy_object("source", key)

    # Threads

    @each_put
    def test_without_force_one_thread_wins(self, engine: ObjectEngine, put: Put) -> None:
        def put_new(key: str, value: bytes) -> bool:
            try:
                put(engine, key, value, False)
            except ExistsError:
                return False
            return True

        values = [bytes([number]) * 50_000 for number in range(8)]
        for key in ("first", "second", "third", "fourth"):
            won = run_at_once([partial(put_new, key, value) for value in values])
            assert won.count(True) == 1
            assert engine.get_object(key) == values[won.index(True)]

    @each_put
    def test_with_force_readers_see_whole_values(self, engine: ObjectEngine, put: Put) -> None:
        values = [bytes([number]) * (50_000 + number) for number in range(4)]

        written = []

        def write(value: bytes) -> bool:
            try:
                for _ in range(10):
                    put(engine, "key", value, True)
            finally:
                written.append(value)
            return True

        def read() -> bool:
            while len(written) < len(values):
                if engine.get_object("key") not in values:
                    return False
            return True

        engine.put_object("key", values[0])
        results = run_at_once([*(partial(write, value) for value in values), read, read])
        assert all(results)
        assert engine.get_object("key") in values

    def test_threads_with_their_own_keys_do_not_meet(self, engine: ObjectEngine) -> None:
        def put_get_and_delete(name: int) -> bool:
            for number in range(20):
                key, value = f"{name}/{number}", f"{name} {number}".encode()
                engine.put_object(key, value)
                assert engine.get_object(key) == value
                assert key in engine.list_object_keys(f"{name}/")
                if number % 2:
                    engine.delete_object(key)
            return True

        assert all(run_at_once([partial(put_get_and_delete, name) for name in range(6)]))
        assert len(engine.list_object_keys()) == 6 * 10

    # Sync, close, open again

    def test_sync_and_close_can_be_repeated(self, engine: ObjectEngine) -> None:
        engine.sync()
        engine.put_object("key", b"value")
        engine.sync()
        engine.sync()
        assert engine.get_object("key") == b"value"
        engine.close()
        engine.close()

    def test_content_outlives_a_persistent_engine(self, engine: ObjectEngine, tmp_path: Path) -> None:
        engine.put_object("deleted", b"value")
        engine.put_object("replaced", LARGE)
        for key in KEYS:
            engine.put_object(key, key.encode())
        engine.put_stream("large", pieces(LARGE))
        engine.put_object("replaced", b"new", force=True)
        engine.delete_object("deleted")
        engine.close()
        again = self.make_engine(tmp_path)
        try:
            expected = [*KEYS, "large", "replaced"] if engine.persistent else []
            assert sorted(again.list_object_keys()) == sorted(expected)
            values = {key: key.encode() for key in KEYS} | {"large": LARGE, "replaced": b"new"}
            assert {key: again.get_object(key) for key in expected} == {key: values[key] for key in expected}
        finally:
            again.close()
