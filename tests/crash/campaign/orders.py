"""What several workers share and only so many of stay: the newest objects of a full pipeline, the newest runs.

Of two Puts that overlap in time, either may be the older one. Where one was acknowledged before the other began, the
order is known, and what is there has to agree with it.
"""

from dataclasses import dataclass

from tests.crash.campaign import layout
from tests.crash.campaign.ledger import Step
from tests.crash.campaign.observed import Found
from tests.crash.campaign.values import Torn, Value, shown


@dataclass(frozen=True, slots=True)
class Event:
    """A Put, or the start of a run. Those of one name follow each other."""

    name: str
    value: Value
    began: float
    ended: float
    certain: bool
    """Whether it has to survive."""

    def before(self, other: "Event") -> bool:
        """Whether it was over when the other one began."""
        return self.ended < other.began


def judge_order(place: str, limit: int, events: list[Event], seen: list[tuple[str, Found]]) -> list[tuple[str, str]]:
    """What is wrong with what is there of `events`, of which the newest `limit` names stay: kinds and texts."""
    found: list[tuple[str, str]] = []
    last_certain = {event.name: event for event in events if event.certain}
    there: list[Event | None] = []
    for name, value in seen:
        event = next((event for event in events if (event.name, event.value) == (name, value)), None)
        there.append(event)
        certain = last_certain.get(name)
        if event is None and not isinstance(value, Torn):
            found.append(("wrong", f"{place}/{name} is {shown(value)}, which nobody put there"))
        elif event is not None and certain is not None and event.before(certain):
            found.append(("lost", f"{place}/{name} is {shown(value)} and has to be {shown(certain.value)} or newer"))
    if len(seen) > limit:
        found.append(("wrong", f"{place} holds {len(seen)}, and its limit is {limit}"))
    if len(seen) < min(limit, len(last_certain)):
        names = sorted(last_certain.keys() - dict(seen).keys())
        found.append(("lost", f"{place} holds {len(seen)} although {names} were put there too"))
    found += _evicted_too_early(place, last_certain, seen, [event for event in there if event is not None])
    found += _out_of_order(place, [event for event in there if event is not None])
    return found


def _evicted_too_early(
    place: str, last_certain: dict[str, Event], seen: list[tuple[str, Found]], there: list[Event]
) -> list[tuple[str, str]]:
    found = []
    for name, gone in last_certain.items():
        older = [kept.name for kept in there if kept.before(gone)]
        if older and name not in dict(seen):
            found.append(("lost", f"{place}/{name} is gone, and {older}, which are older, are there"))
    return found


def _out_of_order(place: str, there: list[Event]) -> list[tuple[str, str]]:
    return [
        ("wrong", f"{place}/{older.name} counts as younger than {younger.name}, which was put later")
        for count, younger in enumerate(there)
        for older in there[count + 1 :]
        if older.before(younger)
    ]


def judge_refusals(starts: list[Event], refused: list[Step]) -> list[tuple[str, str]]:
    """Whether each run that was said to be gone could have expired by then."""
    found = []
    by_name = {event.name: event for event in starts}
    for step in refused:
        run = layout.run_of(step.path) or layout.run_of(step.what.removeprefix("rename "))
        event = by_name[run or ""]
        newer = sum(other is not event and other.began < step.ended and not other.before(event) for other in starts)
        if newer < layout.RUN_EXPIRY:
            found.append(("lost", f"run {run} was said to be gone after {newer} newer ones had been started: {step}"))
    return found
