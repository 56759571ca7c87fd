"""How long a request may wait, counted in the time for which the event loop has been running."""

import math
import time

import pytest
import trio

from engine.errors import TimedOutError
from fusefs.pulse import Pulse

pytestmark = pytest.mark.trio

SECONDS = 0.2


async def wait_for_ever(pulse: Pulse, since: float | None = None) -> float:
    begun = time.monotonic()
    with pytest.raises(TimedOutError, match=r"longer than 0\.2 seconds"), pulse.bounded(since):
        await trio.sleep(math.inf)
    return time.monotonic() - begun


async def test_a_wait_ends_in_time(nursery: trio.Nursery) -> None:
    pulse = Pulse(SECONDS, lambda: None)
    nursery.start_soon(pulse.run)
    await trio.sleep(SECONDS)
    assert 0.9 * SECONDS < await wait_for_ever(pulse) < 10 * SECONDS


async def test_all_waits_of_a_request_have_one_end(nursery: trio.Nursery) -> None:
    pulse = Pulse(SECONDS, lambda: None)
    nursery.start_soon(pulse.run)
    pulse.begin_waiting()
    begun = time.monotonic()
    await wait_for_ever(pulse)
    await wait_for_ever(pulse)
    pulse.end_waiting()
    assert time.monotonic() - begun < 1.9 * SECONDS
    assert await wait_for_ever(pulse) > 0.9 * SECONDS


async def test_nobody_waits_longer_than_the_first(nursery: trio.Nursery) -> None:
    pulse = Pulse(SECONDS, lambda: None)
    nursery.start_soon(pulse.run)
    since = pulse.now
    await wait_for_ever(pulse, since)
    assert await wait_for_ever(pulse, since) < SECONDS / 2


async def test_what_is_done_in_time_is_left_alone(nursery: trio.Nursery) -> None:
    pulse = Pulse(SECONDS, lambda: None)
    nursery.start_soon(pulse.run)
    with pulse.bounded():
        await trio.sleep(SECONDS / 4)
    await trio.sleep(2 * SECONDS)


async def test_a_stopped_process_has_lost_no_time(nursery: trio.Nursery) -> None:
    """The loop that does not turn for long is as one that was stopped."""
    pulse = Pulse(SECONDS, lambda: None)
    nursery.start_soon(pulse.run)
    await trio.sleep(0)
    with pulse.bounded():
        time.sleep(3 * SECONDS)
        await trio.sleep(SECONDS / 4)


async def test_it_gives_signs_of_life(nursery: trio.Nursery) -> None:
    beats = []
    pulse = Pulse(SECONDS, lambda: beats.append(time.monotonic()))
    nursery.start_soon(pulse.run)
    await trio.sleep(2 * SECONDS)
    assert len(beats) > 10
