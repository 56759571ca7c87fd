"""Mountpoints that cannot be mounted on or unmounted, each with its one clear reason. No mount is made here."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs import bare, mountapi, mountpoint
from fusefs.errors import MountError
from fusefs.mountinfo import Mount, mount_at, mounts, parse_line
from fusefs.mountpoint import check, mounted_over, unmount


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "m"
    path.mkdir()
    return path


def fuse_mount(path: Path, kind: str = "fuse.fusefs") -> Mount:
    return Mount(os.fsencode(path), kind, b"/srv/objects.db", {"user_id": "0"})


def pretend_dead(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def statvfs(asked: str) -> os.statvfs_result:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), asked)

    monkeypatch.setattr(mountpoint.os, "statvfs", statvfs)


def test_an_empty_directory_will_do(directory: Path, tmp_path: Path) -> None:
    assert check(str(directory), files=[str(tmp_path / "objects.db")]) == str(directory)


def test_by_a_symlink(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("m")
    assert check(str(tmp_path / "link")) == str(directory)


def test_what_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(MountError, match=r"/missing does not exist: mkdir it first$"):
        check(str(tmp_path / "missing"))
    assert not (tmp_path / "missing").exists()


def test_what_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MountError, match="/file is not a directory"):
        check(str(tmp_path / "file"))


def test_what_is_not_empty(directory: Path) -> None:
    (directory / ".hidden").touch()
    with pytest.raises(MountError, match="is not empty"):
        check(str(directory))


@pytest.mark.parametrize("store", ["m/objects.db", "m", "m/a/b/objects.db", "link/objects.db"])
def test_a_store_beneath_the_mountpoint(directory: Path, tmp_path: Path, store: str) -> None:
    (tmp_path / "link").symlink_to("m")
    with pytest.raises(MountError, match="lies inside"):
        check(str(directory), files=[str(tmp_path / "elsewhere"), str(tmp_path / store)])


def test_a_store_beside_the_mountpoint(directory: Path, tmp_path: Path) -> None:
    assert check(str(directory), files=[str(tmp_path / "m.db"), str(tmp_path / "mm/objects.db")])


def test_what_is_mounted_already(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "mount_at", lambda path: fuse_mount(directory))
    with pytest.raises(MountError, match=r"is already mounted: /srv/objects.db$"):
        check(str(directory))


def test_a_dead_mount_of_ours_is_left_until_the_new_one_is_made(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mountpoint, "mount_at", lambda path: fuse_mount(directory))
    pretend_dead(directory, monkeypatch)
    assert check(str(directory)) == str(directory)


@pytest.fixture
def two_dead_mounts(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Mount]]:
    stack = [fuse_mount(directory), fuse_mount(directory)]
    monkeypatch.setattr(mountpoint, "mounts", lambda: stack)
    monkeypatch.setattr(mountpoint, "mount_at", lambda path: stack[-1] if stack else None)
    monkeypatch.setattr(mountpoint, "_is_dead", lambda path: True)
    monkeypatch.setattr(mountpoint, "_unmount", lambda path, *, lazy: stack.pop() if lazy else None)
    yield stack
    bare.release(str(directory))


def test_several_dead_mounts_of_ours_are_taken_away(directory: Path, two_dead_mounts: list[Mount]) -> None:
    with mounted_over(str(directory), lambda path: two_dead_mounts.append(fuse_mount(Path(path).resolve()))) as below:
        assert os.path.samestat(os.fstat(below), directory.stat())
    assert two_dead_mounts == [fuse_mount(directory)]


def test_where_mounts_cannot_be_moved(
    directory: Path, two_dead_mounts: list[Mount], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for users other than root, and in containers that may not: the dead mount is taken away first."""

    def refuse(_path: str) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(mountapi, "directory_below", refuse)
    two_dead_mounts.pop()
    seen = []

    def mount(path: str) -> None:
        seen.append(list(two_dead_mounts))
        two_dead_mounts.append(fuse_mount(Path(path).resolve()))

    with mounted_over(str(directory), mount):
        assert seen == [[]]


def test_what_lies_below_dead_mounts_is_not_covered(directory: Path, two_dead_mounts: list[Mount]) -> None:
    (directory / "k").touch()
    with (
        pytest.raises(MountError, match="is not empty"),
        mounted_over(str(directory), lambda path: two_dead_mounts.append(fuse_mount(Path(path).resolve()))),
    ):
        pass
    assert two_dead_mounts == []


