"""`fusefs mount --umask`: what is created can be used by other users, whatever umask the job has."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import sh

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users"),
]

CREATE = """
umask 077
echo v > file
mkdir directory
mktemp -p . temporary.XXXXXX > /dev/null
install -m 640 file asked
cp -p asked copied
cp /bin/true program
echo v > private; chmod 600 private
"""


def modes(directory: Path) -> dict[str, int]:
    """By the names without what mktemp adds."""
    return {path.stem: path.stat().st_mode & 0o7777 for path in directory.iterdir()}


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o027, 0o077])
def test_group_and_others_get_what_the_owner_has(make_mount: MakeMount, mask: int) -> None:
    """Less the mask; what is asked for afterwards by chmod is what it says."""
    store = make_mount(options=["--umask", f"{mask:03o}", "--pipeline", "app"])
    app = store.pipeline / "app"
    assert app.stat().st_mode & 0o7777 == 0o777 & ~mask
    sh(CREATE, app)
    assert modes(app) == {
        "file": 0o666 & ~mask,
        "directory": 0o777 & ~mask,
        "temporary": 0o666 & ~mask,
        "asked": 0o640,
        "copied": 0o640,
        "program": 0o777 & ~mask,
        "private": 0o600,
    }


def as_user(uid: int, script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script],
        cwd=directory,
        user=uid,
        group=uid,
        extra_groups=[],
        umask=0o022,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def open_to_all(make_mount: MakeMount) -> MountedStore:
    store = make_mount(options=["--umask", "000", "--pipeline", "app", "--allow-other"])
    store.directory.chmod(0o755)
    return store


def test_any_user_changes_what_another_made(open_to_all: MountedStore) -> None:
    app = open_to_all.pipeline / "app"
    first = as_user(1000, "echo one > k; mkdir d; echo one > d/k; echo one > gone; echo one > edited", app)
    assert (first.returncode, first.stderr) == (0, "")
    change = "cat k; echo two >> k; echo two > d/k; mv d/k d/k2; rm gone; sed -i s/one/two/ edited; cat edited k d/k2"
    second = as_user(54321, change, app)
    assert (second.returncode, second.stderr, second.stdout) == (0, "", "one\ntwo\none\ntwo\ntwo\n")
    third = as_user(0, "cat k; rm -r d", app)
    assert (third.returncode, third.stdout) == (0, "one\ntwo\n")


def test_without_it_they_cannot(make_mount: MakeMount) -> None:
    """The tests above would pass on any mount without this one."""
    store = make_mount(options=["--allow-other"])
    store.directory.chmod(0o755)
    (store.pipeline / "app").mkdir()
    (store.pipeline / "app").chmod(0o777)
    assert as_user(1000, "echo one > k", store.pipeline / "app").returncode == 0
    assert "Permission denied" in as_user(54321, "echo two >> k", store.pipeline / "app").stderr


@pytest.mark.parametrize("mask", ["", "9", "0o22", "-1", "1000", "u=rwx", " 22"])
@pytest.mark.parametrize("option", ["--umask=", "-oumask="])
def test_what_is_no_mask(tmp_path: Path, open_to_all: MountedStore, option: str, mask: str) -> None:
    done = open_to_all.cli("mount", f"{option}{mask}", str(tmp_path), exit_code=2)
    assert b"is no umask: it takes octal digits" in done.stderr
