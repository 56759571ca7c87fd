"""One mount in the place of another, as is done with a dead one: by kernels that mount beneath, and by older ones."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs import bare, mountapi, mountpoint, presence
from fusefs.errors import MountError
from fusefs.mountinfo import mounts
from tests.conftest import MakeMount
from tests.support.scratch import make_directory, remove_directory

pytestmark = [pytest.mark.mount, pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")]


@pytest.fixture
def path() -> Iterator[Path]:
    """A directory with something mounted on it."""
    scratch = make_directory()
    path = scratch / "m"
    path.mkdir()
    mount("old", str(path))
    yield path
    while on(path):
        mountapi.detach(str(path))
    bare.release(str(path))
    remove_directory(scratch)


@pytest.fixture(params=["beneath", "as of old"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "as of old":
        attach = mountapi.attach

        def refuse(tree: int, path: str, *, beneath: bool = False) -> None:
            if beneath:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            attach(tree, path)

        monkeypatch.setattr(mountapi, "attach", refuse)
    kernel: str = request.param
    return kernel


def mount(name: str, path: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", name, path], check=True)
    (Path(path) / name).touch()


def on(path: Path) -> list[str]:
    """What is mounted there."""
    return [each.source.decode() for each in mounts() if each.path == os.fsencode(path)]


def place_for(path: Path) -> Path:
    """Where what is to be mounted on `path` is mounted before."""
    return Path(f"/run/fusefs/mount-{presence._digest(str(path))}")


def below(path: Path) -> int:
    return mountapi.directory_below(str(path))


def test_the_new_one_takes_the_place(path: Path, kernel: str) -> None:
    directory = below(path)

    def mount_new(place: str) -> None:
        assert place == str(place_for(path))
        mount("new", place)

    mountpoint._replace(str(path), directory, mount_new)
    assert on(path) == ["new"]
    assert os.listdir(path) == ["new"]
    assert os.listdir(directory) == []
    assert not place_for(path).exists()
    # Where it may have been seen for a moment, it refuses writes until somebody says that all is well.
    mountapi.detach(str(path))
    assert bare.is_protected(str(path)) == (kernel == "as of old")
    bare.release_directory(directory)
    (path / "k").touch()
    os.close(directory)


def test_who_has_something_open_in_the_old_one_keeps_it(path: Path, kernel: str) -> None:
    (path / "k").write_text("v")
    directory = below(path)
    with (path / "k").open() as file:
        mountpoint._replace(str(path), directory, lambda place: mount("new", place))
        assert file.read() == "v"
    os.close(directory)


def test_one_that_cannot_be_mounted_leaves_the_old_one(path: Path, kernel: str) -> None:
    directory = below(path)

    def refuse(_place: str) -> None:
        raise MountError("no")

    with pytest.raises(MountError, match="no"):
        mountpoint._replace(str(path), directory, refuse)
    assert on(path) == ["old"]
    assert not place_for(path).exists()
    assert not bare.is_protected(str(path))
    os.close(directory)


# A daemon that dies meanwhile

KILLED = """
import os, signal, sys
from fusefs import mountapi
from fusefs.cli import main
clone = mountapi.clone
mountapi.clone = lambda path: os.kill(os.getpid(), signal.SIGKILL) if "/mount-" in path else clone(path)
main()
"""


@pytest.mark.parametrize("by", ["itself", "another"])
def test_a_daemon_that_is_killed_before_it_moves_its_mount(make_mount: MakeMount, by: str) -> None:
    """What it leaves goes when there is a mount the next time, wherever that is."""
    store = make_mount()
    store.kill()
    command = [sys.executable, "-c", KILLED, "mount", "--foreground", "--store", store.store, str(store.path)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    # That it was there is not asked: whoever mounts anything on this machine takes it away.
    if by == "itself":
        store.mount()
    else:
        make_mount()
    assert on(place_for(store.path)) == []
    assert not place_for(store.path).exists()
    assert len(on(store.path)) == 1
