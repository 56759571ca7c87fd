"""The memory engine against a plain dict, with random sequences of every operation."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.errors import ExistsError, NotFoundError
from engine.memory import MemoryEngine

# Few keys, so that operations meet, and some of them prefixes of others.
KEYS = st.sampled_from(["a", "ab", "a/b", "a_b", "a%", "b", "é"])
PREFIXES = st.sampled_from(["", "a", "a_", "a%", "a/", "b", "é", "z"])
NUMBERS = st.integers(min_value=0, max_value=70)


class MemoryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.engine = MemoryEngine({})
        self.model: dict[str, bytes] = {}

    @rule(key=KEYS, value=st.binary(max_size=64), force=st.booleans())
    def put(self, key: str, value: bytes, force: bool) -> None:
        if key in self.model and not force:
            with pytest.raises(ExistsError):
                self.engine.put_object(key, value, force)
        else:
            self.engine.put_object(key, value, force)
            self.model[key] = value

    @rule(key=KEYS, chunks=st.lists(st.binary(max_size=16), max_size=4), force=st.booleans())
    def put_stream(self, key: str, chunks: list[bytes], force: bool) -> None:
        if key in self.model and not force:
            with pytest.raises(ExistsError):
                self.engine.put_stream(key, chunks, force)
        else:
            self.engine.put_stream(key, chunks, force)
            self.model[key] = b"".join(chunks)

    @rule(source=KEYS, copy=KEYS)
    def copy_to(self, source: str, copy: str) -> None:
        if source not in self.model:
            with pytest.raises(NotFoundError):
                self.engine.copy_object(source, copy)
        elif copy in self.model:
            with pytest.raises(ExistsError):
                self.engine.copy_object(source, copy)
        else:
            self.engine.copy_object(source, copy)
            self.model[copy] = self.model[source]

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        if key in self.model:
            self.engine.delete_object(key)
            del self.model[key]
        else:
            with pytest.raises(NotFoundError):
                self.engine.delete_object(key)

    @rule(key=KEYS, offset=NUMBERS, length=NUMBERS)
    def read(self, key: str, offset: int, length: int) -> None:
        if key in self.model:
            assert self.engine.read_object(key, offset, length) == self.model[key][offset : offset + length]
            assert self.engine.object_size(key) == len(self.model[key])
        else:
            with pytest.raises(NotFoundError):
                self.engine.read_object(key, offset, length)

    @rule(prefix=PREFIXES)
    def list_keys(self, prefix: str) -> None:
        expected = sorted(key for key in self.model if key.startswith(prefix))
        assert sorted(self.engine.list_object_keys(prefix)) == expected

    @invariant()
    def every_value_is_as_it_was_put(self) -> None:
        assert {key: self.engine.get_object(key) for key in self.engine.list_object_keys()} == self.model


# Without a deadline, which a busy machine would miss; derandomized, so that a run fails for a change and not by chance.
MemoryMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
TestMemoryMachine = MemoryMachine.TestCase
