"""The memory engine keeps every promise of the interface."""

from pathlib import Path

import pytest

from engine.conformance import EngineConformance
from engine.errors import InvalidError
from engine.interface import ObjectEngine
from engine.memory import MemoryEngine


class TestMemoryEngine(EngineConformance):
    def make_engine(self, directory: Path) -> ObjectEngine:
        return MemoryEngine({})


def test_a_value_is_shared_not_copied() -> None:
    engine, value = MemoryEngine({}), b"a value that may be large"
    engine.put_object("key", value)
    engine.copy_object("key", "copy")
    assert engine.get_object("key") is value
    assert engine.get_object("copy") is value


def test_two_engines_share_nothing() -> None:
    one, other = MemoryEngine({}), MemoryEngine({"location": ""})
    one.put_object("key", b"value")
    assert other.list_object_keys() == []


@pytest.mark.parametrize("options", [{"location": "/somewhere"}, {"size": "1"}, {"size": ""}])
def test_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InvalidError, match=r"takes no option, and got (location|size) = "):
        MemoryEngine(options)
