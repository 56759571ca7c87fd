"""Somebody's private object takes over a name that another user has open: its attributes are no more theirs than it is.

The kernel knows both files by one private inode. It was shown the one, and the request is about the other.
"""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from engine import ScopeName, open_store
from engine.config import ObjectStoreSettings
from engine.errors import NotPermittedError
from engine.model import Attributes, Node
from fusefs.attributes import NodeAttributes
from fusefs.callers import Caller
from fusefs.files import Files
from fusefs.opening import Opening
from fusefs.publication import Publication
from fusefs.rights import AccessError
from fusefs.state import StaleError
from tests.posix.twins import User
from tests.security.taking_over import SECRET, open_by_alice, take_over
from tests.support import stores
from tests.support.states import mount_state

pytestmark = pytest.mark.mount
SETTINGS = {"options": ["--allow-other"]}

IN_VAIN = """
import threading
libc = ctypes.CDLL(None, use_errno=True)
def in_vain(mine, public, call):
    # Opening what is hers leads her to what is not: on the way her directory was exchanged with a symlink to another.
    os.mkdir(mine + "/d"), open(mine + "/d/k", "w").close(), os.symlink(public, mine + "/l")
    going_on, refused, until = True, 0, time.monotonic() + 5
    def swap():
        while going_on:
            libc.renameat2(-100, os.fsencode(mine + "/d"), -100, os.fsencode(mine + "/l"), 2)
    swapping = threading.Thread(target=swap)
    swapping.start()
    while refused < 40 and time.monotonic() < until:
        try:
            os.close(os.open(mine + "/d/k", os.O_WRONLY))
        except PermissionError:
            refused += 1
            # Now the kernel takes the private inode for hers, in whichever thread.
            looking = threading.Thread(target=os.fstat, args=[fd])
            looking.start(), looking.join()
            try:
                call()
            except OSError:
                pass
        except OSError:
            pass
    going_on = False
    swapping.join()
    return refused
"""


@pytest.mark.parametrize("call", ["os.fchmod(fd, 0o666)", "os.utime(fd, (5, 5))"])
def test_of_a_descriptor_whose_thread_was_led_elsewhere(run: Path, users: dict[str, User], call: str) -> None:
    run.chmod(0o777)
    (run / "public").mkdir()
    (run / "public").chmod(0o777)
    path, alice = run / "public" / "k", users["alice"]
    alice("os.mkdir(path)", path=str(run / "alice"))
    open_by_alice(users, path, "new")
    before = take_over(users, path)
    alice(IN_VAIN)
    refused = alice(f"in_vain(mine, public, lambda: {call})", mine=str(run / "alice"), public=str(run / "public"))
    assert isinstance(refused, int)
    assert refused > 0
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_mtime) == (before.st_mode, before.st_uid, before.st_mtime)
    assert path.read_text() == SECRET
    alice("os.close(fd)")


CHANGES = {
    "chmod": "os.fchmod(fd, 0o666)",
    "utime": "os.utime(fd, (5, 5))",
    "setxattr": "os.setxattr(fd, 'user.a', b'new')",
    "removexattr": "os.removexattr(fd, 'user.b')",
    "getxattr": "os.getxattr(fd, 'user.b')",
}


@pytest.mark.parametrize("call", CHANGES.values(), ids=CHANGES)
def test_of_what_was_given_to_somebody_else(run: Path, users: dict[str, User], call: str) -> None:
    """Renamed first: whoever has it open under its old name has no right to it any more."""
    run.chmod(0o777)
    path, alice = run / "k", users["alice"]
    alice(
        "open(path, 'w').close(); os.setxattr(path, 'user.b', b'hers'); fd = os.open(path, os.O_RDWR)", path=str(path)
    )
    away = path.rename(run / "away")
    os.chown(away, 1002, 1002)
    os.setxattr(away, "user.b", b"kept")
    away.chmod(0o600)
    before = away.stat()
    assert alice(call) in ("EPERM", "EACCES")
    after = away.stat()
    assert (after.st_mode, after.st_uid, after.st_mtime) == (before.st_mode, before.st_uid, before.st_mtime)
    assert os.listxattr(away) == ["user.b"]
    assert os.getxattr(away, "user.b") == b"kept"
    alice("os.close(fd)")


Call = Callable[[NodeAttributes, int, Caller], Awaitable[object]]


async def get_xattr(attributes: NodeAttributes, ino: int, caller: Caller) -> object:
    return attributes.get_xattr(ino, b"user.b", caller)


async def set_xattr(attributes: NodeAttributes, ino: int, caller: Caller) -> object:
    return attributes.set_xattr(ino, b"user.b", b"new", caller)


async def remove_xattr(attributes: NodeAttributes, ino: int, caller: Caller) -> object:
    return attributes.remove_xattr(ino, b"user.b", caller)


async def truncate(attributes: NodeAttributes, ino: int, caller: Caller) -> object:
    return await attributes.set(ino, Attributes(), 3, None, caller)


async def change_mode(attributes: NodeAttributes, ino: int, caller: Caller) -> object:
    return await attributes.set(ino, Attributes(mode=0o666), None, None, caller)


async def change_owner(attributes: NodeAttributes, ino: int, caller: Caller) -> object:
    return await attributes.set(ino, Attributes(uid=caller.uid), None, None, caller)


@pytest.mark.trio
@pytest.mark.parametrize("led", [True, False], ids=["led there", "not led there"])
@pytest.mark.parametrize("call", [get_xattr, set_xattr, remove_xattr, truncate, change_mode, change_owner])
async def test_what_the_kernel_checked_was_another_file(
    tmp_path: Path, nursery: trio.Nursery, call: Call, led: bool
) -> None:
    """In the thread that opened none of them, and is on the way to open the one that it may not, or is not."""
    alice, thread, bob = (Caller(10**7 + uid, uid % 2000, uid % 2000) for uid in (1001, 3001, 1002))
    with open_store(ObjectStoreSettings(path=tmp_path / "objects.db")) as store:
        app = ScopeName.pipeline("app")
        store.create_pipeline(app.name)
        state = mount_state(store, nursery)
        opening = Opening(state)
        attributes = NodeAttributes(state, opening, Files(state, opening, Publication(state)))
        parent = stores.directory(store, app)
        writing = opening.create(parent, b"k", 0o600, os.O_RDWR, alice)[1].ino
        store.put_object(app, b"k", b"secret")
        secret = secret_of(store.tree.child(parent, b"k"))
        store.tree.set_attributes(secret.ino, Attributes(mode=0o600, uid=bob.uid, gid=bob.gid))
        for opener in (bob, *([thread] if led else [])):
            with pytest.raises(StaleError):
                opening.open(secret.ino, os.O_RDWR, opener)
        opening.open(writing, os.O_RDWR, bob)
        attributes.set_xattr(writing, b"user.b", b"secret", bob)
        before = store.tree.child(parent, b"k")
        with pytest.raises((AccessError, NotPermittedError, StaleError)):
            await call(attributes, writing, thread)
        assert store.tree.child(parent, b"k") == before
        await call(attributes, writing, bob)


def secret_of(node: Node | None) -> Node:
    assert node is not None
    return node
