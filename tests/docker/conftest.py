"""What the tests in containers share, beside the engine."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import Containers, DaemonContainer
from tests.support.dockerengine import Engine
from tests.support.shared_mount import never_for_ever

__all__ = ["never_for_ever"]

MakeDaemon = Callable[..., DaemonContainer]
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules with plugins last.

    An engine asks every plugin that it ever knew for each volume, and waits 15 seconds for one that is gone.
    """
    items.sort(key=lambda item: hasattr(getattr(item, "module", None), "plugin_of"))


@pytest.fixture
def shared_directory(docker_engine: Engine) -> Path:
    """A name for a new directory in which mounts propagate."""
    return docker_engine.shared / f"d{next(_numbers)}"


@pytest.fixture
def make_daemon(docker_engine: Engine, docker_image: str, containers: Containers) -> Iterator[MakeDaemon]:
    """Starts daemons of the image, in containers."""
    with ExitStack() as daemons:

        def make(**options: Any) -> DaemonContainer:
            daemon = DaemonContainer(containers, docker_engine.shared / f"d{next(_numbers)}", **options)
            daemons.callback(daemon.close)
            return daemon

        yield make
