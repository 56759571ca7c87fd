"""Removing a volume with its objects: no more than those, and nothing after it was said to have failed."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.dockerplugin import Plugin

pytestmark = pytest.mark.mount


@contextmanager
def bound(source: Path, target: Path) -> Iterator[None]:
    """Another directory, mounted on `target`."""
    subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)


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
