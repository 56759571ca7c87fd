"""The verdict: what is there, compared with what the ledgers say must and may be there.

What a worker did, it did one step after the other. So what is there of its own has to be what it was after one of its
steps: not before the last that survives for certain, and with at most the one behind the last acknowledged. What
several workers share is judged in `orders`, with what is known here of each of them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.crash.campaign import layout
from tests.crash.campaign.edited import Edited
from tests.crash.campaign.ledger import Round, Step
from tests.crash.campaign.observed import Found, Observed
from tests.crash.campaign.orders import Event, judge_order, judge_refusals
from tests.crash.campaign.values import Torn, Value, shown


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was promised."""

    kind: str
    """lost, torn or wrong."""
    text: str
    count: int = 1


@dataclass(slots=True)
class Known:
    """What was there before a round, beyond doubt."""

    keys: list[dict[str, Value]]
    """By worker and path."""
    edited: list[Edited]
    limited: list[tuple[str, Value]] = field(default_factory=list)
    logs: dict[str, Value] = field(default_factory=lambda: dict.fromkeys(layout.LOGS, ()))
    runs: list[str] = field(default_factory=list)

    @classmethod
    def nothing(cls, workers: int) -> "Known":
        return cls([{} for _ in range(workers)], [Edited() for _ in range(workers)])


@dataclass(frozen=True, slots=True)
class _State:
    """What is there of one worker after one of its steps."""

    keys: dict[str, Value]
    edited: Edited
    logged: dict[str, Value]
    """Its records in what all append to, since before the round."""


@dataclass(frozen=True, slots=True)
class Strike:
    """What a strike may take."""

    closed_survives: bool
    """Whatever close() acknowledged has to be there; else only what fsync() did, and what came before that."""
    at: float = math.inf
    """What was acknowledged after that is not counted: no power cut leaves anybody to acknowledge anything.

    While ext4 is being shut down it does say of an fsync() now and then that it succeeded, once in some hundred cuts.
    """

    def __str__(self) -> str:
        return "" if self.at == math.inf else f"; struck at {self.at:.4f}"

    def spares(self, step: Step) -> bool:
        """Whether a step has to survive for its own sake."""
        return step.acknowledged_by(self.at) and (step.synced or self.closed_survives)


def judge(known: Known, rounds: list[Round], seen: Observed, strike: Strike) -> tuple[list[Finding], Known]:
    """Compare. Returns what is wrong, and when nothing is, what is known for the next round."""
    findings = [Finding("lost", f"the directory {path} is gone") for path in seen.missing]
    findings += [Finding("torn", f"{path}: {value.how}") for path, value in seen.torn()]
    findings += _judge_old_logs(known, seen)
    after = Known.nothing(len(rounds))
    certain: list[int] = []
    for worker, did in enumerate(rounds):
        judged = _Worker(worker, known, did.steps, seen, strike)
        fitting = judged.fitting()
        if not fitting:
            findings += judged.explain()
        certain.append(max(judged.certain, fitting[0] if fitting else 0))
        last = judged.states[fitting[-1]] if fitting else judged.states[-1]
        after.keys[worker], after.edited[worker] = judged.visible(last), last.edited
    findings += _judge_shared(known, rounds, seen, certain, strike)
    after.limited = [(name, value) for name, value in seen.limited if not isinstance(value, Torn)]
    after.logs = {path: value for path, value in seen.logs.items() if not isinstance(value, Torn)}
    after.runs = seen.runs
    return findings, after


def _judge_old_logs(known: Known, seen: Observed) -> Iterator[Finding]:
    for path, before in known.logs.items():
        now = seen.logs[path]
        if not isinstance(now, Torn) and now[: len(before)] != before:
            missing = [record for record in before if record not in now]
            kind = "lost" if missing else "wrong"
            yield Finding(kind, f"{path} does not begin as before the round; missing: {shown(tuple(missing))}")


