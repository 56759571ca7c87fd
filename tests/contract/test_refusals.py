"""What is refused, and how: everything refused has one errno, and leaves the store as it was."""

import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import Other
from tests.support.renaming import EXCHANGE, NOREPLACE, WHITEOUT, renameat2
from tests.support.shared_mount import refused

pytestmark = pytest.mark.mount

KEEP_SIZE, PUNCH_HOLE = 1, 2


def _tree(root: Path) -> dict[str, tuple[object, ...]]:
    """All that there is: kinds, contents, attributes, inodes."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, directories, names in os.walk(root):
        for name in [*directories, *names]:
            path = Path(directory, name)
            info = path.lstat()
            content: object = None
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = path.read_bytes()
            xattrs = {} if path.is_symlink() else {each: os.getxattr(path, each) for each in os.listxattr(path)}
            found[str(path)] = (info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns, content, str(xattrs))
    return found


@pytest.fixture(scope="module")
def furnished(shared: MountedStore) -> Path:
    """The mount with a pipeline and a run that hold something of every kind."""
    for scope in (shared.pipeline / "p", shared.run / "r"):
        scope.mkdir()
        (scope / "k").write_text("value")
        (scope / "other").write_text("other")
        (scope / "d").mkdir()
        (scope / "d/in").write_text("in")
        (scope / "empty").mkdir()
        (scope / "l").symlink_to("k")
        os.setxattr(scope / "k", "user.a", b"a")
    return shared.path


def _bind(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


def _open(flags: int) -> Callable[[Path], None]:
    return lambda path: os.close(os.open(path, flags))


def _on_fd(flags: int, action: Callable[[int], object]) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        fd = os.open(path, flags)
        try:
            action(fd)
        finally:
            os.close(fd)

    return act


def _to(target: str) -> Callable[[Path], None]:
    """Rename to a path that counts from the pipeline or run."""
    return lambda path: os.rename(path, Path(*path.parts[: path.parts.index("mount") + 3], target))


LONG = "x" * 256

IN_A_SCOPE: list[tuple[str, str, Callable[[Path], object], int]] = [
    ("hard link", "k", lambda path: os.link(path, path.with_name("new")), errno.EPERM),
    (
        "hard link to a symlink",
        "l",
        lambda path: os.link(path, path.with_name("n"), follow_symlinks=False),
        errno.EPERM,
    ),
    ("fifo", "new", os.mkfifo, errno.EPERM),
    ("socket", "new", _bind, errno.EPERM),
    ("mkdir over an object", "k", os.mkdir, errno.EEXIST),
    ("mkdir over a directory", "d", os.mkdir, errno.EEXIST),
    ("symlink over an object", "k", lambda path: os.symlink("x", path), errno.EEXIST),
    ("exclusive creation", "k", _open(os.O_WRONLY | os.O_CREAT | os.O_EXCL), errno.EEXIST),
    ("exclusive creation of a symlink's name", "l", _open(os.O_WRONLY | os.O_CREAT | os.O_EXCL), errno.EEXIST),
    ("rename without replacing", "k", lambda p: renameat2(p, p.with_name("other"), NOREPLACE), errno.EEXIST),
    ("open of nothing", "missing", _open(os.O_RDONLY), errno.ENOENT),
    ("creation in nothing", "missing/k", _open(os.O_WRONLY | os.O_CREAT), errno.ENOENT),
    ("removal of nothing", "missing", os.unlink, errno.ENOENT),
    ("rmdir of nothing", "missing", os.rmdir, errno.ENOENT),
    ("rename of nothing", "missing", _to("new"), errno.ENOENT),
    ("truncation of nothing", "missing", lambda path: os.truncate(path, 0), errno.ENOENT),
    ("exchange with nothing", "k", lambda p: renameat2(p, p.with_name("missing"), EXCHANGE), errno.ENOENT),
    ("a key below an object", "k/below", _open(os.O_WRONLY | os.O_CREAT), errno.ENOTDIR),
    ("a directory below an object", "k/below", os.mkdir, errno.ENOTDIR),
    ("rmdir of an object", "k", os.rmdir, errno.ENOTDIR),
    ("listing of an object", "k", os.listdir, errno.ENOTDIR),
    ("rename of a directory over an object", "empty", _to("k"), errno.ENOTDIR),
    ("writing to a directory", "d", _open(os.O_WRONLY), errno.EISDIR),
    ("creation of a directory's name", "d", _open(os.O_WRONLY | os.O_CREAT), errno.EISDIR),
    ("unlink of a directory", "d", os.unlink, errno.EISDIR),
    ("rename of an object over a directory", "k", _to("empty"), errno.EISDIR),
    ("truncation of a directory", "d", lambda path: os.truncate(path, 0), errno.EISDIR),
    ("rmdir of what is not empty", "d", os.rmdir, errno.ENOTEMPTY),
    ("rename over what is not empty", "empty", _to("d"), errno.ENOTEMPTY),
    ("rename into itself", "d", _to("d/below"), errno.EINVAL),
    ("whiteout", "k", lambda path: renameat2(path, path.with_name("new"), WHITEOUT), errno.EINVAL),
    ("exchange without replacing", "k", lambda p: renameat2(p, p.with_name("d"), EXCHANGE | NOREPLACE), errno.EINVAL),
    ("readlink of an object", "k", os.readlink, errno.EINVAL),
    ("a negative size", "k", lambda path: os.truncate(path, -1), errno.EINVAL),
    ("a long key", LONG, _open(os.O_WRONLY | os.O_CREAT), errno.ENAMETOOLONG),
    ("a long directory", LONG, os.mkdir, errno.ENAMETOOLONG),
    ("a long symlink", LONG, lambda path: os.symlink("x", path), errno.ENAMETOOLONG),
    ("a long new name", "k", _to(LONG), errno.ENAMETOOLONG),
    ("a missing attribute", "k", lambda path: os.getxattr(path, "user.missing"), errno.ENODATA),
    ("removal of a missing attribute", "k", lambda path: os.removexattr(path, "user.missing"), errno.ENODATA),
    ("an attribute that is there", "k", lambda p: os.setxattr(p, "user.a", b"x", os.XATTR_CREATE), errno.EEXIST),
    ("an attribute to replace", "k", lambda p: os.setxattr(p, "user.b", b"x", os.XATTR_REPLACE), errno.ENODATA),
    ("too much in attributes", "k", lambda path: _fill_xattrs(path), errno.ENOSPC),
    ("an attribute without a namespace", "k", lambda path: os.setxattr(path, "plain", b"x"), errno.EOPNOTSUPP),
    (
        "punching a hole",
        "k",
        _on_fd(os.O_RDWR, lambda fd: _fallocate(fd, PUNCH_HOLE | KEEP_SIZE)),
        errno.EOPNOTSUPP,
    ),
    ("keeping the size", "k", _on_fd(os.O_RDWR, lambda fd: _fallocate(fd, KEEP_SIZE)), errno.EOPNOTSUPP),
    ("an unknown ioctl", "k", _on_fd(os.O_RDONLY, lambda fd: fcntl.ioctl(fd, 0x1234)), errno.ENOTTY),
    ("writing through a reader", "k", _on_fd(os.O_RDONLY, lambda fd: os.write(fd, b"x")), errno.EBADF),
    ("truncating through a reader", "k", _on_fd(os.O_RDONLY, lambda fd: os.ftruncate(fd, 0)), errno.EINVAL),
    ("reading through a writer", "k", _on_fd(os.O_WRONLY, lambda fd: os.read(fd, 1)), errno.EBADF),
]


def _fill_xattrs(path: Path) -> None:
    """In the end nothing may be left of it."""
    os.setxattr(path, "user.large", b"x" * 65_536)


def _fallocate(fd: int, mode: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(2)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


@pytest.mark.parametrize("scope", ["pipeline/p", "run/r"])
@pytest.mark.parametrize(
    ("name", "action", "number"), [row[1:] for row in IN_A_SCOPE], ids=[row[0] for row in IN_A_SCOPE]
)
def test_in_a_pipeline_or_run(
    furnished: Path, scope: str, name: str, action: Callable[[Path], object], number: int
) -> None:
    """Everything refused has one errno, and leaves the store as it was."""
    before = _tree(furnished)
    with refused(number):
        action(furnished / scope / name)
    assert _tree(furnished) == before


def _rename_to_pipeline(path: Path) -> None:
    os.rename(path, path.parents[2] / "pipeline/new")


FIXED: list[tuple[str, str, Callable[[Path], object], int]] = [
    ("a directory in the root", "new", os.mkdir, errno.EPERM),
    ("a file in the root", "new", _open(os.O_WRONLY | os.O_CREAT), errno.EPERM),
    ("a symlink in the root", "new", lambda path: os.symlink("x", path), errno.EPERM),
    ("a fifo in the root", "new", os.mkfifo, errno.EPERM),
    ("removal of pipeline", "pipeline", os.rmdir, errno.EPERM),
    ("removal of run", "run", os.rmdir, errno.EPERM),
    ("rename of pipeline", "pipeline", lambda path: os.rename(path, path.with_name("new")), errno.EPERM),
    ("rename of run into a pipeline", "run", lambda path: os.rename(path, path.parent / "pipeline/p/new"), errno.EPERM),
    ("exchange of the two", "run", lambda path: renameat2(path, path.with_name("pipeline"), EXCHANGE), errno.EPERM),
    ("a file among pipelines", "pipeline/new", _open(os.O_WRONLY | os.O_CREAT), errno.EPERM),
    ("a file among runs", "run/new", _open(os.O_WRONLY | os.O_CREAT), errno.EPERM),
    ("a symlink among pipelines", "pipeline/new", lambda path: os.symlink("x", path), errno.EPERM),
    ("a symlink among runs", "run/new", lambda path: os.symlink("x", path), errno.EPERM),
    ("a fifo among runs", "run/new", os.mkfifo, errno.EPERM),
    ("rename of a pipeline", "pipeline/p", lambda path: os.rename(path, path.with_name("new")), errno.EPERM),
    ("rename of a run", "run/r", lambda path: os.rename(path, path.with_name("new")), errno.EPERM),
    ("a run as a directory of a pipeline", "run/r", lambda p: os.rename(p, p.parents[1] / "pipeline/p/n"), errno.EPERM),
    ("a directory as a pipeline", "run/r/d", _rename_to_pipeline, errno.EPERM),
    ("an object as a pipeline", "run/r/k", _rename_to_pipeline, errno.EPERM),
    ("a pipeline that is there", "pipeline/p", os.mkdir, errno.EEXIST),
    ("a run that is there", "run/r", os.mkdir, errno.EEXIST),
    ("a full pipeline", "pipeline/p", os.rmdir, errno.ENOTEMPTY),
    ("a full run", "run/r", os.rmdir, errno.ENOTEMPTY),
    ("unlink of a pipeline", "pipeline/p", os.unlink, errno.EISDIR),
    ("an invalid pipeline", "pipeline/a b", os.mkdir, errno.EINVAL),
    ("an invalid run", "run/.hidden", os.mkdir, errno.EINVAL),
    ("a long pipeline", "pipeline/" + "x" * 129, os.mkdir, errno.EINVAL),
    ("an attribute of the root", "", lambda path: os.setxattr(path, "user.a", b"x"), errno.EPERM),
    ("an attribute of /run", "run", lambda path: os.setxattr(path, "user.a", b"x"), errno.EPERM),
]


@pytest.mark.parametrize(("name", "action", "number"), [row[1:] for row in FIXED], ids=[row[0] for row in FIXED])
def test_in_the_fixed_tree(furnished: Path, name: str, action: Callable[[Path], object], number: int) -> None:
    """The root and its two directories are fixed; everything refused leaves the store as it was."""
    before = _tree(furnished)
    with refused(number):
        action(furnished / name)
    assert _tree(furnished) == before


def test_devices(furnished: Path) -> None:
    """Devices: EPERM."""
    if os.geteuid() != 0:
        pytest.skip("the kernel refuses devices of ordinary users itself")
    before = _tree(furnished)
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        with refused(errno.EPERM):
            os.mknod(furnished / "pipeline/p/new", kind | 0o600, os.makedev(1, 3))
    assert _tree(furnished) == before


def test_a_directory_of_a_name_that_is_being_created(pipeline: Path) -> None:
    """EEXIST where another writer has the name open to create it: for mkdir and symlink, too."""
    with Other() as writer:
        writer("fd = os.open(path, os.O_WRONLY | os.O_CREAT); os.write(fd, b'x')", path=pipeline / "k")
        with refused(errno.EEXIST):
            (pipeline / "k").mkdir()
        with refused(errno.EEXIST):
            (pipeline / "k").symlink_to("x")
        writer("os.close(fd)")
    assert (pipeline / "k").read_text() == "x"


def test_o_direct_and_o_tmpfile(pipeline: Path) -> None:
    """Nothing is silently ignored: O_TMPFILE is EOPNOTSUPP, as on a filesystem that does not have it."""
    with refused(errno.EOPNOTSUPP):
        os.open(pipeline, os.O_TMPFILE | os.O_RDWR)
    assert os.listdir(pipeline) == []


def test_permissions(make_mount: MakeMount) -> None:
    """default_permissions: the kernel checks modes and owners, EACCES and EPERM."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as two users")
    store = make_mount(options=["--allow-other"])
    store.directory.chmod(0o755)
    store.path.parent.chmod(0o755)
    directory = store.pipeline / "p"
    directory.mkdir()
    (directory / "k").write_text("secret")
    (directory / "k").chmod(0o600)
    with Other() as stranger:
        stranger("os.setgid(65534); os.setuid(65534)")
        with refused(errno.EACCES):
            stranger("open(path)", path=directory / "k")
        with refused(errno.EACCES):
            stranger("open(path, 'w')")
        with refused(errno.EACCES):
            stranger("os.unlink(path)")
        with refused(errno.EACCES):
            stranger("open(path + 'new', 'w')", path=str(directory / "k"))
        with refused(errno.EPERM):
            stranger("os.chmod(path, 0o777)")
        with refused(errno.EPERM):
            stranger("os.chown(path, 65534, 65534)")
        directory.chmod(0o777)
        stranger("fd = os.open(path + 'new', os.O_WRONLY | os.O_CREAT, 0o600); os.write(fd, b'x'); os.close(fd)")
        assert stranger("os.stat(path + 'new').st_uid") == 65534
    assert (directory / "k").read_text() == "secret"


