"""Values in parts: read by ranges, put as streams, and copied."""

from collections.abc import Iterator

import pytest

from engine.conformance.cases import LARGE, BrokenStreamError, broken_stream, each_invalid_key, each_value
from engine.errors import ExistsError, InvalidError, NotFoundError
from engine.interface import RANGE_BYTES, ObjectEngine


class ValueTests:
    """A part of `EngineConformance`, which has the fixture `engine`."""

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
