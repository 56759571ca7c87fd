"""Somebody's private object takes over a name that another user has open: the descriptor gives no right to it."""

import itertools
import os
from pathlib import Path

import pytest
import trio

from engine import ScopeName, open_store
from engine.config import ObjectStoreSettings
from engine.model import Attributes
from fusefs.callers import Caller
from fusefs.namespace import Namespace
from fusefs.opening import Opening
from fusefs.publication import Publication
from fusefs.rights import AccessError
from fusefs.state import StaleError
from tests.conftest import MakeMount
from tests.posix.twins import User
from tests.security.taking_over import OPENED, SECRET, TAKES, assert_untouched, open_by_alice, take_over
from tests.support import stores
from tests.support.mounting import MountedStore
from tests.support.states import mount_state

pytestmark = pytest.mark.mount
SETTINGS = {"options": ["--allow-other"]}


@pytest.fixture
def directory(run: Path) -> Path:
    """Where everybody may replace what others made."""
    run.chmod(0o777)
    return run


@pytest.mark.parametrize("take", TAKES.values(), ids=TAKES)
@pytest.mark.parametrize("how", OPENED)
def test_opened_again_by_its_descriptor(directory: Path, users: dict[str, User], how: str, take: str) -> None:
    path, alice = directory / "k", users["alice"]
    open_by_alice(users, path, how)
    before = take_over(users, path, take)
    for flags in map(os.O_RDWR.__or__, (0, os.O_TRUNC, os.O_APPEND, os.O_CREAT)):
        assert alice("os.open(f'/proc/self/fd/{fd}', flags)", flags=flags) == "ESTALE"
    assert alice("os.open(f'/proc/self/fd/{fd}', os.O_RDONLY)") == "ESTALE"
    assert alice("os.open(path, os.O_RDWR)", path=str(path)) == "EACCES"
    assert_untouched(path, before)
    alice("os.close(fd)")


def test_opened_again_by_its_path(directory: Path, users: dict[str, User]) -> None:
    """Whoever may write the object that took over the name does so, and finds that one there."""
    path, alice = directory / "k", users["alice"]
    open_by_alice(users, path, "new")
    take_over(users, path)
    path.chmod(0o666)
    assert alice("again = os.open(path, os.O_RDWR); os.pread(again, 100, 0)", path=str(path)) is None
    assert alice("os.pread(again, 100, 0)") == SECRET.encode()
    alice("os.close(again); os.close(fd)")


