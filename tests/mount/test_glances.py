"""Looking at processes that cannot be looked at: nobody waits for one of them twice, and others are looked at."""

import threading
import time

import pytest

from fusefs.glances import in_time


def test_a_process_that_cannot_be_looked_at_is_in_nobodys_way() -> None:
    """Eight requests of one that was in execve(2) for ever, and nobody was looked at any more."""
    go_on = threading.Event()
    began = time.monotonic()
    try:
        assert [in_time(1, go_on.wait, otherwise=False) for _ in range(50)] == [False] * 50
        assert time.monotonic() - began < 5  # it was waited for once
        assert in_time(2, lambda: True, otherwise=False)
    finally:
        go_on.set()


def test_one_that_can_be_looked_at_is_as_often_as_one_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusefs.glances._WAITED_FOR_S", 60)
    assert all(in_time(3, lambda: True, otherwise=False) for _ in range(1000))
