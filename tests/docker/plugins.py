"""The volume plugin where an engine finds it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.dockerengine import PLUGINS, plugin_name
from tests.support.dockerplugin import Plugin

DRIVER = plugin_name()
"""What the engine calls it."""


@contextmanager
def plugin_of(*options: str, store: Path | None = None) -> Iterator[Plugin]:
    """A plugin at work, of a store of its own unless one is named."""
    plugin = Plugin(*options)
    try:
        plugin.own_socket = plugin.socket = PLUGINS / f"{DRIVER}.sock"
        if store is not None:
            plugin.environment["FUSEFS_STORE"] = str(store)
        plugin.start()
        yield plugin
    finally:
        plugin.close()
        plugin.socket.unlink(missing_ok=True)
