"""What may come of a step, what came of it, and how that is shown."""

import copy
import errno
import os
import pickle
from collections.abc import Iterable, Iterator
from typing import Any

from engine.errors import StoreError
from fusefs.errnos import errno_of
from tests.model.limits import never
from tests.model.processes import Model
from tests.model.tree import Refused

UNCERTAIN = {"end", "kill", "crash", "move", "truncate"}
"""Steps with several results that the contract allows."""


class Choices:
    """Answers of a reference to its questions, where the contract allows either: those given, then no."""

    def __init__(self, answers: list[bool]) -> None:
        self._answers = answers
        self.given: list[bool] = []

    def __call__(self) -> bool:
        number = len(self.given)
        self.given.append(number < len(self._answers) and self._answers[number])
        return self.given[-1]


def alternatives(model: Model, what: str, arguments: tuple[Any, ...]) -> Iterator[tuple[Model, set[int]]]:
    """What a reference may be after a step, and the outcomes that go with it."""
    todo: list[list[bool]] = [[]]
    while todo:
        answers = todo.pop()
        tried = copy.deepcopy(model) if what in UNCERTAIN or model.is_unsure else model
        tried.choose = Choices(answers)
        yield tried, _expected(tried, what, arguments)
        todo += [[*tried.choose.given[:index], True] for index in range(len(answers), len(tried.choose.given))]


def distinct(models: list[Model]) -> list[Model]:
    """Without those that came to the same in another way."""
    if len(models) < 2:
        return models
    for model in models:
        model.choose = never
    return list({pickle.dumps(model): model for model in models}.values())


def _expected(model: Model, what: str, arguments: tuple[Any, ...]) -> set[int]:
    if what == "append":
        what, arguments = "write", (arguments[0], 0, arguments[1])
    try:
        return {getattr(model, what)(*arguments) or 0}
    except Refused as refused:
        return set(refused.numbers)


def outcome(attempt: Any) -> int:
    """The errno, 0 for success."""
    try:
        return attempt() or 0
    except StoreError as error:
        return errno_of(error)
    except OSError as error:
        return error.errno or 0


def shown(numbers: Iterable[int]) -> str:
    return " or ".join(sorted(errno.errorcode.get(number, "success") for number in numbers))


def by_age(model: Model) -> list[list[bytes]]:
    """The objects of each pipeline, the oldest first."""
    return [
        [key for key, _, _ in sorted(model.objects(pipeline), key=lambda found: found[1].put)]
        for pipeline in model.scopes(b"pipeline").values()
    ]


def by_time(model: Model, times: dict[bytes, int]) -> list[list[bytes]]:
    """The same by the times that are shown."""
    result = []
    for name in model.scopes(b"pipeline"):
        top = b"pipeline/" + name + b"/"
        found = sorted((time, path.removeprefix(top)) for path, time in times.items() if path.startswith(top))
        result.append([key for _, key in found])
    return result


def readable(model: Model, values: dict[int, bytes]) -> dict[int, bytes]:
    """What each descriptor has to read; where several values are right, the one that was found."""
    result = {}
    for fd in model.descriptors:
        allowed = model.readable(fd)
        found = values.get(fd)
        result[fd] = found if found in allowed else min(allowed)
    return result


def compared(what: str, expected: Any, found: Any) -> list[str]:
    if expected == found:
        return []
    if isinstance(expected, dict):
        wrong = {key for key in {*expected, *found} if expected.get(key, "-") != found.get(key, "-")}
        expected = {key: _short(expected[key]) for key in wrong if key in expected}
        found = {key: _short(found[key]) for key in wrong if key in found}
    return [f"{what}: should be {expected}, is {found}"]


def shortened(arguments: tuple[Any, ...]) -> str:
    return repr(
        tuple("/".join(map(os.fsdecode, each)) if isinstance(each, tuple) else _short(each) for each in arguments)
    )


def _short(value: Any) -> Any:
    if isinstance(value, bytes) and len(value) > 40:
        return f"{value[:6]!r}...{value[-6:]!r} ({len(value)})"
    return value
