"""The files of a store are for its owner alone, whatever umask there is, and none of them is ever a symlink."""

import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import ScopeName, open_store
from engine.config import ObjectStoreSettings
from engine.errors import StoreError
from engine.journal import Journal, read
from fusefs import presence
from tests.support.mounting import FUSEFS, ROOT
from tests.support.scratch import detach, make_directory, mount_at, remove_directory

LARGE = 5_000_000
"""Enough to need the data file."""
APP = ScopeName.pipeline(b"app")


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.lstat().st_mode))


@pytest.fixture
def directory() -> Iterator[Path]:
    path = make_directory()
    (path / "m").mkdir()
    yield path
    if (mount := mount_at(path / "m")) is not None:
        detach(mount)
    remove_directory(path)


def command(directory: Path, *arguments: str) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": str(ROOT)}
    environment |= {"FUSEFS_STORE": str(directory / "a/b/objects.db"), "FUSEFS_CONFIG": os.devnull}
    subprocess.run([*FUSEFS, *arguments], env=environment, umask=0, timeout=60, check=True)


@pytest.mark.mount
def test_whatever_the_umask(directory: Path) -> None:
    """All of them, and the directories that had to be made; and the file that tells who serves the mount."""
    command(directory, "mount", str(directory / "m"))
    app = directory / "m/pipeline/app"
    app.mkdir()
    (app / "small").write_bytes(b"value")
    (app / "large").write_bytes(os.urandom(LARGE))
    made = [directory / "a", *(directory / "a").rglob("*")]
    endings = {path.name.removeprefix("objects.db").rstrip("0123456789") for path in made if path.is_file()}
    assert endings == {"", "-data", "-lock", "-puts-", "-shm", "-wal", ".log"}
    place = Path(presence._path(presence._directories(os.geteuid())[0], str(directory / "m")))
    modes = {path: mode(path) for path in [*made, place, place.parent]}
    command(directory, "umount", str(directory / "m"))
    assert modes == {path: "0o700" if path.is_dir() else "0o600" for path in modes}


# Symlinks in their place


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_bytes(b"precious" * 1000)
    return path


@pytest.mark.parametrize("ending", ["-lock", "-data", "-wal", "-shm"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_symlink_is_refused(tmp_path: Path, victim: Path, ending: str, dangling: bool) -> None:
    """Whatever it leads to is neither read nor written nor made."""
    settings = ObjectStoreSettings(path=str(tmp_path / "objects.db"))
    with open_store(settings) as store:
        store.create_pipeline(b"app", None, uid=0, gid=0)
        store.put_object(APP, b"k", os.urandom(LARGE), False, uid=0, gid=0)
    path = tmp_path / f"objects.db{ending}"
    path.unlink(missing_ok=True)
    path.symlink_to(victim.with_name("missing") if dangling else victim)
    before = victim.read_bytes()
    with pytest.raises(StoreError):
        use(settings)
    assert victim.read_bytes() == before
    assert path.is_symlink()
    assert not victim.with_name("missing").exists()


def use(settings: ObjectStoreSettings) -> None:
    """Use all of the files."""
    with open_store(settings) as store:
        store.sessions.ensure()
        store.put_object(APP, b"new", os.urandom(LARGE), False, uid=0, gid=0)


@pytest.mark.parametrize("open_it", [Journal, read], ids=["written", "read"])
def test_a_symlink_is_no_journal(tmp_path: Path, victim: Path, open_it: Callable[[Path], object]) -> None:
    journal = tmp_path / "objects.db-puts-1"
    journal.symlink_to(victim)
    before = victim.read_bytes()
    with pytest.raises(StoreError):
        open_it(journal)
    assert victim.read_bytes() == before


# Who serves a mount


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a mountpoint, in a directory that belongs to whoever made it first."""
    monkeypatch.setattr(presence, "_directories", lambda uid: [str(tmp_path)])
    return Path(presence._path(str(tmp_path), "/mnt"))


def test_a_symlink_instead_of_the_file_that_tells_who_serves(place: Path, victim: Path) -> None:
    place.symlink_to(victim)
    before = victim.read_bytes()
    with pytest.raises(presence.MountError, match="cannot tell who serves"):
        presence.server("/mnt")
    with pytest.raises(OSError, match="symbolic links"), presence.present("/mnt"):
        pass
    assert victim.read_bytes() == before


def test_nobody_waits_for_a_fifo_in_its_place(place: Path) -> None:
    os.mkfifo(place)
    code = f"""
from fusefs import presence
presence._directories = lambda uid: [{str(place.parent)!r}]
print(presence.server("/mnt"))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=30, check=True)
    assert done.stdout == b"None\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
@pytest.mark.parametrize("of_another", ["directory", "file"])
def test_what_another_user_has_put_there_is_not_believed(place: Path, of_another: str) -> None:
    """Who waits for the end of a mount would wait for whoever the other names."""
    place.write_text("1\n")
    with place.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert presence.server("/mnt") == 1
        os.chown(place.parent if of_another == "directory" else place, 1001, 1001)
        assert presence.server("/mnt") is None
        assert presence.wait_gone("/mnt", 0)