def test_a_dead_mount_of_somebody_else_is_left_alone(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "mount_at", lambda path: fuse_mount(directory, "fuse.sshfs"))
    monkeypatch.setattr(mountpoint, "_is_dead", lambda path: True)
    with pytest.raises(MountError, match=r"dead mount of fuse.sshfs, which is not ours"):
        check(str(directory))


def test_an_empty_filesystem_may_be_mounted_over(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "mount_at", lambda path: fuse_mount(directory, "tmpfs"))
    assert check(str(directory)) == str(directory)


def test_dead_or_alive(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not mountpoint._is_dead(str(directory))
    assert not mountpoint._is_dead("/nonexistent")
    pretend_dead(directory, monkeypatch)
    assert mountpoint._is_dead(str(directory))


# What the machine must have


def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOENT, "there is no /dev/fuse: load the kernel's fuse module"),
        (errno.EPERM, "cannot open /dev/fuse: Operation not permitted"),
        (errno.EACCES, "cannot open /dev/fuse: Permission denied"),
        (errno.ENODEV, "cannot open /dev/fuse: No such device"),
    ],
)
def test_without_dev_fuse(directory: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str) -> None:
    def refuse(path: str, flags: int) -> int:
        assert path == "/dev/fuse"
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(mountpoint.os, "open", refuse)
    with pytest.raises(MountError, match=rf"^{said} \(a container needs --device /dev/fuse"):
        check(str(directory))


def test_without_fusermount3(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint.shutil, "which", lambda name: None)
    as_user(monkeypatch)
    with pytest.raises(MountError, match=r"there is no fusermount3.*install fuse3"):
        check(str(directory))
    monkeypatch.setattr(mountpoint, "mount_at", lambda path: fuse_mount(directory))
    with pytest.raises(MountError, match=r"there is no fusermount3.*install fuse3"):
        unmount(str(directory))


def test_allow_other_needs_the_administrators_word(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch)
    monkeypatch.setattr(mountpoint.shutil, "which", lambda name: name)
    monkeypatch.setattr(mountpoint, "_user_allow_other", lambda: False)
    with pytest.raises(MountError, match=r"user_allow_other in /etc/fuse.conf"):
        check(str(directory), allow_other=True)
    assert check(str(directory), allow_other=False)
    monkeypatch.setattr(mountpoint, "_user_allow_other", lambda: True)
    assert check(str(directory), allow_other=True)


def test_a_directory_that_one_may_not_write_to(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint.os, "access", lambda path, mode: False)
    with pytest.raises(MountError, match="no permission to write"):
        check(str(directory))


# Unmounting


def test_unmounting_what_is_not_mounted(directory: Path) -> None:
    with pytest.raises(MountError, match="/m is not mounted"):
        unmount(str(directory))


def test_unmounting_what_is_not_ours() -> None:
    with pytest.raises(MountError, match="/proc is not a mount of fusefs: it is proc"):
        unmount("/proc")


# The kernel's table


def test_this_machines_table() -> None:
    found = mounts()
    assert any(mount.path == b"/proc" and mount.type == "proc" for mount in found)
    assert mount_at(b"/proc") is not None
    assert mount_at(b"/nonexistent") is None


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        (rb"/plain", b"/plain"),
        (rb"/with\040space\011tab\012newline\134backslash", b"/with space\ttab\nnewline\\backslash"),
        (b"/not-utf8-\xff", b"/not-utf8-\xff"),
        (rb"/\134040", rb"/\040"),
    ],
)
def test_escapes_of_the_table(fields: bytes, path: bytes) -> None:
    assert parse_line(b"36 35 0:30 / " + fields + b" rw - fuse.fusefs x rw\n").path == path


@pytest.mark.parametrize("optional", [b"", b"shared:1 ", b"shared:1 master:2 propagate_from:3 "])
def test_a_line_of_the_table(optional: bytes) -> None:
    line = (
        b"36 35 0:30 / /m rw,nosuid " + optional + rb"- fuse.fusefs /srv/a\040b.db rw,user_id=1000,allow_other" + b"\n"
    )
    mount = parse_line(line)
    assert (mount.path, mount.source, mount.ours, mount.uid) == (b"/m", b"/srv/a b.db", True, 1000)
    assert mount.options["allow_other"] == ""
