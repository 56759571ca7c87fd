"""Times and extended attributes: who may set them, and who may read them."""

import itertools
import os
from pathlib import Path

import pytest

from tests.posix.twins import TEAM, Twins, User

pytestmark = pytest.mark.mount
SETTINGS = {"options": ["--allow-other"]}

_UTIMENS = """
libc = ctypes.CDLL(None, use_errno=True)
NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
VALUES = {"now": (0, NOW), "omit": (0, OMIT), "given": (5, 5)}
def utimens(path, atime, mtime, flags=None):
    times = None if atime is None else (ctypes.c_long * 4)(*VALUES[atime], *VALUES[mtime])
    if flags is None:
        failed = libc.utimensat(-100, os.fsencode(path), times, 0)
    else:
        fd = os.open(path, flags)
        failed = libc.futimens(fd, times)
        number = ctypes.get_errno()
        os.close(fd)
        ctypes.set_errno(number)
    if failed:
        raise OSError(ctypes.get_errno(), "utimens")
"""
KINDS = [None, *itertools.product(["now", "omit", "given"], repeat=2)]


@pytest.mark.parametrize("through", [None, os.O_RDONLY, os.O_WRONLY], ids=["path", "reader", "writer"])
def test_utimens(twins: Twins, users: dict[str, User], through: int | None) -> None:
    """The owner sets any time; who may write sets both to now, and no other; the rest gets EACCES or EPERM."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o755)
        found = []
        for who, mode, kind in itertools.product(users, (0o666, 0o664, 0o644, 0o400), KINDS):
            path = directory / "k"
            path.write_bytes(b"value")
            os.chown(path, 1001, TEAM)
            path.chmod(mode)
            os.utime(path, (1, 1))
            users[who](_UTIMENS)
            atime, mtime = kind or (None, None)
            answer = users[who](
                "utimens(path, atime, mtime, flags)", path=str(path), atime=atime, mtime=mtime, flags=through
            )
            info = path.stat()
            times = tuple({1: "kept", 5: "given"}.get(int(value), "now") for value in (info.st_atime, info.st_mtime))
            found.append((who, oct(mode), kind, answer, times))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    answers = {row[:3]: row[3] for row in found}
    assert answers["carol", "0o666", ("now", "now")] is None
    assert answers["carol", "0o666", ("given", "given")] == "EPERM"
    if through is None:
        assert answers["carol", "0o644", ("now", "now")] == "EACCES"
        assert answers["alice", "0o400", ("given", "omit")] is None


def test_touch_of_a_directory_and_a_symlink(twins: Twins, users: dict[str, User]) -> None:
    """The same rules for directories; a symlink's times are its owner's."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o755)
        (directory / "d").mkdir()
        (directory / "l").symlink_to("nowhere")
        for name in ("d", "l"):
            os.lchown(directory / name, 1001, TEAM)
        (directory / "d").chmod(0o770)
        found = []
        for who, name, times in itertools.product(users, ("d", "l"), (None, (5, 5))):
            code = "os.utime(path, times, follow_symlinks=False)"
            found.append((who, name, users[who](code, path=str(directory / name), times=times)))
        return found

    found = twins.same(steps)
    assert ("bob", "d", None) in found
    assert ("carol", "d", "EACCES") in found
    assert ("carol", "l", "EPERM") in found


XATTRS = {
    "get": "os.getxattr(path, 'user.a')",
    "get what is not there": "os.getxattr(path, 'user.missing')",
    "list": "os.listxattr(path)",
    "set": "os.setxattr(path, 'user.b', b'new')",
    "replace": "os.setxattr(path, 'user.a', b'new', os.XATTR_REPLACE)",
    "remove": "os.removexattr(path, 'user.a')",
    "remove what is not there": "os.removexattr(path, 'user.missing')",
}


