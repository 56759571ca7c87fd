"""Plugins for tests, each in a directory of its own, with nothing left of them at the end."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.dockerplugin import Plugin
from tests.support.shared_mount import never_for_ever

__all__ = ["never_for_ever"]

MakePlugin = Callable[..., Plugin]


class Directory:
    """A directory for the mount."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        for kind in ("pipeline", "run"):
            (path / kind).mkdir()

    async def ensure(self) -> None:
        pass


@pytest.fixture
def make_plugin() -> Iterator[MakePlugin]:
    """Makes plugins and does not start them."""
    with ExitStack() as plugins:

        def make(*options: str, **more: Any) -> Plugin:
            plugin = Plugin(*options, **more)
            plugins.callback(plugin.close)
            return plugin

        yield make


@pytest.fixture
def plugin(make_plugin: MakePlugin) -> Plugin:
    """A plugin at work."""
    made = make_plugin()
    made.start()
    return made


@pytest.fixture(scope="module")
def shared() -> Iterator[Plugin]:
    """One plugin at work for all tests of a module."""
    made = Plugin()
    try:
        made.start()
        yield made
    finally:
        made.close()
