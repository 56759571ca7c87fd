"""A file is given to another user: whose it was has no right to it any more, whatever the kernel was shown before.

For chmod(2), chown(2) and utimensat(2) the kernel does not look again at an inode whose attributes are out of date.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio

from engine import ScopeName, open_store
from engine.config import ObjectStoreSettings
from engine.errors import NotPermittedError
from engine.model import Attributes
from fusefs.attributes import NodeAttributes
from fusefs.callers import Caller
from fusefs.files import Files
from fusefs.opening import Opening
from fusefs.publication import Publication
from tests.posix.twins import BOB, TEAM, Twins, User
from tests.support import stores
from tests.support.mounting import MountedStore
from tests.support.processes import Other, sh
from tests.support.states import mount_state
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount
SETTINGS = {"options": ["--allow-other"]}

HAS = {
    "nothing": "target = path",
    "reader": "target = os.open(path, os.O_RDONLY)",
    "writer": "target = os.open(path, os.O_RDWR)",
    "writer that overwrites": "target = os.open(path, os.O_RDWR | os.O_TRUNC)",
    "directory": "os.unlink(path), os.mkdir(path), os.setxattr(path, 'user.b', b'hers'); target = path",
}
CHANGES = {
    "chmod": "os.chmod(target, 0o666)",
    "chgrp": "os.chown(target, -1, 2000)",
    "utime": "os.utime(target, (5, 5))",
    "touch": "os.utime(target)",
    "setxattr": "os.setxattr(target, 'user.a', b'new')",
    "removexattr": "os.removexattr(target, 'user.b')",
}


@pytest.fixture(scope="module")
def elsewhere(shared: MountedStore) -> Iterator[MountedStore]:
    """A second mount of the same store."""
    with closing(MountedStore(store=shared.store_path, **SETTINGS)) as store:
        store.mount()
        store.directory.chmod(0o755)
        yield store


def about(path: Path) -> tuple[object, ...]:
    info = path.stat()
    return info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, os.listxattr(path)


@pytest.mark.parametrize("call", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("has", HAS.values(), ids=HAS)
@pytest.mark.parametrize("through", ["this mount", "another"])
def test_what_was_hers(
    elsewhere: MountedStore, run: Path, users: dict[str, User], through: str, has: str, call: str
) -> None:
    run.chmod(0o777)
    path, alice = run / "k", users["alice"]
    there = path if through == "this mount" else elsewhere.run / run.name / "k"
    alice("open(path, 'w').write('x'); os.setxattr(path, 'user.b', b'hers')", path=str(path))
    alice(f"{has}; os.stat(path)")
    wait_until(there.exists)
    os.chown(there, *BOB[:2])
    there.chmod(0o700)
    before = about(there)
    if "xattr" in call:
        # The kernel does look again: once it has heard of it, which may take a moment from another mount.
        wait_until(lambda: alice(call) == "EACCES")
        before = about(there)
        assert alice(call) == "EACCES"
    else:
        assert alice(call) in ("EPERM", "EACCES")
    assert about(there) == before
    if "open" in has:
        alice("os.close(target)")


def test_a_secret_in_its_place(elsewhere: MountedStore, run: Path, users: dict[str, User]) -> None:
    """Whom it was given puts another value: the descriptor of who had it open does not open that to anybody."""
    run.chmod(0o777)
    path, there, alice = run / "k", elsewhere.run / run.name / "k", users["alice"]
    alice("open(path, 'w').write('x'); fd = os.open(path, os.O_RDWR)", path=str(path))
    wait_until(there.exists)
    os.chown(there, *BOB[:2])
    there.chmod(0o600)
    users["bob"]("k = os.open(path, os.O_WRONLY | os.O_TRUNC); os.write(k, b'secret'); os.close(k)", path=str(there))
    alice("os.fchmod(fd, 0o666)")
    assert alice("open(path).read()") == "EACCES"
    assert about(there)[:2] == (0o100600, BOB[0])
    alice("os.close(fd)")


@pytest.mark.parametrize("flags", [None, os.O_RDONLY, os.O_RDWR], ids=["path", "reader", "writer"])
def test_what_everybody_may_write(twins: Twins, users: dict[str, User], flags: int | None) -> None:
    """As on a local filesystem: both times to now, nothing else; a write takes the set-id bits away."""
    further = ["os.chmod(target, 0o6777)", "os.chown(target, 1002, 1002)", "os.chown(target, 1001, -1)"]

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o777)
        path, alice, found = directory / "k", users["alice"], []
        for call in (*CHANGES.values(), *further):
            alice("open(path, 'w').write('x'); os.setxattr(path, 'user.b', b'hers'); target = path", path=str(path))
            if flags is not None:
                alice("target = os.open(path, flags)", flags=flags)
            os.chown(path, *BOB[:2])
            path.chmod(0o4777)
            os.utime(path, (1, 1))
            found.append((alice(call), alice("os.write(target, b'x')") if flags == os.O_RDWR else None))
            alice("isinstance(target, int) and os.close(target)")
            info = path.stat()
            found.append((info.st_mode, info.st_uid, info.st_gid, info.st_mtime == 1, sorted(os.listxattr(path))))
            path.unlink()
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    assert [answer for answer, _ in found[::2]] == ["EPERM", "EPERM", "EPERM", None, None, None, *["EPERM"] * 3]


def test_given_to_her(elsewhere: MountedStore, run: Path, users: dict[str, User]) -> None:
    path, there = run / "k", elsewhere.run / run.name / "k"
    path.touch()
    wait_until(there.exists)
    os.chown(there, 1001, 1001)
    wait_until(lambda: users["alice"]("os.chmod(path, 0o640)", path=str(path)) is None)
    assert users["alice"]("os.chown(path, -1, 2000); os.utime(path, (5, 5))") is None
    assert (path.stat().st_mode, path.stat().st_gid, path.stat().st_mtime) == (0o100640, TEAM, 5)


# Who may do it all the same


@pytest.mark.parametrize("capability", ["fowner", "chown", "net_raw"])
def test_capabilities(twins: Twins, capability: str) -> None:
    """They hold as on a local filesystem."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o777)
        found = []
        for change in ("chmod 640 k", "chown 1002:1002 k", "chgrp 3000 k", "touch -d @5 k", "touch -a k"):
            path = directory / "k"
            path.write_bytes(b"x")
            os.chown(path, 1001, TEAM)
            path.chmod(0o755)
            os.utime(path, (1, 1))
            has = f"--inh-caps=+{capability} --ambient-caps=+{capability}"
            command = f"setpriv --reuid 1003 --regid 1003 --clear-groups {has} {change} 2>&1 || true"
            found.append(sh(command, directory).rpartition(":")[2])
            info = path.stat()
            found.append((info.st_mode, info.st_uid, info.st_gid, info.st_mtime == 1, info.st_atime == 1))
            path.unlink()
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    refused = [bool(said) for said in found[::2]]
    may = {"fowner": [0, 3, 4], "chown": [1, 2], "net_raw": []}[capability]
    assert refused == [number not in may for number in range(5)]