def test_a_read_only_mount(make_mount: MakeMount) -> None:
    """Everything that writes is EROFS on a read-only mount."""
    store = make_mount()
    (store.pipeline / "p").mkdir()
    (store.pipeline / "p/k").write_text("value")
    store.unmount()
    reader = make_mount(store=store.store, options=["--read-only"])
    directory = reader.pipeline / "p"
    assert (directory / "k").read_text() == "value"
    for action in (
        lambda: (directory / "k").write_text("x"),
        lambda: (directory / "new").write_text("x"),
        lambda: (directory / "k").unlink(),
        lambda: (directory / "d").mkdir(),
        lambda: (reader.pipeline / "q").mkdir(),
        lambda: (directory / "k").rename(directory / "l"),
        lambda: (directory / "k").chmod(0o600),
        lambda: os.utime(directory / "k"),
        lambda: os.truncate(directory / "k", 0),
        lambda: os.setxattr(directory / "k", "user.a", b"x"),
        lambda: (directory / "l").symlink_to("x"),
    ):
        with refused(errno.EROFS):
            action()
    assert os.listdir(directory) == ["k"]


def test_the_errno_of_statx_flags(pipeline: Path) -> None:
    """Inode flags are not kept: asking for them is ENOTTY, not a lie."""
    with open(pipeline / "k", "w") as file, refused(errno.ENOTTY, errno.EOPNOTSUPP):
        fcntl.ioctl(file, 0x80086601, struct.pack("l", 0))  # FS_IOC_GETFLAGS
