"""Calls of the plugin that never end: others do not wait for their threads."""

import os
import threading
from functools import partial
from pathlib import Path

import pytest
import trio

from fusefs.dockerplugin.blocking import in_thread
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


@pytest.mark.trio
async def test_setting_a_limit_where_somebody_has_the_directory_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As who lists it in a container may, for as long as nothing answers the listing."""
    ended = threading.Event()
    monkeypatch.setattr(os, "setxattr", lambda *_: ended.wait())
    volumes = driver(tmp_path)
    try:
        await volumes.create("one", {"pipeline": "app"})
        with monkeypatch.context() as patched:
            patched.setattr("fusefs.dockerplugin.driver.in_thread", partial(in_thread, seconds=SECONDS))
            for number in range(MANY):
                with pytest.raises(VolumeError, match="took longer"):
                    await volumes.create(f"another{number}", {"pipeline": "app", "limit": "5"})
        with trio.fail_after(10):
            await volumes.mount("one", "somebody")
            await volumes.create("other", {"pipeline": "other"})
            await volumes.unmount("one", "somebody")
            await volumes.remove("one")
    finally:
        ended.set()
