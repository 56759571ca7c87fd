"""Four methods are enough: with them alone, the interface's defaults keep every promise."""

import inspect
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.conformance import EngineConformance
from engine.errors import ExistsError, InvalidError, NotFoundError
from engine.interface import ObjectEngine, check_key, check_range

FOUR_METHODS = {"get_object", "put_object", "list_object_keys", "delete_object"}


class FourMethodEngine(ObjectEngine):
    """As little as an engine can be. `kept` is the caller's, as a service would keep it beyond the engine's life."""

    def __init__(self, options: Mapping[str, str], kept: dict[str, bytes]) -> None:
        super().__init__(options)
        self.kept = kept
        self.lock = threading.Lock()

    def get_object(self, key: str) -> bytes:
        try:
            return self.kept[check_key(key)]
        except KeyError as error:
            raise NotFoundError(key) from error

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        value = bytes(content)
        with self.lock:
            if check_key(key) in self.kept and not force:
                raise ExistsError(key)
            self.kept[key] = value

    def list_object_keys(self, prefix: str = "") -> list[str]:
        return [key for key in list(self.kept) if key.startswith(prefix)]

    def delete_object(self, key: str) -> None:
        if self.kept.pop(check_key(key), None) is None:
            raise NotFoundError(key)


class TestFourMethodEngine(EngineConformance):
    def setup_method(self) -> None:
        self.kept_by_directory: dict[Path, dict[str, bytes]] = {}

    def make_engine(self, directory: Path) -> ObjectEngine:
        return FourMethodEngine({}, self.kept_by_directory.setdefault(directory, {}))


def test_exactly_four_methods_are_abstract() -> None:
    assert ObjectEngine.__abstractmethods__ == FOUR_METHODS


@pytest.mark.parametrize("name", sorted(FOUR_METHODS))
def test_none_of_the_four_can_be_left_out(name: str) -> None:
    methods = {left: getattr(FourMethodEngine, left) for left in FOUR_METHODS - {name}}
    incomplete: type[ObjectEngine] = type("Incomplete", (ObjectEngine,), methods)
    with pytest.raises(TypeError, match=name):
        incomplete({})


def test_an_engine_is_persistent_and_apart_from_the_catalog_unless_it_says_otherwise() -> None:
    assert ObjectEngine.persistent
    assert not ObjectEngine.shares_catalog


def test_every_public_method_says_what_it_does() -> None:
    public = {name: member for name, member in vars(ObjectEngine).items() if inspect.isfunction(member)}
    assert [name for name, member in public.items() if not inspect.getdoc(member)] == []


@pytest.mark.parametrize("key", ["a", " ", "/", "a_b%*", "é", "\U0001f600", "a" * 1000])
def test_check_key_returns_a_good_key(key: str) -> None:
    assert check_key(key) is key


@pytest.mark.parametrize("key", ["", "\0", "a\0", "\ud800", "a\udcff"], ids=ascii)
def test_check_key_refuses_a_bad_key(key: str) -> None:
    with pytest.raises(InvalidError, match="key"):
        check_key(key)


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (2**63, 2**63)])
def test_check_range_takes_any_range_of_a_value(offset: int, length: int) -> None:
    check_range(offset, length)


@pytest.mark.parametrize(("offset", "length"), [(-1, 0), (0, -1)])
def test_check_range_refuses_negative_numbers(offset: int, length: int) -> None:
    with pytest.raises(InvalidError, match="invalid range"):
        check_range(offset, length)
