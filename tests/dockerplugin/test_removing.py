"""Removing a volume with its objects: no more than those, and nothing after it was said to have failed."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from fusefs.dockerplugin.driver import Volumes
from fusefs.dockerplugin.errors import VolumeError
from fusefs.dockerplugin.state import StateFile
from tests.dockerplugin.conftest import Directory
from tests.support.dockerplugin import Plugin


@contextmanager
def bound(source: Path, target: Path) -> Iterator[None]:
    """Another directory, mounted on `target`."""
    subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)


@pytest.mark.mount
@pytest.mark.parametrize("where", [".", "sub"])
@pytest.mark.parametrize("what", ["another filesystem", "another pipeline"])
def test_what_is_mounted_in_it_is_left_alone(shared: Plugin, tmp_path: Path, where: str, what: str) -> None:
    shared.create("holder", remove="objects")
    there = shared.mount / "pipeline" / "holder"
    (there / "sub").mkdir(exist_ok=True)
    other = tmp_path
    if what == "another pipeline":
        other = shared.mount / "pipeline" / "other"
        other.mkdir(exist_ok=True)
    (other / "precious").write_text("value")
    with bound(other, there / where):
        assert "something is mounted in it" in shared.refused("Remove", Name="holder")
        assert (other / "precious").read_text() == "value"
    shared.ok("Remove", Name="holder")
    assert not there.exists()
    assert (other / "precious").read_text() == "value"


@pytest.mark.trio
async def test_one_that_is_given_up_deletes_nothing_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = Volumes(Directory(tmp_path), str(tmp_path / "views"), StateFile(str(tmp_path / "state")))
    await volumes.create("v", {"remove": "objects"})
    there = tmp_path / "pipeline" / "v"
    for number in range(5):
        (there / f"key{number}").write_text("value")
    unlink, go_on = os.unlink, threading.Event()

    def slow(name: str, *, dir_fd: int) -> None:
        assert go_on.wait(60)
        unlink(name, dir_fd=dir_fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", slow)
        patched.setattr("fusefs.dockerplugin.driver.REMOVE_SECONDS", 0.2)
        with pytest.raises(VolumeError, match=r"took longer than 0\.2 seconds"):
            await volumes.remove("v")
        # What it waits for may still be done: nobody is to put anything there meanwhile.
        for change in (volumes.mount("v", "1"), volumes.create("other", {"pipeline": "v"}), volumes.remove("v")):
            with pytest.raises(VolumeError, match="pipeline v is still being removed: try again"):
                await change
        go_on.set()
    with trio.fail_after(30):
        await mounted_at_last(volumes)
    assert len(os.listdir(there)) == 4
    await volumes.unmount("v", "1")
    await volumes.remove("v")
    assert not there.exists()


async def mounted_at_last(volumes: Volumes) -> None:
    while True:
        try:
            await volumes.mount("v", "1")
            return
        except VolumeError:
            await trio.sleep(0.01)
