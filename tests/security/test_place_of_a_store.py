"""Where a store may lie: nobody but us, root and those whom a directory's group was given to may replace its files."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import OpenError
from engine.trust import check_place, make_directory


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store's file, two directories deep."""
    path = tmp_path / "above" / "stores" / "objects.db"
    make_directory(path.parent)
    path.touch(0o600)
    return path


FINE: dict[str, Callable[[Path], object]] = {
    "as it is made": lambda store: None,
    "readable by everybody": lambda store: store.parent.chmod(0o755),
    "a group that was given it": lambda store: store.parent.chmod(0o2770),
    "a file that is missing": lambda store: store.unlink(),
    "a directory that is missing": lambda store: (store.unlink(), store.parent.rmdir()),
    "below a directory like /tmp": lambda store: store.parent.parent.chmod(0o1777),
}


@pytest.mark.parametrize("prepare", FINE.values(), ids=FINE)
def test_a_place_that_will_do(store: Path, prepare: Callable[[Path], object]) -> None:
    prepare(store)
    check_place(store)


def test_by_a_directory_that_is_a_symlink(store: Path, tmp_path: Path) -> None:
    """What it leads to counts."""
    (tmp_path / "link").symlink_to(store.parent)
    check_place(tmp_path / "link" / "objects.db")
    store.parent.chmod(0o777)
    with pytest.raises(OpenError):
        check_place(tmp_path / "link" / "objects.db")


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "its directory is for everybody": (lambda store: store.parent.chmod(0o777), "everybody can write to .*/stores,"),
    "even if it is sticky": (lambda store: store.parent.chmod(0o1777), "everybody can write to .*/stores,"),
    "one above it is": (lambda store: store.parent.parent.chmod(0o777), "everybody can write to .*/above,"),
    "it is itself": (lambda store: store.chmod(0o606), "everybody can write to .*objects.db,"),
    "its directory is another's": (lambda store: os.chown(store.parent, 1001, 0), "stores belongs to user 1001"),
    "one above it is another's": (lambda store: os.chown(store.parent.parent, 1001, 0), "above belongs to user 1001"),
    "it is another's itself": (lambda store: os.chown(store, 1001, 0), "objects.db belongs to user 1001"),
    "it is a symlink": (lambda store: store.symlink_to(store.rename(store.with_name("real.db"))), "is a symlink"),
}


@pytest.mark.parametrize(("prepare", "message"), WRONG.values(), ids=WRONG)
def test_a_place_that_will_not(store: Path, prepare: Callable[[Path], object], message: str) -> None:
    prepare(store)
    with pytest.raises(OpenError, match=message):
        check_place(store)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_directories_are_made_private(tmp_path: Path, umask: int) -> None:
    """Those on the way, too, whatever the umask."""
    before = os.umask(umask)
    try:
        make_directory(tmp_path / "a/b/c")
        make_directory(tmp_path / "a/b/c")
    finally:
        os.umask(before)
    assert [oct(path.stat().st_mode & 0o7777) for path in sorted((tmp_path / "a").glob("**"))] == ["0o700"] * 3


def test_the_names_of_those_that_are_made_survive_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    for _ in range(2):
        make_directory(tmp_path / "a/b/c")
    assert synced == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")]
