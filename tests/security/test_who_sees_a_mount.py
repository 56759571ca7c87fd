"""Whom a mount lets in: nobody but who made it, unless `--allow-other` says so, and then only as far as modes allow."""

import os
from pathlib import Path

import pytest
import trio

from engine import ScopeName, open_store
from engine.config import ObjectStoreSettings, load_settings
from engine.errors import InvalidError
from engine.model import Attributes
from fusefs.callers import Caller
from fusefs.mountinfo import mount_at
from fusefs.opening import Opening
from fusefs.rights import AccessError
from tests.conftest import MakeMount
from tests.posix.twins import User
from tests.support.mounting import MountedStore
from tests.support.processes import Other
from tests.support.states import mount_state
from tests.support.stores import node

pytestmark = pytest.mark.mount
SETTINGS = {"options": ["--allow-other"]}


def test_without_allow_other_nobody_else_is_let_in(make_mount: MakeMount) -> None:
    """Whatever the modes in there say: root's own mount is root's."""
    store = make_mount()
    store.directory.chmod(0o755)
    (store.pipeline / "app").mkdir()
    (store.pipeline / "app").chmod(0o777)
    (store.pipeline / "app" / "k").write_text("secret")
    (store.pipeline / "app" / "k").chmod(0o666)
    with Other() as process:
        alice = User(process, 1001, 1001, [2000])
        for code in ("os.stat(path)", "os.listdir(path)", "open(path)"):
            for path in (store.path, store.pipeline / "app", store.pipeline / "app" / "k"):
                assert alice(code, path=str(path)) == "EACCES", (code, path)
        assert alice("open(path, 'w')", path=str(store.pipeline / "app" / "new")) == "EACCES"
    options = kernel_options(store)
    assert "allow_other" not in options
    assert "default_permissions" in options


def kernel_options(store: MountedStore) -> dict[str, str]:
    mount = mount_at(os.fsencode(store.path))
    assert mount is not None
    return mount.options


def test_the_kernel_checks_modes(shared: MountedStore) -> None:
    options = kernel_options(shared)
    assert {"allow_other", "default_permissions"} <= options.keys()


@pytest.mark.parametrize("text", ["[mount]\nallow_other = true\n", "allow_other = true\n"])
def test_no_configuration_lets_others_in(text: str, tmp_path: Path) -> None:
    """Only who mounts can: a line in a file would let others into every store of a machine."""
    (tmp_path / "fusefs.toml").write_text(text)
    with pytest.raises(InvalidError, match="unknown key"):
        load_settings(environ={}, config=str(tmp_path / "fusefs.toml"))


def test_a_store_for_everybody_shows_what_modes_allow(shared: MountedStore, run: Path, users: dict[str, User]) -> None:
    """Root's private objects stay private, also where others may write beside them."""
    run.chmod(0o1777)
    (run / "private").write_text("secret")
    (run / "private").chmod(0o600)
    alice = users["alice"]
    for code in ("open(path).read()", "open(path, 'w')", "open(path, 'a')", "os.truncate(path, 0)"):
        assert alice(code, path=str(run / "private")) == "EACCES", code
    for code in ("os.unlink(path)", "os.rename(path, path + '.mine')"):
        assert alice(code, path=str(run / "private")) == "EPERM", code
    assert alice("open(path, 'w').write('mine')", path=str(run / "mine")) == 4
    assert (run / "private").read_text() == "secret"


CREATIONS = ["os.O_RDWR", "os.O_RDONLY", "os.O_WRONLY | os.O_APPEND", "os.O_WRONLY | os.O_TRUNC"]


@pytest.mark.parametrize("how", CREATIONS)
def test_what_is_not_published_is_private_too(run: Path, users: dict[str, User], how: str) -> None:
    """The kernel does not check who may open what it believes to have created."""
    run.chmod(0o1777)
    path = str(run / "private")
    alice, bob = users["alice"], users["bob"]
    alice("fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600); os.write(fd, b'secret')", path=path)
    assert bob(f"os.open(path, os.O_CREAT | {how}, 0o666)", path=path) == "EACCES"
    assert bob("os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)", path=path) == "EEXIST"
    assert alice("os.pread(fd, 100, 0)") == b"secret"
    alice("os.close(fd)")
    assert (run / "private").read_text() == "secret"


@pytest.mark.trio
async def test_what_was_published_since_it_was_looked_up(tmp_path: Path, nursery: trio.Nursery) -> None:
    """The kernel found the name free, and asks to create it: by then it is a private object of somebody else."""
    with open_store(ObjectStoreSettings(path=tmp_path / "objects.db")) as store:
        app = ScopeName.pipeline("app")
        store.create_pipeline(app.name)
        store.put_object(app, b"k", b"secret")
        private = node(store, app, b"k")
        store.tree.set_attributes(private.ino, Attributes(mode=0o640, uid=1001, gid=2000))
        state = mount_state(store, nursery)
        opening = Opening(state)
        for caller, flags in ((Caller(0, 1002, 1002), os.O_RDONLY), (Caller(0, 1002, 2000), os.O_RDWR)):
            with pytest.raises(AccessError):
                opening.create(private.parent, b"k", 0o600, flags, caller)
        for caller, flags in ((Caller(0, 1002, 2000), os.O_RDONLY), (Caller(0, 1001, 1001), os.O_RDWR)):
            opening.create(private.parent, b"k", 0o600, flags, caller)


def test_the_store_itself_is_out_of_reach(shared: MountedStore, users: dict[str, User]) -> None:
    """Whoever may use the mount may not read the files behind it."""
    shared.directory.chmod(0o755)
    for path in sorted(shared.directory.glob("objects.db*")):
        assert users["alice"]("open(path)", path=str(path)) == "EACCES", path


def test_who_may_start_runs_has_those_of_others_expire(make_mount: MakeMount) -> None:
    """Whoever owns them, unless they are protected or the right to make them was taken away."""
    store = make_mount(run_object_expiry=3, **SETTINGS)
    store.directory.chmod(0o755)
    store.cli("run", "start", "protected", exit_code=0)
    with Other() as one, Other() as other:
        alice, bob = User(one, 1001, 1001, []), User(other, 1002, 1002, [])
        assert alice("os.mkdir(path, 0o700)", path=str(store.run / "private")) is None
        for number in range(4):
            assert bob("os.mkdir(path)", path=str(store.run / f"{number}")) is None
        assert sorted(os.listdir(store.run)) == ["1", "2", "3", "protected"]
        store.run.chmod(0o755)
        assert bob("os.mkdir(path)", path=str(store.run / "5")) == "EACCES"
