"""Calls of the plugin that never end: others do not wait for their threads."""

import threading
from pathlib import Path

import pytest
import trio

from fusefs.dockerplugin.driver import Volumes
from fusefs.dockerplugin.errors import VolumeError
from tests.dockerplugin.test_protocol import driver

MANY = 60
SECONDS = 0.05


async def remove(volumes: Volumes, name: str) -> None:
    with pytest.raises(VolumeError, match="took longer"):
        await volumes.remove(name)


@pytest.mark.trio
async def test_deleting_where_somebody_has_a_directory_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr("fusefs.dockerplugin.driver.scopes.remove", lambda *_: ended.wait())
    monkeypatch.setattr("fusefs.dockerplugin.driver.REMOVE_SECONDS", SECONDS)
    volumes = driver(tmp_path)
    try:
        for number in range(MANY):
            await volumes.create(f"full{number}", {"remove": "objects"})
            await remove(volumes, f"full{number}")
        with trio.fail_after(10):
            await volumes.create("other", {})
            await volumes.mount("other", "somebody")
            await volumes.unmount("other", "somebody")
            await volumes.remove("other")
    finally:
        ended.set()
