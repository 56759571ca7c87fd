"""A machine that does every step to the references and to the real thing, and compares what came of it.

Where the contract allows several results, several references are followed until one look tells them apart.
"""

import time
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.model.comparing import alternatives, by_age, by_time, compared, distinct, outcome, readable, shortened, shown
from tests.model.limits import Changes
from tests.model.processes import Model
from tests.model.tree import Path

LARGE = 100_000
LIMIT, EXPIRY = 2, 2


class ComparingMachine(RuleBasedStateMachine):
    """One store, a few processes, and the references that say what should be in it."""

    steps = 0
    examples = 0
    """Of all machines in this process, for whoever wants to know."""

    def make_adapter(self, limit: int, expiry: int) -> Any:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        ComparingMachine.examples += 1
        self.real = self.make_adapter(LIMIT, EXPIRY)
        self.models = [Model(LIMIT, EXPIRY)]
        self.numbers = iter(range(1, 1_000_000))
        self.names = iter(f"{letter}{number}" for number in ("", *range(1, 1000)) for letter in "ABCDEFGH")
        self.reopened = 0
        self.story: list[str] = []
        """What was done, and what came of it."""

    @property
    def model(self) -> Model:
        """Any of the references: they differ only in what the last step may have done."""
        return self.models[0]

    def teardown(self) -> None:
        self.real.finish()

    # Both at once

    def both(self, what: str, *arguments: Any) -> bool:
        """Do it to the references and to the real thing. Returns whether it was not refused."""
        ComparingMachine.steps += 1
        self.real.before(self.model)
        expected = [candidate for model in self.models for candidate in alternatives(model, what, arguments)]
        self.real.after(expected[0][0])
        found = outcome(lambda: getattr(self.real, what)(*arguments))
        self.story.append(f"{what}{shortened(arguments)}: {shown([found])}")
        self.models = distinct([model for model, allowed in expected if found in allowed])
        for model in self.models:
            model.settle()
        assert self.models, self._told(f"should be {shown(set().union(*(each for _, each in expected)))}")
        return found == 0

    def _told(self, end: str) -> str:
        return "\n".join([*self.story, end])

    def value(self, size: str) -> bytes:
        """Bytes that nothing else in the store has."""
        value = b"<%d>" % next(self.numbers)
        return {"empty": b"", "small": value, "large": value * (LARGE // len(value))}[size]

    def start_process(self) -> str:
        name = next(self.names)
        self.both("start", name)
        return name

    # What must hold

    @invariant()
    def all_is_as_expected(self) -> None:
        deadline = time.monotonic() + self.real.lags_seconds
        while wrong := self._differences():
            if not self.real.lags or time.monotonic() > deadline:
                raise AssertionError(self._told("\n".join(wrong)))
            time.sleep(0.02)
        self.real.check(self.story)
        self.real.done()
        for model in self.models:
            model.changes = Changes()

    def _differences(self) -> list[str]:
        found, times = self.real.listing()
        values, seen = self.real.look(self.model, self._pending())
        possible = []
        wrong: list[str] = []
        for model in self.models:
            differences = [
                *compared("the tree", model.listing(), found),
                *compared("the order of age", by_age(model), by_time(model, times)),
                *compared("what it did beside", model.changes, self.real.changes or model.changes),
                *compared("what is readable", readable(model, values), values),
                *compared("who sees what", self._seen(model), self._clear(seen)),
            ]
            if not differences:
                possible.append(model)
            wrong = wrong or differences
        if possible:
            self.models = distinct(possible)
        return [] if possible else wrong

    def _pending(self) -> list[Path]:
        """The names that somebody is writing."""
        found = []
        for handle in self.model.handles():
            place = handle.copy.place if handle.copy is not None else None
            path = None if place is None else self.model.path_of(place[0])
            if place is not None and path is not None:
                found.append((*path.split(b"/"), place[1]))
        return list(dict.fromkeys(found))

    def _seen(self, model: Model) -> dict[str, set[Path]]:
        pending = self._pending()
        return self._clear({who: {path for path in pending if model.sees(who, path)} for who in model.processes})

    def _clear(self, seen: dict[str, set[Path]]) -> dict[str, set[Path]]:
        return {
            process: {path for path in found if not self.model.is_unclear(process, path)}
            for process, found in seen.items()
        }
