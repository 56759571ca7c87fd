"""Whom a mount lets in: nobody but who made it, unless `--allow-other` says so, and then only as far as modes allow."""

import os
from pathlib import Path

import pytest

from engine.config import load_settings
from engine.errors import InvalidError
from fusefs.mountinfo import mount_at
from tests.conftest import MakeMount
from tests.posix.twins import User
from tests.support.mounting import MountedStore
from tests.support.processes import Other

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


def test_the_store_itself_is_out_of_reach(shared: MountedStore, users: dict[str, User]) -> None:
    """Whoever may use the mount may not read the files behind it."""
    shared.directory.chmod(0o755)
    for path in sorted(shared.directory.glob("objects.db*")):
        assert users["alice"]("open(path)", path=str(path)) == "EACCES", path
