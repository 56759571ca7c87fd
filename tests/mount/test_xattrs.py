"""Extended attributes: user.* is kept, the rest is refused."""

import errno
import os
from pathlib import Path

import pytest

from tests.support.processes import Other, sh
from tests.support.shared_mount import refused

pytestmark = pytest.mark.mount


@pytest.fixture(params=["k", "d"])
def path(request: pytest.FixtureRequest, pipeline: Path) -> Path:
    """An object, and a directory."""
    (pipeline / "k").write_text("value")
    (pipeline / "d").mkdir()
    found: Path = pipeline / request.param
    return found


@pytest.mark.parametrize("value", [b"", b"x", b"\0\xff\n", b"y" * 60_000])
def test_set_get_list_remove(path: Path, value: bytes) -> None:
    """An attribute is what it was set to, any bytes."""
    os.setxattr(path, "user.a", value)
    os.setxattr(path, "user.b", b"b")
    assert os.getxattr(path, "user.a") == value
    assert sorted(os.listxattr(path)) == ["user.a", "user.b"]
    os.removexattr(path, "user.a")
    assert os.listxattr(path) == ["user.b"]
    with refused(errno.ENODATA):
        os.getxattr(path, "user.a")


def test_replacing(path: Path) -> None:
    """Set again, it has the new value; XATTR_CREATE and XATTR_REPLACE hold."""
    os.setxattr(path, "user.a", b"one")
    os.setxattr(path, "user.a", b"two")
    with refused(errno.EEXIST):
        os.setxattr(path, "user.a", b"three", os.XATTR_CREATE)
    os.setxattr(path, "user.a", b"four", os.XATTR_REPLACE)
    with refused(errno.ENODATA):
        os.setxattr(path, "user.b", b"x", os.XATTR_REPLACE)
    assert (os.getxattr(path, "user.a"), os.listxattr(path)) == (b"four", ["user.a"])


def test_other_namespaces(path: Path) -> None:
    """Only user.* is kept: security., trusted. and ACLs are EOPNOTSUPP, and nothing is pretended."""
    for name in ("security.mine", "trusted.mine", "system.posix_acl_access"):
        with refused(errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL):
            os.setxattr(path, name, b"x")
        with refused(errno.ENODATA, errno.EOPNOTSUPP):
            os.getxattr(path, name)
    assert os.listxattr(path) == []


def test_they_survive_a_put(pipeline: Path) -> None:
    """An overwrite keeps the attributes of the key, as on any file; rename takes them along."""
    sh("echo old > k", pipeline)
    os.setxattr(pipeline / "k", "user.a", b"a")
    sh("echo new > k; mv k l", pipeline)
    assert os.getxattr(pipeline / "l", "user.a") == b"a"


def test_others_see_them_at_once(pipeline: Path) -> None:
    """What one process sets, another gets."""
    (pipeline / "k").write_text("value")
    with Other() as other:
        for number in range(5):
            os.setxattr(pipeline / "k", "user.a", b"%d" % number)
            assert other("os.getxattr(path, 'user.a')", path=pipeline / "k") == b"%d" % number


def test_too_much(path: Path) -> None:
    """More than 64 KiB in all is ENOSPC, and leaves what was there."""
    os.setxattr(path, "user.a", b"x" * 40_000)
    with refused(errno.ENOSPC):
        os.setxattr(path, "user.b", b"x" * 40_000)
    assert os.listxattr(path) == ["user.a"]


def test_cp_and_tar_carry_them(pipeline: Path, run: Path) -> None:
    """cp -a carries attributes from key to key."""
    (pipeline / "k").write_text("value")
    os.setxattr(pipeline / "k", "user.a", b"carried")
    sh('cp -a k "$run"/k', pipeline, run=run)
    assert os.getxattr(run / "k", "user.a") == b"carried"


def test_long_ones_of_what_was_listed(path: Path) -> None:
    """A listing holds no long attributes: they are looked up when somebody asks for them."""
    os.setxattr(path, "user.a", b"y" * 60_000)
    with Other() as other:
        other("[entry.stat() for entry in os.scandir(directory)]", directory=path.parent)
        assert other("os.getxattr(path, 'user.a')", path=path) == b"y" * 60_000
        assert other("(fd := os.open(path, os.O_RDONLY), os.getxattr(fd, 'user.a'))[1]", path=path) == b"y" * 60_000
        if path.is_dir():
            os.rmdir(path)
            assert other("os.listxattr(fd)") == []
        else:
            os.unlink(path)
            assert other("os.getxattr(fd, 'user.a')") == b"y" * 60_000


def test_a_long_symlink_that_was_listed(pipeline: Path) -> None:
    (pipeline / "link").symlink_to("t" * 4000)
    assert [entry.name for entry in os.scandir(pipeline)] == ["link"]
    assert os.readlink(pipeline / "link") == "t" * 4000
