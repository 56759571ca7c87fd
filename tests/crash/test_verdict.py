"""The verdict of the crash campaign: what may be there after a strike, and what it says of the rest."""

import math
from typing import Any

import pytest

from tests.crash.campaign import layout
from tests.crash.campaign.edited import Edited
from tests.crash.campaign.ledger import Round, Step
from tests.crash.campaign.observed import Found, Observed
from tests.crash.campaign.values import Record, Torn, Value, decode, encode, encode_all
from tests.crash.campaign.verdict import Known, Strike, judge

KILL, CUT = Strike(closed_survives=True), Strike(closed_survives=False)
KEY, OTHER = layout.own_keys(0)[:2]
LOG = layout.LOGS[0]
LIMIT = layout.LIMITED_LIMIT


def value(*numbers: int, worker: int = 0) -> Value:
    return tuple(Record(worker, number, 100) for number in numbers)


def step(number: int, path: str, changes: dict[str, Value | None], *, told: str = "close", **more: Any) -> Step:
    """A step that began at its number, and was acknowledged half a second later, or by nobody."""
    ended = math.inf if told == "nobody" else number + 0.5
    return Step(number, "put", path, changes, began=number, ended=ended, synced=told == "fsync", **more)


def put(number: int, path: str = KEY, *, told: str = "close") -> Step:
    return step(number, path, {path: value(number)}, told=told)


def found(own: dict[str, Found] | None = None, **other: Any) -> Observed:
    return Observed(own=[own or {}], **{"edited": [[]], "logs": dict.fromkeys(layout.LOGS, ()), **other})


def kinds(steps: list[Step], seen: Observed, strike: Strike = KILL, known: Known | None = None) -> set[str]:
    findings, _ = judge(known or Known.nothing(1), [Round(steps)], seen, strike)
    return {finding.kind for finding in findings}


# Values


def test_a_value_says_what_it_is() -> None:
    records = (Record(0, 1, 32), Record(3, 7, 70_000), Record(2, 2, 3_500_000))
    assert decode(encode_all(records)) == records
    assert decode(b"") == ()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:],
        lambda data: data[:4096] + bytes(4096) + data[8192:],
        lambda data: data[:4096] + encode(Record(0, 2, 10_000))[4096:],
        lambda data: data[:9] + b"x" + data[10:],
        lambda data: data + b"\0",
        lambda data: data + data[:20],
        lambda data: data[100:],
    ],
    ids=["short", "bit", "zeros", "mixed", "header", "long", "half a header", "begins late"],
)
def test_no_torn_value_passes(spoil: Any) -> None:
    assert isinstance(decode(spoil(encode(Record(0, 1, 10_000)))), Torn)


# What one worker did


def test_all_that_was_acknowledged() -> None:
    assert kinds([put(1), put(2, OTHER)], found({KEY: value(1), OTHER: value(2)})) == set()


@pytest.mark.parametrize("own", [{}, {KEY: value(1)}, {OTHER: value(2)}])
def test_an_acknowledged_value_is_lost(own: dict[str, Found]) -> None:
    assert kinds([put(1), put(2, OTHER)], found(own)) == {"lost"}


def test_an_older_value_is_there() -> None:
    assert kinds([put(1), put(2)], found({KEY: value(1)})) == {"lost"}


def test_what_nobody_acknowledged_is_there_or_not() -> None:
    steps = [put(1), put(2, told="nobody")]
    assert kinds(steps, found({KEY: value(1)})) == set()
    assert kinds(steps, found({KEY: value(2)})) == set()


def test_half_of_a_rename() -> None:
    steps = [put(1), step(2, OTHER, {KEY: None, OTHER: value(1)}, told="nobody")]
    assert kinds(steps, found({OTHER: value(1)})) == set()
    assert kinds(steps, found({KEY: value(1), OTHER: value(1)})) == {"wrong"}
    assert kinds(steps, found({})) == {"lost"}


def test_what_was_deleted_is_back() -> None:
    assert kinds([put(1), step(2, KEY, {KEY: None})], found({KEY: value(1)})) == {"lost"}
    known = Known([{}], [Edited()])
    assert kinds([], found({KEY: value(1)}), known=known) == {"wrong"}


def test_an_append_that_happened_twice() -> None:
    steps = [put(1), step(2, KEY, {KEY: value(1, 2)})]
    assert kinds(steps, found({KEY: value(1, 2, 2)})) == {"wrong"}


