"""The volume plugin where an engine finds it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.dockerplugin import Plugin

DRIVER = f"fusefs-test-{os.getpid()}"
"""What the engine calls it: not what a plugin of this machine is called."""

_DISCOVERED = Path("/run/docker/plugins")


@contextmanager
def plugin_of(*options: str, store: Path | None = None) -> Iterator[Plugin]:
    """A plugin at work, of a store of its own unless one is named."""
    plugin = Plugin(*options)
    try:
        plugin.own_socket = plugin.socket = _DISCOVERED / f"{DRIVER}.sock"
        if store is not None:
            plugin.environment["FUSEFS_STORE"] = str(store)
        plugin.start()
        yield plugin
    finally:
        plugin.close()
        plugin.socket.unlink(missing_ok=True)
