"""Who may do what: every mode, every kind of user, compared with a local directory."""

import itertools
import os
from pathlib import Path

import pytest

from tests.posix.twins import TEAM, Twins, User, outcome
from tests.support.processes import Other

pytestmark = pytest.mark.mount
SETTINGS = {"options": ["--allow-other"]}

PEOPLE = ["root", "alice", "bob", "carol"]
"""The owner is Alice; Bob is in the group, Carol in none."""

OBJECT_MODES = [0o000, 0o100, 0o200, 0o400, 0o500, 0o600, 0o640, 0o060, 0o006, 0o604, 0o644, 0o664, 0o777, 0o070, 0o007]
DIRECTORY_MODES = [
    0o000,
    0o100,
    0o200,
    0o300,
    0o400,
    0o500,
    0o600,
    0o700,
    0o750,
    0o730,
    0o710,
    0o740,
    0o755,
    0o711,
    0o733,
]
DIRECTORY_MODES += [0o744, 0o722, 0o777, 0o070, 0o007]

ON_AN_OBJECT = """
def on_an_object(path):
    def done(step):
        try:
            found = step()
            return "done" if found is None or isinstance(found, os.stat_result) else found
        except OSError as error:
            return errno.errorcode[error.errno]
    def opened(flags):
        return done(lambda: os.close(os.open(path, flags)))
    return [
        opened(os.O_RDONLY), opened(os.O_WRONLY), opened(os.O_RDWR), opened(os.O_WRONLY | os.O_APPEND),
        opened(os.O_WRONLY | os.O_TRUNC), opened(os.O_WRONLY | os.O_CREAT), opened(os.O_RDONLY | os.O_CREAT),
        opened(os.O_PATH), opened(os.O_RDONLY | os.O_NOATIME), done(lambda: os.stat(path)),
        done(lambda: os.truncate(path, 3)), done(lambda: os.chmod(path, os.stat(path).st_mode & 0o7777)),
        done(lambda: os.utime(path)), done(lambda: os.utime(path, (5, 5))),
        *[os.access(path, what) for what in range(8)],
        *[os.access(path, what, effective_ids=True) for what in range(8)],
        done(lambda: os.setxattr(path, "user.a", b"x")), done(lambda: os.getxattr(path, "user.a")),
        done(lambda: os.listxattr(path)), done(lambda: os.removexattr(path, "user.a")),
        done(lambda: subprocess.run([path], stdin=subprocess.DEVNULL, capture_output=True).returncode),
    ]
"""