def test_a_torn_value() -> None:
    assert kinds([put(1)], found({KEY: Torn("so")})) == {"torn"}


def test_a_power_cut_may_take_the_last_that_were_only_closed() -> None:
    steps = [put(1), put(2, OTHER, told="fsync"), put(3)]
    assert kinds(steps, found({KEY: value(1), OTHER: value(2)}), CUT) == set()
    assert kinds(steps, found({KEY: value(3), OTHER: value(2)}), CUT) == set()
    assert kinds(steps, found({KEY: value(1)}), CUT) == {"lost"}
    # The one before a sync is not to be lost either, nor a later one to be there without it.
    assert kinds(steps, found({OTHER: value(2)}), CUT) == {"lost"}


def test_what_was_acknowledged_after_the_cut_does_not_count() -> None:
    steps = [put(1, told="fsync"), put(2, OTHER, told="fsync")]
    assert kinds(steps, found({KEY: value(1)}), Strike(closed_survives=False, at=2.2)) == set()


def test_the_order_of_eviction() -> None:
    objects = (("a", value(1)), ("b", value(2)))
    known = Known([{}], [Edited(objects)])
    assert kinds([], found(edited=[list(objects)]), known=known) == set()
    assert kinds([], found(edited=[list(objects[::-1])]), known=known) == {"wrong"}


# What they share


def test_the_shared_log() -> None:
    steps = [step(1, LOG, {LOG: value(1)}), step(2, LOG, {LOG: value(2)})]
    logs: dict[str, Found] = dict.fromkeys(layout.LOGS, ())
    assert kinds(steps, found(logs=logs | {LOG: value(1, 2)})) == set()
    assert kinds(steps, found(logs=logs | {LOG: value(2)})) == {"lost"}
    assert kinds(steps, found(logs=logs | {LOG: value(2, 1)})) == {"wrong"}


def test_what_was_in_the_shared_log_before() -> None:
    before = value(9, worker=3)
    known = Known([{}], [Edited()], logs=dict.fromkeys(layout.LOGS, before))
    logs: dict[str, Found] = dict.fromkeys(layout.LOGS, before)
    assert kinds([], found(logs=logs), known=known) == set()
    assert kinds([], found(logs=logs | {LOG: value(8, worker=3)}), known=known) == {"lost"}


def limited(number: int, *, told: str = "close") -> Step:
    return put(number, f"{layout.LIMITED}/k{number}", told=told)


def there(*numbers: int) -> list[tuple[str, Value]]:
    return [(f"k{number}", value(number)) for number in numbers]


def test_the_newest_stay() -> None:
    steps = [limited(number) for number in range(1, LIMIT + 3)]
    newest = range(3, LIMIT + 3)
    assert kinds(steps, found(limited=there(*newest))) == set()
    assert kinds(steps, found(limited=there(2, *newest))) == {"wrong"}  # one too many
    assert kinds(steps, found(limited=there(*newest[1:]))) == {"lost"}  # one too few
    assert "lost" in kinds(steps, found(limited=there(2, *newest[1:])))  # the wrong one went
    assert kinds(steps, found(limited=there(*newest[::-1]))) == {"wrong"}  # the order of eviction


def test_of_two_at_once_either_may_be_the_older() -> None:
    steps = [limited(number) for number in range(1, LIMIT + 2)]
    steps[1].began = 0.5
    assert kinds(steps, found(limited=there(1, *range(3, LIMIT + 2)))) == set()


def test_what_others_see_survived_with_all_before_it() -> None:
    steps = [put(1), limited(2)]
    assert kinds(steps, found({KEY: value(1)}, limited=there(2)), CUT) == set()
    assert kinds(steps, found({}, limited=there(2)), CUT) == {"wrong"}


def test_a_value_that_nobody_put() -> None:
    assert kinds([limited(1)], found(limited=there(1, 7))) == {"wrong"}


def test_a_run_that_went_too_early() -> None:
    run = f"{layout.RUNS}/0.1"
    start = step(1, run, {})
    start.what = "start"
    refused = step(2, f"{run}/k", {f"{run}/k": value(2)}, refused=2)
    assert kinds([start], found(runs=["0.1"])) == set()
    assert kinds([start], found()) == {"lost"}
    assert "lost" in kinds([start, refused], found(runs=["0.1"]))