@pytest.mark.trio
async def test_what_the_kernel_checked_was_another_file(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Another thread has made it believe that the inode is its own: the mount looks at what would be opened."""
    with open_store(ObjectStoreSettings(path=tmp_path / "objects.db")) as store:
        app = ScopeName.pipeline("app")
        store.create_pipeline(app.name)
        state = mount_state(store, nursery)
        opening = Opening(state)
        parent = stores.directory(store, app)
        writing = opening.create(parent, b"k", 0o600, os.O_RDWR, Caller(1, 1001, 1001))[1].ino
        store.put_object(app, b"k", b"secret")
        secret = stores.node(store, app, b"k")
        store.tree.set_attributes(secret.ino, Attributes(mode=0o640, uid=1002, gid=2000))
        for flags, (uid, gid) in itertools.product((os.O_RDWR, os.O_WRONLY | os.O_TRUNC), ((1001, 1001), (1003, 2000))):
            with pytest.raises(StaleError):
                opening.open(secret.ino, flags, Caller(2, uid, gid))
            with pytest.raises(AccessError):
                opening.open(writing, flags, Caller(2, uid, gid))
        with pytest.raises(StaleError):
            opening.open(secret.ino, os.O_RDWR, Caller(2, 1002, 1002))
        opening.open(writing, os.O_RDWR, Caller(2, 1002, 1002))


@pytest.mark.trio
async def test_what_was_removed_is_opened_by_who_may_open_it(tmp_path: Path, nursery: trio.Nursery) -> None:
    """By its descriptors, where the kernel may have looked at another file of the same inode."""
    alice, bob = Caller(1, 1001, 1001), Caller(2, 1002, 1002)
    with open_store(ObjectStoreSettings(path=tmp_path / "objects.db")) as store:
        app = ScopeName.pipeline("app")
        store.create_pipeline(app.name)
        state = mount_state(store, nursery)
        opening = Opening(state)
        parent = stores.directory(store, app)
        inode = opening.create(parent, b"k", 0o400, os.O_RDWR, alice)[1].ino
        opening.create(parent, b"k", 0o600, os.O_RDWR, Caller(bob.pid, 0, 0))
        writers = state.writers.of(inode)
        assert writers is not None
        writers.several = True
        Namespace(state, Publication(state)).remove(parent, b"k", alice)
        opening.open(inode, os.O_RDONLY, alice)
        for flags in (os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_RDONLY | os.O_TRUNC):
            with pytest.raises(AccessError):
                opening.open(inode, flags, alice)


APPENDING = {how: flags for how, flags in OPENED.items() if "APPEND" in flags}


@pytest.mark.parametrize("wrote", [b"", b"+"], ids=["nothing", "before"])
@pytest.mark.parametrize("take", TAKES.values(), ids=TAKES)
@pytest.mark.parametrize("how", APPENDING)
def test_appended_by_its_descriptor(directory: Path, users: dict[str, User], how: str, take: str, wrote: bytes) -> None:
    """What one appends to is what one opened: the other object is neither shown nor changed, and one is told."""
    path, alice = directory / "k", users["alice"]
    open_by_alice(users, path, how)
    alice("os.write(fd, wrote)", wrote=wrote)
    own = (b"" if "CREAT" in OPENED[how] else b"public") + wrote
    before = take_over(users, path, take)
    assert alice("os.pread(fd, 100, 0)") == own
    assert alice("os.fstat(fd).st_size") == len(own)
    assert alice("os.fsync(fd)") == ("ESTALE" if wrote else None)
    assert alice("os.close(fd)") == ("ESTALE" if wrote else None)
    assert_untouched(path, before)


@pytest.mark.parametrize("call", ["ftruncate(fd, 14)", "write(fd, b'more')"])
@pytest.mark.parametrize("how", APPENDING)
def test_changed_by_its_descriptor(directory: Path, users: dict[str, User], how: str, call: str) -> None:
    """By one that may not even read: what is left is no value of the other object with the modes of this one."""
    path, alice = directory / "k", users["alice"]
    open_by_alice(users, path, how)
    alice(f"os.close(fd); fd = os.open(path, os.O_WRONLY | {OPENED[how]}, 0o666)", path=str(path))
    before = take_over(users, path)
    assert alice(f"os.{call}") == "ESTALE"
    alice("os.close(fd)")
    assert_untouched(path, before)


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o620, 0o602])
@pytest.mark.parametrize("who", ["alice", "carol"])
def test_appended_by_who_may(directory: Path, users: dict[str, User], who: str, mode: int) -> None:
    """What somebody else has put there is appended to by those who could have opened that; Alice is of its group."""
    path, user = directory / "k", users[who]
    path.write_bytes(b"old")
    path.chmod(0o666)
    user("fd = os.open(path, os.O_WRONLY | os.O_APPEND); os.write(fd, b'+')", path=str(path))
    users["bob"]("open(path + '.2', 'w').write('new'); os.chown(path + '.2', -1, 2000)", path=str(path))
    users["bob"]("os.chmod(path + '.2', mode); fd = os.open(path + '.2', os.O_RDONLY)", mode=mode)
    path.unlink()
    users["bob"]("os.rename(path + '.2', path)")
    allowed = (mode >> (3 if who == "alice" else 0)) & 0o2
    assert user("os.close(fd)") == (None if allowed else "ESTALE")
    assert path.read_text() == ("new+" if allowed else "new")
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (1002, 2000, mode)


def test_appending_goes_on_after_chmod(directory: Path, users: dict[str, User]) -> None:
    """As on any filesystem: who has the object open appends to it, and reads it."""
    path, alice = directory / "k", users["alice"]
    open_by_alice(users, path, "appended")
    users["bob"]("os.chmod(path, 0o600); open(path, 'a').write(' and more')", path=str(path))
    assert alice("os.pread(fd, 100, 0)") == b"public and more"
    assert alice("os.write(fd, b'+')") == 1
    assert alice("os.close(fd)") is None
    assert path.read_text() == "public and more+"


def test_cut_by_root(directory: Path, users: dict[str, User]) -> None:
    """Who may do anything gets at the other object, and makes it no more public than it is."""
    path = directory / "k"
    open_by_alice(users, path, "appended")
    users["root"]("fd = os.open(path, os.O_WRONLY | os.O_APPEND)", path=str(path))
    before = take_over(users, path)
    assert users["root"]("os.ftruncate(fd, 6); os.close(fd)") is None
    after = path.stat()
    assert path.read_text() == SECRET[:6]
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    users["alice"]("os.close(fd)")


def test_taken_over_through_another_mount(
    make_mount: MakeMount, shared: MountedStore, directory: Path, users: dict[str, User]
) -> None:
    """A moment ago, so that this mount has not heard of it."""
    second = make_mount(store=shared.store_path, options=["--allow-other"])
    path, there = directory / "k", second.run / directory.name / "k"
    for how in ["appended", "new to append"] * 5:
        path.unlink(missing_ok=True)
        open_by_alice(users, path, how)
        users["alice"]("os.write(fd, b'+')")
        there.with_name("new").write_text(SECRET)
        there.with_name("new").chmod(0o600)
        there.with_name("new").rename(there)
        assert users["alice"]("os.close(fd)") == "ESTALE"
        assert there.read_text() == SECRET


@pytest.mark.parametrize("call", ["os.unlink(path)", "os.rename(path, away)", "os.rename(own, path)", "exchange()"])
def test_taken_away_in_a_sticky_directory(
    make_mount: MakeMount, shared: MountedStore, run: Path, users: dict[str, User], call: str
) -> None:
    """The kernel takes the name for that of her own object, and through another mount it is that of another by now."""
    second = make_mount(store=shared.store_path, options=["--allow-other"])
    run.chmod(0o1777)
    path, there, alice = run / "k", second.run / run.name / "k", users["alice"]
    names = {name: str(run / name) for name in ("own", "away")}
    alice("def exchange(): check(libc.renameat2(-100, os.fsencode(own), -100, os.fsencode(path), 2))")
    alice("libc = ctypes.CDLL(None, use_errno=True)")
    alice("def check(failed):\n if failed: raise OSError(ctypes.get_errno(), call)", call=call)
    for _ in range(5):
        path.unlink(missing_ok=True)
        alice("[open(each, 'w').close() for each in (path, own)]; os.stat(path)", path=str(path), **names)
        there.with_name("new").write_text(SECRET)
        there.with_name("new").rename(there)
        assert alice(call) == "EPERM"
        assert there.read_text() == SECRET