@pytest.mark.parametrize("who", PEOPLE)
def test_an_object_of_any_mode(twins: Twins, users: dict[str, User], who: str) -> None:
    """Reading, writing, running, asking and changing: the same is allowed, the same errno is given otherwise."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o755)
        found = []
        users[who](ON_AN_OBJECT)
        for mode in OBJECT_MODES:
            path = directory / f"{mode:o}"
            path.write_text("#!/bin/sh\nexit 7\n")
            os.chown(path, 1001, TEAM)
            path.chmod(mode)
            found.append((oct(mode), *users[who]("on_an_object(path)", path=str(path)), path.stat().st_mode))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    read = {row[0]: row[1] for row in found}
    may = {"root": "done", "alice": "done", "bob": "EACCES", "carol": "EACCES"}
    assert read["0o600"] == may[who]
    assert read["0o60"] == {**may, "alice": "EACCES", "bob": "done"}[who]
    assert read["0o6"] == {**may, "alice": "EACCES", "carol": "done"}[who]


CREATIONS = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_TRUNC]
CREATIONS += [os.O_RDONLY | os.O_TRUNC]


@pytest.mark.parametrize("who", PEOPLE)
def test_what_somebody_is_creating(twins: Twins, users: dict[str, User], who: str) -> None:
    """With O_CREAT, although nobody else is shown the name yet: the same as of an object that is there."""

    def steps(directory: Path) -> list[object]:
        os.chown(directory, 0, TEAM)
        directory.chmod(0o2777)
        found = []
        for mode, flags in itertools.product(OBJECT_MODES, CREATIONS):
            path = str(directory / f"{mode:o}-{flags:o}")
            users["alice"]("fd = os.open(path, os.O_RDWR | os.O_CREAT); os.fchmod(fd, mode)", path=path, mode=mode)
            answer = users[who]("os.close(os.open(path, flags | os.O_CREAT, 0o666))", path=path, flags=flags)
            found.append((oct(mode), flags, answer))
            users["alice"]("os.close(fd)")
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    for mode, allowed in (("0o600", ("root", "alice")), ("0o60", ("root", "bob")), ("0o6", ("root", "carol"))):
        assert (mode, os.O_RDWR, None if who in allowed else "EACCES") in found


IN_A_DIRECTORY = """
def in_a_directory(path):
    def done(step):
        try:
            found = step()
            return sorted(found) if isinstance(found, list) else "done"
        except OSError as error:
            return errno.errorcode[error.errno]
    def made(flags):
        return done(lambda: os.close(os.open(path + "/new", flags, 0o600)))
    def entered():
        os.chdir(path)
        os.chdir("/")
    return [
        done(lambda: os.listdir(path)), done(entered), done(lambda: os.stat(path)),
        done(lambda: os.stat(path + "/k")), done(lambda: os.stat(path + "/missing")), done(lambda: open(path + "/k")),
        done(lambda: os.stat(path + "/sub/in")), done(lambda: os.stat(path + "/sub/..")),
        done(lambda: open(path + "/k", "w")), made(os.O_WRONLY | os.O_CREAT), made(os.O_RDWR | os.O_CREAT | os.O_EXCL),
        done(lambda: os.unlink(path + "/new")), done(lambda: os.unlink(path + "/missing")),
        done(lambda: os.mkdir(path + "/new")), done(lambda: os.rmdir(path + "/new")),
        done(lambda: os.mkdir(path + "/k")), done(lambda: os.symlink("k", path + "/new")),
        done(lambda: os.rename(path + "/new", path + "/newer")), done(lambda: os.rename(path + "/newer", path + "/k")),
        done(lambda: os.rename(path + "/k", path + "/sub/k")), done(lambda: os.rename(path + "/sub/in", path + "/in")),
        done(lambda: os.rmdir(path + "/sub")), done(lambda: os.open(path, os.O_PATH)), done(lambda: os.listxattr(path)),
        done(lambda: os.setxattr(path, "user.a", b"x")), done(lambda: os.getxattr(path, "user.a")),
        done(lambda: os.utime(path)), done(lambda: os.statvfs(path)),
        *[os.access(path, what) for what in range(8)], os.access(path + "/k", os.R_OK),
    ]
"""


@pytest.mark.parametrize("who", PEOPLE)
def test_a_directory_of_any_mode(twins: Twins, users: dict[str, User], who: str) -> None:
    """Listing, entering, making, removing and renaming, without r, without w and without x."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o755)
        found: list[object] = []
        users[who](IN_A_DIRECTORY)
        for mode in DIRECTORY_MODES:
            path = directory / f"{mode:o}"
            (path / "sub").mkdir(parents=True)
            for name in ("k", "sub/in"):
                (path / name).write_bytes(b"value")
                (path / name).chmod(0o666)
            (path / "sub").chmod(0o777)
            os.chown(path, 1001, TEAM)
            path.chmod(mode)
            found.append((oct(mode), *users[who]("in_a_directory(path)", path=str(path))))
            found.append(sorted(str(each.relative_to(path)) for each in path.rglob("*")))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    may = {row[0]: row[1:] for row in found[::2]}
    # 0o711: others enter and look up, and do not list; 0o744: they list, and look nothing up.
    if who == "carol":
        assert may["0o711"][:2] == ("EACCES", "done")
        assert may["0o744"][:4] == (["k", "sub"], "EACCES", "done", "EACCES")


