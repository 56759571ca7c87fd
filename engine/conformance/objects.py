"""Objects by their keys: put, got, deleted and listed, and no two of them taken for one."""

from collections.abc import Callable

import pytest

from engine.conformance.cases import (
    KEYS,
    LARGE,
    PREFIXES,
    Put,
    each_invalid_key,
    each_put,
    each_use_of_a_key,
    each_value,
)
from engine.errors import ExistsError, InvalidError, NotFoundError
from engine.interface import ObjectEngine


class ObjectTests:
    """A part of `EngineConformance`, which has the fixture `engine`."""

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
