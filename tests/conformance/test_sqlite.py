"""The embedded engine keeps every promise of the interface, on a file of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.conformance import EngineConformance
from engine.conformance.cases import LARGE
from engine.interface import ObjectEngine
from engine.sqlite.content import SqliteEngine


class TestSqliteEngine(EngineConformance):
    def make_engine(self, directory: Path) -> ObjectEngine:
        return SqliteEngine({"path": str(directory / "values.db")})


def open_engine(directory: Path) -> SqliteEngine:
    return SqliteEngine({"path": str(directory / "values.db")})


def rows_left(engine: SqliteEngine) -> tuple[int, int, int]:
    """How many rows of values, of extents and of chunks there are."""
    counts = [engine.database.value(f"SELECT count(*) FROM {table}") for table in ("content", "extent", "chunk")]
    return counts[0], counts[1], counts[2]


@pytest.mark.parametrize("key", ["\x01a", "a"])
def test_a_large_value_never_touches_a_key_that_looks_like_its_own_place_aside(tmp_path: Path, key: str) -> None:
    engine = open_engine(tmp_path)
    for other in ("\x01a", "\x01\x01a", "a"):
        engine.put_object(other, LARGE)
    engine.put_stream(key, [LARGE, b"new"], force=True)
    expected = {other: LARGE for other in ("\x01a", "\x01\x01a", "a")} | {key: LARGE + b"new"}
    assert {other: engine.get_object(other) for other in engine.list_object_keys()} == expected
    engine.close()


def test_two_streams_under_one_key_do_not_mix(tmp_path: Path) -> None:
    """The second begins and ends while the first is under way: both are whole, the last to end stands."""
    engine = open_engine(tmp_path)

    def with_another_in_the_middle() -> Iterator[bytes]:
        yield b"1" * len(LARGE)
        engine.put_stream("key", [b"2" * len(LARGE), b"2" * len(LARGE)], force=True)
        assert engine.get_object("key") == b"2" * (2 * len(LARGE))
        yield b"1" * len(LARGE)

    engine.put_stream("key", with_another_in_the_middle(), force=True)
    assert engine.get_object("key") == b"1" * (2 * len(LARGE))
    engine.delete_object("key")
    assert rows_left(engine) == (0, 0, 0)
    engine.close()


def test_nothing_is_left_of_what_was_replaced_deleted_or_broken_off(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    engine.put_object("replaced", LARGE)
    engine.put_object("replaced", b"small", force=True)
    engine.put_object("deleted", LARGE)
    engine.copy_object("deleted", "copy")
    engine.delete_object("deleted")
    engine.delete_object("copy")

    def broken() -> Iterator[bytes]:
        yield LARGE * 2
        raise RuntimeError

    with pytest.raises(RuntimeError):
        engine.put_stream("broken", broken())
    assert rows_left(engine) == (1, 0, 0)
    engine.close()


def test_a_copy_of_a_large_value_shares_its_chunks(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    engine.put_object("one", LARGE)
    _, extents, chunks = rows_left(engine)
    engine.copy_object("one", "two")
    assert rows_left(engine) == (2, 2 * extents, chunks)
    engine.close()


def test_a_large_value_goes_in_small_steps(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    engine.put_stream("key", [LARGE] * 6)  # 12 MiB, where a step is 2
    steps = 1
    (number,) = engine.database.row("SELECT content FROM named_content") or (0,)
    while not engine.values.delete_some(number):
        assert rows_left(engine)[1] > 0
        steps += 1
    assert steps == 7
    assert rows_left(engine) == (0, 0, 0)
    engine.close()