def test_a_directory_on_the_way(twins: Twins, users: dict[str, User]) -> None:
    """What is below a directory that one may not enter is out of reach, and in reach again once that changes."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o755)
        (directory / "a/b").mkdir(parents=True)
        (directory / "a/b/k").write_bytes(b"value")
        found = []
        for mode in (0o755, 0o700, 0o711, 0o600, 0o755):
            (directory / "a").chmod(mode)
            found.append(users["bob"]("open(path).read()", path=str(directory / "a/b/k")))
            found.append(users["bob"]("os.listdir(os.path.dirname(path))"))
        return found

    assert twins.same(steps) == ["value", ["k"], "EACCES", "EACCES", "value", ["k"], "EACCES", "EACCES", "value", ["k"]]


def test_real_and_effective_ids(twins: Twins, users: dict[str, User]) -> None:
    """access(2) asks for the real user, faccessat(2) with AT_EACCESS and every other call for the effective one."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o755)
        (directory / "k").write_bytes(b"value")
        (directory / "k").chmod(0o600)
        os.chown(directory / "k", 1001, 1001)
        found: list[object] = []
        for real, effective in ((1001, 1002), (1002, 1001), (1002, 0), (0, 1002)):
            with Other() as process:
                process("os.setgroups([]); os.setresuid(real, effective, 0)", real=real, effective=effective)
                both = "[os.access(path, os.R_OK), os.access(path, os.R_OK, effective_ids=True)]"
                found.append(process(both, path=str(directory / "k")))
                found.append(outcome(process, "open(path).read()"))
        return found

    assert twins.same(steps) == [
        *([True, False], "EACCES"),
        *([False, True], "value"),
        *([False, True], "value"),
        *([True, False], "EACCES"),
    ]


def test_supplementary_groups(twins: Twins, users: dict[str, User]) -> None:
    """Any of one's groups counts; without it the rights of others do, though they be less or more."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o755)
        found = []
        for mode, who in itertools.product((0o640, 0o604, 0o620, 0o602), ("bob", "carol")):
            path = directory / "k"
            path.write_bytes(b"value")
            os.chown(path, 0, TEAM)
            path.chmod(mode)
            for access in (os.O_RDONLY, os.O_WRONLY):
                found.append(users[who]("os.close(os.open(path, access))", path=str(path), access=access))
        return found

    assert twins.same(steps) == [
        *(None, "EACCES", "EACCES", "EACCES"),
        *("EACCES", "EACCES", None, "EACCES"),
        *("EACCES", None, "EACCES", "EACCES"),
        *("EACCES", "EACCES", "EACCES", None),
    ]


OVERWRITES = {
    "truncate": "open(path, 'w').write('new')",
    "create": "fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600); os.write(fd, b'new'); os.close(fd)",
    "append": "open(path, 'a').write('new')",
    "edit": "open(path, 'r+').write('new')",
    "truncate by path": "os.truncate(path, 3)",
}


@pytest.mark.parametrize("code", OVERWRITES.values(), ids=OVERWRITES)
@pytest.mark.parametrize("mode", [0o666, 0o664, 0o644])
def test_overwriting_what_somebody_else_owns(twins: Twins, users: dict[str, User], code: str, mode: int) -> None:
    """With permission, also in a directory that may not be written: owner, group, mode and attributes stay."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o555)
        found: list[object] = []
        for who in ("bob", "carol"):
            path = directory / who
            path.write_text("a value")
            os.chown(path, 1001, TEAM)
            os.setxattr(path, "user.a", b"x")
            path.chmod(mode)
            info = path.stat()
            found += [users[who](code, path=str(path)), path.read_text()]
            after = path.stat()
            found.append((after.st_uid, after.st_gid, after.st_mode == info.st_mode, os.getxattr(path, "user.a")))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    assert (found[1] == "a value") is (mode == 0o644)
    assert (found[4] == "a value") is (mode != 0o666)
    assert found[2] == found[5] == (1001, TEAM, True, b"x")
