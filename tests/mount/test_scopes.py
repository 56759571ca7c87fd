"""Mounts that show some pipelines and runs alone: these work as in any mount, and nothing else can be reached."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.contract.several_mounts import soon
from tests.support.mounting import MountedStore
from tests.support.renaming import EXCHANGE, renameat2
from tests.support.shared_mount import listed, refused

SCOPE = ("--pipeline", "app", "--run", "42")
OTHERS = ("pipeline/other", "pipeline/other/k", "run/7", "run/7/k")


@pytest.fixture
def whole(make_mount: MakeMount) -> MountedStore:
    """A mount of all of a store that holds what others must not see."""
    store = make_mount(run_object_expiry=3)
    for name in ("pipeline/other", "run/7"):
        (store.path / name).mkdir()
        (store.path / name / "k").write_text("secret")
    return store


@pytest.fixture
def scoped(make_mount: MakeMount, whole: MountedStore) -> MountedStore:
    return make_mount(store=whole.store, options=SCOPE)


def tree(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


def test_it_shows_what_was_asked_for_and_makes_what_is_missing(whole: MountedStore, scoped: MountedStore) -> None:
    assert tree(scoped.path) == ["pipeline", "pipeline/app", "run", "run/42"]
    soon(lambda: tree(whole.path) == sorted([*OTHERS, "pipeline", "pipeline/app", "run", "run/42"]))


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--pipeline", "app"], ["pipeline", "pipeline/app"]),
        (["--run", "42"], ["run", "run/42"]),
        (["--pipeline", "b", "--pipeline", "a"], ["pipeline", "pipeline/a", "pipeline/b"]),
        (["-o", "pipeline=app,run=42"], ["pipeline", "pipeline/app", "run", "run/42"]),
        (["--pipeline", "other"], ["pipeline", "pipeline/other", "pipeline/other/k"]),
    ],
)
def test_any_number_of_each(make_mount: MakeMount, whole: MountedStore, options: list[str], shown: list[str]) -> None:
    assert tree(make_mount(store=whole.store, options=options).path) == shown


def test_what_is_inside_works_as_in_any_mount(whole: MountedStore, scoped: MountedStore) -> None:
    (scoped.run / "42" / "d").mkdir()
    (scoped.run / "42" / "d" / "model").write_text("weights")
    os.rename(scoped.run / "42" / "d" / "model", scoped.pipeline / "app" / "model")
    os.symlink("model", scoped.pipeline / "app" / "link")
    assert (scoped.pipeline / "app" / "link").read_text() == "weights"
    with (scoped.pipeline / "app" / "log").open("a") as log:
        log.write("line\n")
    soon(lambda: listed(whole.pipeline / "app") == ["link", "log", "model"])
    assert (whole.pipeline / "app" / "log").read_text() == "line\n"
    os.setxattr(scoped.pipeline / "app", "fusefs.limit", b"1")
    assert listed(scoped.pipeline / "app") == ["link", "log"]
    shutil.rmtree(scoped.run / "42" / "d")


def test_others_are_not_there(scoped: MountedStore) -> None:
    looks = (os.stat, os.lstat, os.listdir, os.readlink, os.unlink, os.rmdir, os.listxattr)
    for path in OTHERS:
        for look in (*looks, lambda at: os.open(at, os.O_RDONLY)):
            with refused(errno.ENOENT):
                look(scoped.path / path)


FIXED = {
    "a pipeline": lambda top: os.mkdir(top / "pipeline" / "new"),
    "a run": lambda top: os.mkdir(top / "run" / "new"),
    "another's pipeline": lambda top: os.mkdir(top / "pipeline" / "other"),
    "a file in the root": lambda top: (top / "k").touch(),
    "a file with another's name": lambda top: (top / "pipeline" / "other").touch(),
    "a file with another's name, exclusively": lambda top: os.open(top / "run" / "7", os.O_CREAT | os.O_EXCL),
    "a symlink": lambda top: os.symlink("app", top / "pipeline" / "new"),
    "mknod": lambda top: os.mknod(top / "pipeline" / "other"),
    "rmdir of its own pipeline": lambda top: os.rmdir(top / "pipeline" / "app"),
    "rmdir of its own run": lambda top: os.rmdir(top / "run" / "42"),
    "rmdir above": lambda top: os.rmdir(top / "run"),
    "renaming its own": lambda top: os.rename(top / "pipeline" / "app", top / "pipeline" / "new"),
    "renaming onto another": lambda top: os.rename(top / "pipeline" / "app" / "d", top / "pipeline" / "other"),
    "renaming out of it": lambda top: os.rename(top / "pipeline" / "app" / "d", top / "run" / "d"),
    "exchanging": lambda top: renameat2(top / "pipeline" / "app", top / "run" / "42", EXCHANGE),
    "chmod": lambda top: os.chmod(top / "pipeline", 0o777),
    "chown": lambda top: os.chown(top / "run", 1, 1),
    "utimens": lambda top: os.utime(top, (1, 1)),
    "a hard link": lambda top: os.link(top / "pipeline" / "app" / "k", top / "run" / "42" / "k"),
    "an attribute": lambda top: os.setxattr(top / "pipeline", "user.x", b"1"),
}


def test_what_is_above_is_fixed(whole: MountedStore, scoped: MountedStore) -> None:
    """Whatever exists in the store, the answer is the same."""
    (scoped.pipeline / "app" / "d").mkdir()
    (scoped.pipeline / "app" / "k").touch()
    soon((whole.pipeline / "app" / "k").exists)
    before = everything(whole)
    for change, attempt in FIXED.items():
        with refused(errno.EPERM):
            attempt(scoped.path)
        assert everything(whole) == before, change


def everything(store: MountedStore) -> tuple[object, ...]:
    return tree(store.path), [os.stat(store.path / name)[:6] for name in ("", "pipeline", "run")]


def test_what_the_store_tells_of_others_is_not_told(whole: MountedStore, scoped: MountedStore) -> None:
    assert os.getxattr(whole.run, "fusefs.expired") == b""
    for directory in (scoped.path, scoped.pipeline, scoped.run):
        for name in ("limit", "expiry", "expired", "expirations"):
            with refused(errno.ENODATA):
                os.getxattr(directory, f"fusefs.{name}")
    assert os.getxattr(scoped.pipeline / "app", "fusefs.objects") == b"0"


def test_how_many_names_others_have_is_not_told(whole: MountedStore, scoped: MountedStore) -> None:
    def told() -> int:
        found = os.statvfs(scoped.path)
        return found.f_files - found.f_ffree

    (scoped.pipeline / "app" / "k").touch()
    (scoped.run / "42" / "d").mkdir()
    (scoped.run / "42" / "d" / "k").touch()
    assert told() == 2
    for number in range(10):
        (whole.pipeline / "other" / f"{number}").touch()
    assert told() == 2


def test_its_run_expires(whole: MountedStore, scoped: MountedStore) -> None:
    """It is not there any more then, and cannot be made again through this mount."""
    (scoped.run / "42" / "k").write_text("v")
    soon((whole.run / "42" / "k").exists)
    for number in range(100, 103):
        (whole.run / str(number)).mkdir()
    soon(lambda: not (scoped.run / "42").exists())
    assert listed(scoped.run) == []
    with refused(errno.EPERM):
        (scoped.run / "42").mkdir()


def test_another_mount_makes_the_pipeline_anew(whole: MountedStore, scoped: MountedStore) -> None:
    """A scope is a name: what has it is shown."""
    (whole.pipeline / "app").rmdir()
    soon(lambda: listed(scoped.pipeline) == [])
    (whole.pipeline / "app").mkdir()
    (whole.pipeline / "app" / "k").write_text("v")
    soon(lambda: tree(scoped.pipeline) == ["app", "app/k"])


def test_read_only_makes_nothing(make_mount: MakeMount, whole: MountedStore) -> None:
    read_only = make_mount(store=whole.store, options=["--read-only", "--pipeline", "other"])
    assert (read_only.pipeline / "other" / "k").read_text() == "secret"
    with refused(errno.EROFS):
        (read_only.pipeline / "other" / "k").write_text("x")
    done = whole.cli("mount", "--read-only", "--run", "43", str(whole.directory / "m"), exit_code=1)
    assert b"m does not exist" in done.stderr
    (whole.directory / "m").mkdir()
    whole.expect_log("there is no run 43")
    done = whole.cli("mount", "--read-only", "--run", "43", str(whole.directory / "m"), exit_code=3)
    assert b"there is no run 43, and a read-only mount makes none" in done.stderr


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "-x", "x" * 129, "/"])
@pytest.mark.parametrize("option", ["--pipeline=", "--run=", "-opipeline="])
def test_invalid_names(whole: MountedStore, option: str, name: str) -> None:
    (whole.directory / "m").mkdir()
    done = whole.cli("mount", f"{option}{name}", str(whole.directory / "m"), exit_code=2)
    assert b"invalid" in done.stderr
    assert done.stderr.count(b"\n") == 1