class _Worker:
    """What is there of one worker, against its steps."""

    def __init__(self, worker: int, known: Known, steps: list[Step], seen: Observed, strike: Strike) -> None:
        self._worker = worker
        self._steps = steps
        self._strike = strike
        self._runs = set(seen.runs)
        self._seen_own = seen.own[worker]
        self._seen_edited = seen.edited[worker]
        self._new_in_logs = {
            path: value if isinstance(value, Torn) else _of(worker, value[len(known.logs[path]) :])
            for path, value in seen.logs.items()
        }
        self.states = list(_states(_State(known.keys[worker], known.edited[worker], {}), steps))
        """After so many steps."""
        self.certain = max((count for count, step in enumerate(steps, 1) if strike.spares(step)), default=0)
        """How many steps survive for certain."""
        self._proven = max((_step_count(steps, number) for number in self._numbers_seen(seen)), default=0)

    def _numbers_seen(self, seen: Observed) -> Iterator[int]:
        """The steps whose effect is there for all to see."""
        for _, value in seen.limited:
            if not isinstance(value, Torn):
                yield from (record.number for record in value if record.worker == self._worker)
        for run in seen.runs:
            worker, _, number = run.partition(".")
            if int(worker) == self._worker:
                yield int(number)

    def fitting(self) -> list[int]:
        """After how many steps what is there is what has to be there."""
        least = max(self.certain, self._proven)
        return [count for count in range(least, len(self.states)) if self._fits(self.states[count])]

    def visible(self, state: _State) -> dict[str, Value]:
        """Without the runs that are gone: whether they had to go is judged elsewhere."""
        return {path: value for path, value in state.keys.items() if layout.run_of(path) in {None, *self._runs}}

    def _fits(self, state: _State) -> bool:
        return not list(self._differences(state))

    def _differences(self, state: _State) -> Iterator[Finding]:
        own = self.visible(state)
        for path in sorted(own.keys() | self._seen_own.keys()):
            yield from _compare(path, own.get(path), self._seen_own.get(path))
        directory = layout.edited_pipeline(self._worker)
        edited, seen = dict(state.edited.objects), dict(self._seen_edited)
        for name in sorted(edited.keys() | seen.keys()):
            yield from _compare(f"{directory}/{name}", edited.get(name), seen.get(name))
        if edited.keys() == seen.keys() and list(edited) != list(seen):
            yield Finding("wrong", f"{directory}: the order is {list(seen)} and has to be {list(edited)}")
        for path, value in self._new_in_logs.items():
            yield from _compare_logs(path, state.logged.get(path, ()), value)

    def explain(self) -> list[Finding]:
        """What is wrong where nothing fits."""
        for count in range(self.certain - 1, -1, -1):
            if self._fits(self.states[count]):
                lost = [step for step in self._steps[count : self.certain] if step.acknowledged_by(self._strike.at)]
                listed = "; ".join(map(str, lost))
                return [Finding("lost", f"worker {self._worker} is back before {listed}{self._strike}", len(lost))]
        last = self.states[self.certain]
        text = f"worker {self._worker}, after step {self._steps[self.certain - 1] if self.certain else 'none'}"
        found = list(self._differences(last)) or [Finding("wrong", "what others can see is newer than its own")]
        return [Finding(each.kind, f"{text}: {each.text}", each.count) for each in found]


def _step_count(steps: list[Step], number: int) -> int:
    """How many steps there are up to the one of that number; 0 for one of an earlier round."""
    return sum(step.number <= number for step in steps)


def _states(before: _State, steps: list[Step]) -> Iterator[_State]:
    yield before
    for step in steps:
        keys, logged = dict(before.keys), dict(before.logged)
        for path, value in {} if step.refused else step.changes.items():
            if path in layout.LOGS:
                logged[path] = logged.get(path, ()) + (value or ())
            elif path.startswith(f"{layout.LIMITED}/"):
                pass
            elif value is None:
                keys.pop(path, None)
            else:
                keys[path] = value
        before = _State(keys, before.edited if step.edited is None else step.edited, logged)
        yield before


def _of(worker: int, records: Value) -> Value:
    return tuple(record for record in records if record.worker == worker)


def _compare(path: str, wanted: Value | None, found: Found | None) -> Iterator[Finding]:
    if wanted == found or isinstance(found, Torn):
        return
    there = () if found is None else found
    # What is there twice, or should not be there, is wrong in another way.
    lost = wanted is not None and (found is None or any(record not in there for record in wanted))
    kind = "lost" if lost else "wrong"
    yield Finding(kind, f"{path} has to be {shown(wanted)} and is {shown(found)}")


def _compare_logs(path: str, wanted: Value, found: Found) -> Iterator[Finding]:
    if wanted == found or isinstance(found, Torn):
        return
    missing = tuple(record for record in wanted if record not in found)
    if missing:
        yield Finding("lost", f"{path} lacks {shown(missing)}", len(missing))
    else:
        yield Finding("wrong", f"{path} has {shown(found)} in place of {shown(wanted)}")


# What they share


def _judge_shared(
    known: Known, rounds: list[Round], seen: Observed, certain: list[int], strike: Strike
) -> list[Finding]:
    puts = [_put_before(rank, name, value) for rank, (name, value) in enumerate(known.limited, -len(known.limited))]
    starts = [_start_before(rank, run) for rank, run in enumerate(known.runs, -len(known.runs))]
    for did, surviving in zip(rounds, certain, strict=True):
        for count, step in enumerate(did.steps):
            sure = count < surviving and step.acknowledged_by(strike.at)
            if step.what == "start":
                starts.append(Event(step.path.partition("/")[2], (), step.began, step.ended, sure))
            elif step.path.startswith(f"{layout.LIMITED}/"):
                name = step.path.removeprefix(f"{layout.LIMITED}/")
                puts.append(Event(name, step.changes[step.path] or (), step.began, step.ended, sure))
    texts = judge_order(layout.LIMITED, layout.LIMITED_LIMIT, puts, seen.limited)
    texts += judge_order(layout.RUNS, layout.RUN_EXPIRY, starts, [(run, ()) for run in seen.runs])
    texts += judge_refusals(starts, [step for did in rounds for step in did.steps if step.refused])
    return [Finding(*each) for each in texts]


def _put_before(rank: int, name: str, value: Value) -> Event:
    """What was there before the round came before everything in it, in the order in which it was found."""
    return Event(name, value, rank, rank, certain=True)


def _start_before(rank: int, run: str) -> Event:
    return Event(run, (), rank, rank, certain=True)
