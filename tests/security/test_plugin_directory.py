"""The directory of the volume plugin: what lies in it decides what is mounted for containers."""

import os
import stat
from pathlib import Path

import pytest

from fusefs.dockerplugin import server
from fusefs.dockerplugin.errors import VolumeError


def test_one_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Its owner could change what the plugin remembers, whatever its mode is made."""
    theirs = tmp_path / "docker"
    theirs.mkdir()
    os.chown(theirs, 1001, 1001)
    with pytest.raises(VolumeError, match="belongs to another user"), server._directory(str(theirs)):
        pass
    assert stat.S_IMODE(theirs.stat().st_mode) != 0o700


def test_loose_modes_are_tightened(tmp_path: Path) -> None:
    loose = tmp_path / "docker"
    loose.mkdir()
    loose.chmod(0o777)
    with server._directory(str(loose)):
        assert stat.S_IMODE(loose.stat().st_mode) == 0o700
        assert stat.S_IMODE((loose / "mount").stat().st_mode) == 0o700


def test_a_symlink_in_its_place_is_refused(tmp_path: Path) -> None:
    """As one that was put there after the path was looked at."""
    (tmp_path / "elsewhere" / "mount").mkdir(parents=True)
    (tmp_path / "docker").symlink_to("elsewhere")
    with pytest.raises(VolumeError, match="cannot be used"), server._directory(str(tmp_path / "docker")):
        pass


@pytest.mark.parametrize("umask", [0, 0o022])
def test_what_is_missing_is_made_private(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with server._directory(str(tmp_path / "lib/fusefs/docker")):
            made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    finally:
        os.umask(before)
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in made} == {"0o700"}
    assert len(made) == 4
