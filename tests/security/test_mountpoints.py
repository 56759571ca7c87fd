"""What root mounts on, where others may rename what is on the way."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs import mountapi
from fusefs.dockerplugin import binds
from fusefs.errors import MountError
from fusefs.mountinfo import mount_at
from fusefs.mountpoint import mounted_over

pytestmark = pytest.mark.mount

BIND = 4096
"""MS_BIND of mount(2): any mount will do."""


class Place:
    """A mountpoint in a directory of somebody else, and one that nothing is to be mounted on."""

    def __init__(self, top: Path) -> None:
        self.theirs, self.mine, self.source = top / "theirs", top / "mine", top / "source"
        for path in (self.theirs / "m", self.mine / "m", self.source):
            path.mkdir(parents=True)

    def swap(self) -> Path:
        """Let the path of the mountpoint lead elsewhere; returns where the directory is now."""
        moved = self.theirs.rename(self.theirs.with_name("moved"))
        self.theirs.symlink_to(self.mine)
        return moved / "m"

    def mount(self, path: str) -> None:
        binds._mount(str(self.source), path, BIND)

    def mounted(self) -> list[str]:
        found = [path for path in self.source.parent.rglob("*") if mount_at(os.fsencode(path)) is not None]
        return [str(path.relative_to(self.source.parent)) for path in found]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    for path in found.mounted():
        mountapi.detach(str(tmp_path / path))


def test_a_directory_that_is_swapped_while_it_is_mounted_on(place: Place) -> None:
    """The mount lands on the directory that was looked at, wherever that is by then."""

    def mount(path: str) -> None:
        place.swap()
        place.mount(path)

    with mounted_over(str(place.theirs / "m"), mount):
        pass
    assert place.mounted() == ["moved/m"]


def test_a_directory_that_was_swapped_before(place: Place) -> None:
    """After it was found to be without symlinks, as `check` returns it."""
    path = str(place.theirs / "m")
    place.swap()
    with pytest.raises(MountError, match="is not any more what it was"), mounted_over(path, place.mount):
        pass
    assert place.mounted() == []
