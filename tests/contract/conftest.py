"""The shared mount of each module, and two processes that use it."""

from collections.abc import Iterator

import pytest

from tests.support.processes import Other
from tests.support.shared_mount import never_for_ever, other_pipeline, pipeline, run, shared

__all__ = ["never_for_ever", "other_pipeline", "pipeline", "run", "shared"]


@pytest.fixture
def one() -> Iterator[Other]:
    with Other() as process:
        yield process


@pytest.fixture
def other() -> Iterator[Other]:
    with Other() as process:
        yield process