@pytest.mark.parametrize("code", XATTRS.values(), ids=XATTRS)
@pytest.mark.parametrize("kind", ["object", "directory", "sticky directory"])
def test_xattrs(twins: Twins, users: dict[str, User], kind: str, code: str) -> None:
    """user.* attributes are read by those who may read and set by those who may write; in a sticky one by its owner."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o755)
        found = []
        for mode, who in itertools.product((0o777, 0o774, 0o770, 0o744, 0o700, 0o500, 0o300, 0o722), users):
            path = directory / f"{mode:o}-{who}"
            path.touch() if kind == "object" else path.mkdir()
            os.setxattr(path, "user.a", b"value")
            os.chown(path, 1001, TEAM)
            path.chmod(mode | (0o1000 if "sticky" in kind else 0))
            answer = users[who](code, path=str(path))
            found.append((oct(mode), who, answer, sorted(os.listxattr(path)), os.stat(path).st_mode))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    assert {row[2] for row in found if isinstance(row[2], str)} <= {"EACCES", "EPERM", "ENODATA"}
    if "listxattr" not in code:
        answer = "EPERM" if "sticky" in kind and "getxattr" not in code else "EACCES"
        assert ("0o700", "carol", answer, ["user.a"]) in [row[:4] for row in found]


def test_xattrs_by_descriptor(twins: Twins, users: dict[str, User]) -> None:
    """What the descriptor is open for does not matter, but what its user may do."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o755)
        found = []
        for who, flags in itertools.product(("alice", "bob", "carol"), (os.O_RDONLY, os.O_WRONLY)):
            path = directory / f"{who}-{flags}"
            path.write_bytes(b"value")
            os.chown(path, 1001, TEAM)
            path.chmod(0o664 if flags == os.O_RDONLY else 0o622)
            user = users[who]
            found.append(user("fd = os.open(path, flags)", path=str(path), flags=flags))
            found += [user(f"os.{call}") for call in ("setxattr(fd, 'user.a', b'x')", "getxattr(fd, 'user.a')")]
            found += [user(f"os.{call}") for call in ("removexattr(fd, 'user.a')", "close(fd)")]
            found.append(os.listxattr(path))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    assert found[:6] == [None, None, b"x", None, None, []]


CHANGES = {
    "chmod": "os.chmod(f'/proc/self/fd/{fd}', 0o666)",
    "utime": "os.utime(f'/proc/self/fd/{fd}', (5, 5))",
    "setxattr": "os.setxattr(f'/proc/self/fd/{fd}', 'user.a', b'new')",
    "removexattr": "os.removexattr(f'/proc/self/fd/{fd}', 'user.b')",
}
TAKES = {
    "rename": "os.rename(path + '.new', path)",
    "remove and create": "os.unlink(path); os.rename(path + '.new', path)",
}


@pytest.mark.parametrize("through", [os.O_PATH, os.O_RDONLY], ids=["nothing", "reader"])
@pytest.mark.parametrize("take", TAKES.values(), ids=TAKES)
def test_a_descriptor_of_what_lost_its_name(run: Path, users: dict[str, User], take: str, through: int) -> None:
    """The right to it is no right to what somebody else has put in its place."""
    run.chmod(0o777)
    path = str(run / "k")
    users["alice"](
        "os.close(os.open(path, os.O_WRONLY | os.O_CREAT)); fd = os.open(path, through)", path=path, through=through
    )
    users["bob"]("open(path + '.new', 'w').write('secret'); os.chmod(path + '.new', 0o600)", path=path)
    users["bob"]("os.setxattr(path + '.new', 'user.b', b'kept')")
    users["bob"](take)
    before = os.stat(path)
    answers = {users["alice"](code) for code in CHANGES.values()}
    # The modes and times of what is open are changed where it is.
    assert answers == ({"ESTALE"} if through == os.O_PATH else {"ESTALE", None})
    after = os.stat(path)
    assert (after.st_mode, after.st_mtime_ns, os.listxattr(path)) == (before.st_mode, before.st_mtime_ns, ["user.b"])
    users["alice"]("os.close(fd)")
