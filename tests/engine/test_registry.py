"""Engines are found by name: the built-in ones always, third-party ones by entry point, broken ones with the reason."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from engine.errors import InvalidError, OpenError
from engine.interface import ObjectEngine
from engine.memory import MemoryEngine
from engine.registry import ENTRY_POINT_GROUP, engine_names, load_engine

ROOT = Path(__file__).parents[2]


class OptionsEngine(MemoryEngine):
    """Remembers what it was made with."""

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__({})
        self.options = options


class RefusingEngine(MemoryEngine):
    def __init__(self, options: Mapping[str, str]) -> None:
        raise InvalidError("size: '-1' is no size")


class FailingEngine(MemoryEngine):
    def __init__(self, options: Mapping[str, str]) -> None:
        raise ConnectionRefusedError("nobody answers at port 1")


class IncompleteEngine(ObjectEngine):
    def get_object(self, key: str) -> bytes:
        raise NotImplementedError


no_class = OptionsEngine({})
no_engine = dict

Register = Callable[..., None]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Install entry points name=value in place of those that are really there."""

    def register(*entries: tuple[str, str]) -> None:
        installed = importlib.metadata.EntryPoints(
            importlib.metadata.EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in entries
        )
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: installed.select(group=group))

    return register


def test_the_built_in_engines_need_no_metadata(register: Register) -> None:
    register()
    assert engine_names() == ["memory", "sqlite"]
    assert type(load_engine("memory", {})) is MemoryEngine


def test_each_memory_engine_is_a_new_one() -> None:
    load_engine("memory", {}).put_object("key", b"value")
    assert load_engine("memory", {}).list_object_keys() == []


def test_sqlite_is_listed_but_opened_by_the_store() -> None:
    with pytest.raises(InvalidError, match="'sqlite' lives in the catalog's file"):
        load_engine("sqlite", {})


def test_a_registered_engine_is_listed_and_gets_its_options(register: Register) -> None:
    register(("zoo", f"{__name__}:OptionsEngine"))
    assert engine_names() == ["memory", "sqlite", "zoo"]
    engine = load_engine("zoo", {"location": "here"})
    assert isinstance(engine, OptionsEngine)
    assert engine.options == {"location": "here"}


@pytest.mark.parametrize("name", ["memory", "sqlite"])
def test_a_built_in_name_cannot_be_taken(register: Register, name: str) -> None:
    register((name, f"{__name__}:FailingEngine"))
    assert engine_names() == ["memory", "sqlite"]
    assert type(load_engine("memory", {})) is MemoryEngine


def test_listing_loads_nothing(register: Register) -> None:
    register(("broken", "no_such_module_anywhere:Engine"))
    assert engine_names() == ["broken", "memory", "sqlite"]


@pytest.mark.parametrize("name", ["ftp", "", "Memory"])
def test_an_unknown_engine_is_named_with_what_there_is(register: Register, name: str) -> None:
    register(("zoo", f"{__name__}:OptionsEngine"))
    with pytest.raises(InvalidError) as raised:
        load_engine(name, {})
    assert str(raised.value) == f"unknown engine {name!r}: available are memory, sqlite, zoo"
    assert not isinstance(raised.value, OpenError)


@pytest.mark.parametrize(
    ("value", "reason", "cause"),
    [
        (
            "no_such_module_anywhere:Engine",
            "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
            ImportError,
        ),
        (f"{__name__}:NoSuchClass", "AttributeError: ", AttributeError),
        ("broken_engine_module", "ZeroDivisionError: ", ZeroDivisionError),
        (f"{__name__}:FailingEngine", "ConnectionRefusedError: nobody answers at port 1", OSError),
        (f"{__name__}:no_class", "no subclass of engine.ObjectEngine", None),
        (f"{__name__}:no_engine", "no subclass of engine.ObjectEngine", None),
        (f"{__name__}:IncompleteEngine", "does not define delete_object, list_object_keys, put_object", None),
    ],
)
def test_a_broken_engine_says_why(
    register: Register,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    value: str,
    reason: str,
    cause: type[Exception] | None,
) -> None:
    (tmp_path / "broken_engine_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    register(("zoo", value))
    with pytest.raises(OpenError) as raised:
        load_engine("zoo", {})
    assert "engine 'zoo' cannot be " in str(raised.value)
    assert reason in str(raised.value)
    assert isinstance(raised.value.__cause__, cause or type(None))


def test_an_engines_own_refusal_comes_through(register: Register) -> None:
    register(("zoo", f"{__name__}:RefusingEngine"))
    with pytest.raises(InvalidError, match=r"^size: '-1' is no size$"):
        load_engine("zoo", {"size": "-1"})


def test_two_engines_of_one_name_are_refused(register: Register) -> None:
    register(("zoo", f"{__name__}:OptionsEngine"), ("zoo", f"{__name__}:FailingEngine"))
    with pytest.raises(OpenError, match=r"registered more than once: as .*FailingEngine and as .*OptionsEngine"):
        load_engine("zoo", {})


def test_one_engine_found_twice_is_one(register: Register) -> None:
    register(("zoo", f"{__name__}:OptionsEngine"), ("zoo", f"{__name__}:OptionsEngine"))
    assert isinstance(load_engine("zoo", {}), OptionsEngine)


def test_built_in_engines_do_not_pay_for_discovery() -> None:
    program = """if True:
        import sys
        before = "importlib.metadata" in sys.modules
        from engine.registry import load_engine
        load_engine("memory", {})
        assert before or "importlib.metadata" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)
