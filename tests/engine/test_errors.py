"""The errors of the store: which there are, and what catches them."""

import inspect

import pytest

from engine import errors
from engine.errors import InvalidError, NameTooLongError, OpenError, StoreError

ALL = {name: member for name, member in vars(errors).items() if inspect.isclass(member)}


def test_one_class_catches_them_all() -> None:
    assert StoreError.__bases__ == (Exception,)
    assert [name for name, error in ALL.items() if not issubclass(error, StoreError)] == []


def test_only_what_is_invalid_has_kinds_of_its_own() -> None:
    """A table that maps errors to something else needs an order for these two and their parent only."""
    parents = {error: error.__bases__ for error in ALL.values() if error is not StoreError}
    assert {error for error, bases in parents.items() if bases != (StoreError,)} == {NameTooLongError, OpenError}
    assert parents[NameTooLongError] == parents[OpenError] == (InvalidError,)


def test_the_tree_in_the_docstring_is_complete() -> None:
    documented = {word for word in (errors.__doc__ or "").split() if word.endswith("Error")}
    assert documented == set(ALL)


@pytest.mark.parametrize("error", ALL.values(), ids=ALL)
def test_an_error_has_a_sentence_and_carries_its_message(error: type[StoreError]) -> None:
    assert error.__name__.endswith("Error")
    assert vars(error)["__doc__"].endswith(".")
    assert str(error("what was wrong")) == "what was wrong"


def test_the_engine_knows_no_errno() -> None:
    assert "errno" not in vars(errors)
    assert [name for name, error in ALL.items() if issubclass(error, OSError)] == []
