"""Owners, groups and modes: umask, setgid and sticky directories, chown, chmod, and the bits that go with them."""

import itertools
import os
import stat
from pathlib import Path

import pytest

from tests.posix.twins import TEAM, Twins, User
from tests.support.mounting import MountedStore
from tests.support.processes import sh

pytestmark = pytest.mark.mount
SETTINGS = {"options": ["--allow-other"]}

MAKE = {
    "object": "os.close(os.open(path, os.O_WRONLY | os.O_CREAT, mode))",
    "object to read": "os.close(os.open(path, os.O_RDONLY | os.O_CREAT, mode))",
    "directory": "os.mkdir(path, mode)",
    "symlink": "os.symlink('x', path)",
}
MODES = [0o777, 0o666, 0o640, 0o000, 0o4755, 0o2755, 0o6777, 0o1777, 0o7777]


def _about(path: Path) -> tuple[int, int, str]:
    info = path.lstat()
    return info.st_uid, info.st_gid, oct(stat.S_IMODE(info.st_mode))


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_umask(twins: Twins, users: dict[str, User], make: str) -> None:
    """What is made has the mode that was asked for, less the umask of its process, and the process's user and group."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o777)
        found = []
        for who, umask, mode in itertools.product(("root", "alice"), (0o000, 0o022, 0o027, 0o077, 0o777), MODES):
            path = directory / f"{who}-{umask:o}-{mode:o}"
            code = f"before = os.umask(umask)\ntry:\n    {make}\nfinally:\n    os.umask(before)"
            found.append((users[who](code, umask=umask, path=str(path), mode=mode), _about(path)))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    assert {row[1][:2] for row in found} == {(0, 0), (1001, 1001)}
    if "symlink" not in make:
        assert found[9] == (None, (0, 0, "0o755"))


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_setgid_directory(twins: Twins, users: dict[str, User], make: str) -> None:
    """What is made in it has its group, directories the bit as well; an object only by one who is in that group."""

    def steps(directory: Path) -> list[object]:
        found = []
        for group, who, mode in itertools.product((TEAM, 3000), ("root", "bob", "carol"), MODES):
            home = directory / f"{group}-{who}-{mode:o}"
            home.mkdir()
            os.chown(home, 0, group)
            home.chmod(0o2777)
            found.append((users[who](make, path=str(home / "new"), mode=mode), _about(home / "new")))
            if (
                "mkdir" in make
                and not mode & 0o7000
                and users["root"](make, path=str(home / "new/er"), mode=mode) is None
            ):
                found.append(_about(home / "new/er"))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    assert {row[1][1] for row in found if isinstance(row[1], tuple)} == {TEAM, 3000}


def test_moved_into_a_setgid_directory(twins: Twins) -> None:
    """A rename and a copy by `cp -a` keep the group; `cp` takes that of the directory."""

    def steps(directory: Path) -> list[object]:
        home = directory / "home"
        home.mkdir()
        os.chown(home, 0, TEAM)
        home.chmod(0o2775)
        (directory / "sub").mkdir()
        for name in ("a", "b", "c"):
            (directory / name).touch()
        sh("mv a sub home; cp -a b home; cp c home; cd home && mkdir -p x/y && touch x/y/z", directory)
        return [(str(path.relative_to(home)), _about(path)) for path in sorted(home.rglob("*"))]

    found = dict(twins.same(steps))  # type: ignore[arg-type]
    assert found == {
        "a": (0, 0, "0o644"),
        "b": (0, 0, "0o644"),
        "c": (0, TEAM, "0o644"),
        "sub": (0, 0, "0o755"),
        "x": (0, TEAM, "0o2755"),
        "x/y": (0, TEAM, "0o2755"),
        "x/y/z": (0, TEAM, "0o644"),
    }


STICKY = {
    "unlink": "os.unlink(path)",
    "rename away": "os.rename(path, path + '.moved')",
    "rename over": "open(own, 'w').close(); os.rename(own, path)",
    "rename out": "os.rename(path, elsewhere)",
    "overwrite": "open(path, 'w').write('new')",
    "symlink over": "os.unlink(path); os.symlink('x', path)",
    "rmdir": "os.rmdir(path + '.d')",
    "rename a directory": "os.rename(path + '.d', path + '.e')",
}


@pytest.mark.parametrize("code", STICKY.values(), ids=STICKY)
def test_a_sticky_directory(twins: Twins, users: dict[str, User], code: str) -> None:
    """Removing and renaming is for the owner of the name, the owner of the directory, and root; others get EPERM."""

    def steps(directory: Path) -> list[object]:
        (directory / "free").mkdir()
        (directory / "free").chmod(0o777)
        found = []
        for owner, who in itertools.product((0, 1001, 1003), ("root", "alice", "bob", "carol")):
            home = directory / f"{owner}-{who}"
            home.mkdir()
            (home / "k").write_text("value")
            (home / "k.d").mkdir()
            for name in ("k", "k.d"):
                os.chown(home / name, 1001, TEAM)
                (home / name).chmod(0o777)
            os.chown(home, owner, 0)
            home.chmod(0o1777)
            names = {
                "path": str(home / "k"),
                "own": str(home / "own"),
                "elsewhere": str(directory / f"free/{owner}{who}"),
            }
            found.append((owner, who, users[who](code, **names), sorted(os.listdir(home))))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    refused = [row[:2] for row in found if row[2] == "EPERM"]
    expected = [(0, "bob"), (0, "carol"), (1001, "bob"), (1001, "carol"), (1003, "bob")]
    assert refused == ([] if "'new'" in code else expected)


def test_pipelines_and_runs_belong_to_who_made_them(shared: MountedStore, users: dict[str, User]) -> None:
    """Everybody who may use the mount can make a pipeline or a run; removing one takes its owner."""
    for home in (shared.pipeline, shared.run):
        path = str(home / "mine")
        assert users["alice"]("os.mkdir(path)", path=path) is None
        assert _about(home / "mine") == (1001, 1001, "0o755")
        assert users["bob"]("os.rmdir(path)", path=path) == "EPERM"
        assert users["bob"]("open(path + '/k', 'w')", path=path) == "EACCES"
        assert users["alice"]("open(path + '/k', 'w').close()", path=path) is None
        assert users["bob"]("os.unlink(path + '/k')", path=path) == "EACCES"
        assert users["alice"]("os.unlink(path + '/k'); os.rmdir(path)", path=path) is None
        assert users["alice"]("os.chmod(os.path.dirname(path), 0o777)", path=path) == "EPERM"


BITS = [0o755, 0o4755, 0o2755, 0o6755, 0o2745, 0o6777, 0o1777, 0o4644]


@pytest.mark.parametrize("kind", ["object", "directory"])
def test_chown(twins: Twins, users: dict[str, User], kind: str) -> None:
    """root gives away, an owner changes to a group of his, nobody else; set-id bits of objects go with it."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o777)
        path = directory / "k"
        path.touch() if kind == "object" else path.mkdir()
        found = []
        ids = list(itertools.product((-1, 1001, 1002), (-1, 1001, TEAM, 3000)))[1:]
        for mode, who, (uid, gid) in itertools.product(BITS, users, ids):
            os.chown(path, 1001, 1001)
            path.chmod(mode)
            answer = users[who]("os.chown(path, uid, gid)", path=str(path), uid=uid, gid=gid)
            found.append((oct(mode), who, uid, gid, answer, _about(path)))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    assert ("0o755", "alice", -1, TEAM, None, (1001, TEAM, "0o755")) in found
    assert ("0o755", "alice", -1, 3000, "EPERM", (1001, 1001, "0o755")) in found
    cleared = "0o755" if kind == "object" else "0o6755"
    assert ("0o6755", "root", 1002, 3000, None, (1002, 3000, cleared)) in found