def test_root_of_a_user_namespace(twins: Twins) -> None:
    """It has to do with the users that there are in it, and with no others."""

    def steps(directory: Path) -> list[object]:
        directory.chmod(0o777)
        found = []
        with Other() as process:
            process("check = ctypes.CDLL(None).unshare(0x10000000)")
            for ids in ("uid_map", "gid_map"):
                Path(f"/proc/{process.pid}/{ids}").write_text("0 100000 1000")
            root = User(process)
            for uid, gid in itertools.product((100000, 100005, 1001), (100000, 100007, 1001)):
                path = directory / f"{uid}-{gid}"
                path.touch()
                os.chown(path, uid, gid)
                for call in ("os.chmod(path, 0o666)", "os.chown(path, 3, 4)", "os.utime(path, (5, 5))"):
                    found.append(root(call, path=str(path)))
                found.append((path.stat().st_mode, path.stat().st_uid, path.stat().st_gid, path.stat().st_mtime == 5))
        return found

    found = twins.same(steps)
    assert isinstance(found, list)
    assert found[:4] == [None, None, None, (0o100666, 100003, 100004, True)]
    assert found[-4:-1] == ["EPERM"] * 3


@pytest.mark.trio
@pytest.mark.parametrize("writes", [True, False])
async def test_given_away_in_the_middle_of_a_turn(tmp_path: Path, nursery: trio.Nursery, writes: bool) -> None:
    """What the daemon has read is of a moment ago: nothing is changed because of that alone."""
    alice = Caller(10**7, 1001, 1001)
    settings = ObjectStoreSettings(path=tmp_path / "objects.db")
    with open_store(settings) as store, open_store(settings) as other:
        app = ScopeName.pipeline("app")
        store.create_pipeline(app.name)
        store.put_object(app, b"k", b"value")
        key = stores.node(store, app, b"k")
        store.tree.set_attributes(key.ino, Attributes(mode=0o600, uid=alice.uid))
        state = mount_state(store, nursery)
        opening = Opening(state)
        attributes = NodeAttributes(state, opening, Files(state, opening, Publication(state)))
        ino = opening.create(key.parent, b"k", 0, os.O_RDWR, alice)[1].ino if writes else key.ino
        state.begin_turn()
        assert stores.node(store, app, b"k").uid == alice.uid
        before = other.tree.set_attributes(key.ino, Attributes(uid=1002))
        assert stores.node(store, app, b"k").uid == alice.uid
        with pytest.raises(NotPermittedError):
            await attributes.set(ino, Attributes(mode=0o666), None, None, alice)
        state.settle()
        assert stores.node(store, app, b"k") == before
