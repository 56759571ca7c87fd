"""The conformance suite of content engines: every promise of `engine.interface`, as tests.

Somebody who writes an engine subclasses `EngineConformance` in a test module of their own and runs pytest:

    class TestDirectoryEngine(EngineConformance):
        def make_engine(self, directory: Path) -> ObjectEngine:
            return DirectoryEngine({"location": str(directory)})

It needs pytest and nothing else, and is the only part of `engine` that does.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from engine.conformance.cases import KEYS, LARGE, Put, each_put, pieces, run_at_once
from engine.conformance.objects import ObjectTests
from engine.conformance.values import ValueTests
from engine.errors import ExistsError
from engine.interface import ObjectEngine


class EngineConformance(ObjectTests, ValueTests):
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