def test_chmod(twins: Twins, users: dict[str, User]) -> None:
    """Only the owner and root; the setgid bit is dropped for an owner who is not in the group."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o777)
        found = []
        for name, make in (("k", Path.touch), ("d", Path.mkdir)):
            make(directory / name)
            for group, who, mode in itertools.product((1001, TEAM, 3000), users, [0o600, *BITS]):
                os.chown(directory / name, 1001, group)
                (directory / name).chmod(0o644)
                answer = users[who]("os.chmod(path, mode)", path=str(directory / name), mode=mode)
                found.append((name, group, who, oct(mode), answer, _about(directory / name)[2]))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    assert ("k", 3000, "alice", "0o2755", None, "0o755") in found
    assert ("k", TEAM, "alice", "0o2755", None, "0o2755") in found
    assert ("k", 1001, "bob", "0o600", "EPERM", "0o644") in found


WRITES = {
    "write": "fd = os.open(path, os.O_WRONLY); os.write(fd, b'x'); os.close(fd)",
    "append": "fd = os.open(path, os.O_WRONLY | os.O_APPEND); os.write(fd, b'x'); os.close(fd)",
    "overwrite": "open(path, 'w').write('x')",
    "truncate": "os.truncate(path, 1)",
    "ftruncate": "fd = os.open(path, os.O_WRONLY); os.ftruncate(fd, 1); os.close(fd)",
}


@pytest.mark.parametrize("code", WRITES.values(), ids=WRITES)
def test_set_id_bits_go_when_somebody_else_writes(twins: Twins, users: dict[str, User], code: str) -> None:
    """A write by anybody but root takes the set-id bits away: what runs is no longer what was trusted."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o777)
        found = []
        for mode, who in itertools.product([0o4777, 0o2777, 0o6777, 0o2767, 0o777], users):
            path = directory / f"{mode:o}-{who}"
            path.write_bytes(b"value")
            os.chown(path, 1001, TEAM)
            path.chmod(mode)
            found.append((oct(mode), who, users[who](code, path=str(path)), _about(path)))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    kept = {(mode, who): after for mode, who, _, after in found}
    assert kept["0o6777", "root"] == (1001, TEAM, "0o6777")
    assert kept["0o6777", "carol"] == (1001, TEAM, "0o777")
