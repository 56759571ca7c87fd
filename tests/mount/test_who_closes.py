"""Finding out who closes a file, where what is looked at does not answer."""

import os
import threading
from collections.abc import Iterator

import pytest
import trio

from fusefs.closers import Closers, Closing
from fusefs.tasks import Opener, Processes

SECONDS = 2.0
"""For how long a FLUSH may wait here."""
MANY = 150


@pytest.fixture
def family() -> Iterator[None]:
    """More threads in this process than the event loop looks at."""
    ended = threading.Event()
    threads = [threading.Thread(target=ended.wait) for _ in range(50)]
    for thread in threads:
        thread.start()
    yield
    ended.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def opener() -> Opener:
    return Processes().opener(os.getpid())


@pytest.mark.trio
async def test_threads_that_wait_elsewhere(family: None, opener: Opener) -> None:
    """It needs none of the threads that everything else shares."""
    limiter = trio.to_thread.current_default_thread_limiter()
    for number in range(int(limiter.total_tokens)):
        limiter.acquire_on_behalf_of_nowait(number)
    with trio.fail_after(30):
        assert await Closers(SECONDS).closing(opener, False, set) is Closing.PLAIN
        assert await Closers(SECONDS).closing(opener, True, set) is Closing.PLAIN


@pytest.mark.trio
@pytest.mark.parametrize("what", ["_search", "_all_go_on"])
async def test_threads_that_wait_here(family: None, opener: Opener, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many these are, a FLUSH is answered in time, and the others have theirs."""
    ended = threading.Event()
    monkeypatch.setattr(f"fusefs.closers.{what}", lambda *_: ended.wait())
    closers, again = Closers(SECONDS), what == "_search"
    answers = []

    async def close() -> None:
        answers.append(await closers.closing(opener, again, set))

    try:
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(MANY):
                nursery.start_soon(close)
        assert answers == [Closing.PLAIN] * MANY
        assert trio.current_time() - begun < 10 * SECONDS
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        waiting = closers._searches if again else closers._looks
        assert waiting.borrowed_tokens == waiting.total_tokens
        if again:
            assert await closers.closing(opener, False, set) is Closing.PLAIN
    finally:
        ended.set()
