"""Volumes of the real plugin: what each operation does, and that doing it again changes nothing."""

import errno
import itertools
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.dockerplugin.conftest import MakePlugin
from tests.support.dockerplugin import Plugin
from tests.support.processes import end, start_python
from tests.support.scratch import mount_at
from tests.support.shared_mount import refused

pytestmark = pytest.mark.mount

_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A volume that no other test has."""
    return f"v{next(_numbers)}"


def described(plugin: Plugin, name: str) -> dict[str, object]:
    """Return what Get says, which is what List says."""
    found = plugin.ok("Get", Name=name)["Volume"]
    assert isinstance(found, dict)
    assert found in plugin.ok("List")["Volumes"]
    return found


def remembered(plugin: Plugin) -> object:
    return json.loads(plugin.state.read_text())["volumes"]


def test_what_it_is(shared: Plugin) -> None:
    assert shared.call("/Plugin.Activate") == (200, {"Implements": ["VolumeDriver"], "Err": ""})
    assert shared.ok("Capabilities") == {"Capabilities": {"Scope": "local"}}


def test_a_volume_from_start_to_end(shared: Plugin, name: str) -> None:
    shared.create(name)
    path = shared.mount / "pipeline" / name
    assert path.is_dir()  # before anybody mounts it: `fusefs pipeline` can fill it
    about = described(shared, name)
    assert (about["Mountpoint"], about["Status"]) == ("", {"pipeline": name, "read-only": False})
    assert str(about["CreatedAt"]).endswith("Z")
    assert shared.ok("Path", Name=name) == {"Mountpoint": ""}

    assert shared.mounted(name) == path
    assert described(shared, name)["Mountpoint"] == str(path)
    assert shared.ok("Path", Name=name) == {"Mountpoint": str(path)}
    (path / "key").write_text("value")

    shared.unmount(name)
    assert described(shared, name)["Mountpoint"] == ""
    shared.ok("Remove", Name=name)
    assert shared.refused("Get", Name=name) == f"no such volume: {name}"
    assert name not in [volume["Name"] for volume in shared.ok("List")["Volumes"]]
    assert (path / "key").read_text() == "value"


@pytest.mark.parametrize("operation", ["Remove", "Mount", "Unmount", "Path", "Get"])
def test_an_unknown_volume(shared: Plugin, operation: str) -> None:
    assert shared.refused(operation, Name="unknown", ID="1") == "no such volume: unknown"


def test_a_run(shared: Plugin, name: str) -> None:
    shared.create(name, run="42")
    assert shared.mounted(name) == shared.mount / "run" / "42"
    assert described(shared, name)["Status"] == {"run": "42", "read-only": False}
    shared.unmount(name)


def test_owner_mode_and_limit(shared: Plugin, name: str) -> None:
    shared.create(name, uid="1000", gid="1001", mode="2770", limit="2")
    path = shared.mounted(name)
    about = path.stat()
    assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (1000, 1001, 0o2770)
    assert os.getxattr(path, "fusefs.limit") == b"2"
    assert os.getxattr(path, "fusefs.limit_of") == b"pipeline"
    assert described(shared, name)["Status"] == {"pipeline": name, "read-only": False, "limit": 2}
    shared.unmount(name)


def test_without_options_it_is_as_root_would_make_it(shared: Plugin, name: str) -> None:
    shared.create(name)
    about = (shared.mount / "pipeline" / name).stat()
    assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (0, 0, 0o755)
    assert os.getxattr(shared.mount / "pipeline" / name, "fusefs.limit_of") == b"store"


def test_a_pipeline_that_is_there_keeps_its_owner_and_gets_the_limit(shared: Plugin, name: str) -> None:
    path = shared.mount / "pipeline" / name
    path.mkdir()
    path.chmod(0o700)
    shared.create(name, mode="777", uid="7", limit="3")
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (0o700, 0)
    assert os.getxattr(path, "fusefs.limit") == b"3"
    # The limit is set once: what somebody sets later stays.
    os.setxattr(path, "fusefs.limit", b"9")
    shared.create(name, mode="777", uid="7", limit="3")
    shared.mounted(name)
    assert os.getxattr(path, "fusefs.limit") == b"9"
    shared.unmount(name)


def test_creating_again(shared: Plugin, name: str) -> None:
    shared.create(name, pipeline="app", ro="")
    shared.mounted(name)
    before = remembered(shared)
    shared.create(name, pipeline="app", readonly="true")
    message = shared.refused("Create", Name=name, Opts={"pipeline": "app"})
    assert message == f"the volume {name} exists with other options: pipeline=app, ro, remove=keep"
    assert remembered(shared) == before
    shared.unmount(name)


@pytest.mark.parametrize("options", [{"size": "1"}, {"pipeline": "a/b"}, {"limit": "many"}, {"ro": "maybe"}])
def test_a_refusal_changes_nothing(shared: Plugin, name: str, options: dict[str, str]) -> None:
    def everything() -> tuple[str, list[str]]:
        state = shared.state.read_text() if shared.state.exists() else ""
        return state, sorted(os.listdir(shared.mount / "pipeline"))

    before = everything()
    shared.refused("Create", Name=name, Opts=options)
    assert everything() == before


def test_several_containers(shared: Plugin, name: str) -> None:
    shared.create(name)
    paths = {shared.mounted(name, "1"), shared.mounted(name, "2"), shared.mounted(name, "1")}
    assert len(paths) == 1
    shared.unmount(name, "1")
    shared.unmount(name, "1")
    shared.unmount(name, "unknown")
    assert shared.refused("Remove", Name=name) == f"the volume {name} is in use: mounted by 1"
    shared.unmount(name, "2")
    shared.ok("Remove", Name=name)


def test_what_has_gone_is_made_again(shared: Plugin, name: str) -> None:
    shared.create(name, uid="5", mode="700", limit="4")
    path = shared.mount / "pipeline" / name
    path.rmdir()
    assert shared.mounted(name) == path
    assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (5, 0o700)
    assert os.getxattr(path, "fusefs.limit") == b"4"
    shared.unmount(name)


# Read-only volumes


def test_a_read_only_volume_refuses_writes(shared: Plugin, name: str) -> None:
    shared.create(name, ro="")
    writable = shared.mount / "pipeline" / name
    (writable / "key").write_text("value")
    path = shared.mounted(name)
    assert path == shared.views / name
    assert (path / "key").read_text() == "value"
    for change in (
        lambda: (path / "new").write_text("no"),
        lambda: (path / "key").write_text("no"),
        lambda: (path / "key").unlink(),
        lambda: (path / "directory").mkdir(),
        lambda: os.setxattr(path, "fusefs.limit", b"1"),
    ):
        with refused(errno.EROFS):
            change()
    (writable / "key").write_text("new")
    assert (path / "key").read_text() == "new"
    options = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {path} " in line)
    assert options.split()[5].startswith("ro,nosuid,nodev")
    shared.unmount(name)


def mount_number(path: Path) -> str:
    lines = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {path} " in line]
    assert len(lines) == 1
    return lines[0].split()[0]


def test_a_read_only_volume_is_there_while_it_is_mounted(shared: Plugin, name: str) -> None:
    shared.create(name, ro="")
    path = shared.mounted(name, "1")
    number = mount_number(path)
    held = os.open(path, os.O_RDONLY)  # the kernel gives the number of a mount that has gone to the next
    try:
        assert shared.mounted(name, "2") == path
        shared.mounted(name, "2")
        assert mount_number(path) == number, "it was replaced by another"
    finally:
        os.close(held)
    shared.unmount(name, "1")
    assert mount_at(path) is not None
    shared.unmount(name, "2")
    assert mount_at(path) is None
    assert not path.exists()
    shared.unmount(name, "2")
    shared.ok("Remove", Name=name)


def test_a_view_of_what_was_made_again(shared: Plugin, name: str) -> None:
    shared.create(name, ro="")
    path = shared.mounted(name, "1")
    (shared.mount / "pipeline" / name).rmdir()
    shared.mounted(name, "2")
    (shared.mount / "pipeline" / name / "key").write_text("value")
    assert (path / "key").read_text() == "value"
    for by in "12":
        shared.unmount(name, by)
    assert mount_at(path) is None


def test_what_uses_a_view_keeps_it(shared: Plugin, name: str) -> None:
    shared.create(name, ro="")
    (shared.mount / "pipeline" / name / "key").write_text("value")
    with (shared.mounted(name) / "key").open() as file:
        shared.unmount(name)
        assert file.read() == "value"


# Removing


@pytest.mark.parametrize(("kind", "limit"), [("pipeline", "0"), ("run", None)])
def test_objects_are_deleted_where_that_was_asked_for(shared: Plugin, name: str, kind: str, limit: str | None) -> None:
    options = {kind: f"gone-{name}", "remove": "objects"} | ({} if limit is None else {"limit": limit})
    shared.create(name, **options)
    path = shared.mounted(name)
    for number in range(60):
        (path / f"key{number}").write_text("value")
    (path / "directory").mkdir()
    (path / "directory" / "key").write_text("value")
    shared.unmount(name)
    shared.ok("Remove", Name=name)
    assert not path.exists()
    assert shared.refused("Get", Name=name)


DEEP = """
import os, sys
os.chdir(sys.argv[1])
for _ in range(1200):
    os.mkdir("d")
    os.symlink(sys.argv[2], "link")
    os.chdir("d")
os.mkdir("beside")
open("beside/key", "w").close()
"""


def test_objects_below_many_directories(shared: Plugin, name: str, tmp_path: Path) -> None:
    """More levels than Python has frames for, and what symlinks lead to stays."""
    (tmp_path / "kept").write_text("value")
    shared.create(name, remove="objects")
    path = shared.mounted(name)
    end([start_python(DEEP, path, tmp_path)])
    shared.unmount(name)
    shared.ok("Remove", Name=name)
    assert not path.exists()
    assert (tmp_path / "kept").read_text() == "value"


def test_objects_that_have_gone_already(shared: Plugin, name: str) -> None:
    shared.create(name, remove="objects")
    (shared.mount / "pipeline" / name).rmdir()
    shared.ok("Remove", Name=name)


def test_objects_that_another_volume_uses_are_not_deleted(shared: Plugin, name: str) -> None:
    shared.create(name, remove="objects")
    shared.create(f"{name}-other", pipeline=name)
    (shared.mounted(f"{name}-other") / "key").write_text("value")
    assert shared.refused("Remove", Name=name) == f"pipeline {name} is in use by the volume {name}-other"
    shared.unmount(f"{name}-other")
    shared.ok("Remove", Name=name)
    assert not (shared.mount / "pipeline" / name).exists()


# Many at once


def test_many_at_once(shared: Plugin) -> None:
    names = [f"many{number}" for number in range(50)]

    def live(name: str) -> None:
        shared.create(name, pipeline=f"shared{int(name[4:]) % 5}", **({"ro": ""} if int(name[4:]) % 2 else {}))
        for by in "12":
            assert shared.mounted(name, by).is_dir()
        shared.refused("Remove", Name=name)
        for by in "12":
            shared.unmount(name, by)
        if int(name[4:]) % 3:
            shared.ok("Remove", Name=name)

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(live, names))
    left = {volume["Name"] for volume in shared.ok("List")["Volumes"] if volume["Name"] in names}
    assert left == {name for name in names if int(name[4:]) % 3 == 0}
    assert left <= set(json.loads(shared.state.read_text())["volumes"])
    assert not [name for name in names if (shared.views / name).exists()]


def test_one_volume_at_once(shared: Plugin, name: str) -> None:
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda _: shared.create(name, ro=""), range(50)))
        assert len(set(pool.map(lambda by: shared.mounted(name, str(by)), range(50)))) == 1
        list(pool.map(lambda by: shared.unmount(name, str(by)), range(1, 50)))
        assert mount_at(shared.views / name) is not None
        shared.unmount(name, "0")
        assert mount_at(shared.views / name) is None
        answers = list(pool.map(lambda _: shared.call("/VolumeDriver.Remove", {"Name": name}), range(50)))
    assert sorted(status for status, _ in answers) == [200] + [500] * 49


# What it leaves to nobody


def test_what_there_is_is_for_its_owner(make_plugin: MakePlugin) -> None:
    plugin = make_plugin()
    plugin.directory.chmod(0o755)
    plugin.start()
    plugin.create("v", ro="")
    plugin.mounted("v")
    assert stat.S_IMODE(plugin.state.stat().st_mode) == 0o600
    assert stat.S_IMODE(plugin.directory.stat().st_mode) == 0o700


@pytest.mark.parametrize("body", [b"{", b"\x00", b"[" * 60_000, b'{"Name":7}', b"x" * 70_000, b"x" * 2_000_000])
def test_bad_bodies_on_the_socket(shared: Plugin, body: bytes) -> None:
    status, answer = shared.call("/VolumeDriver.Create", raw=body)
    assert status in (400, 413)
    assert list(answer) == ["Err"]
    assert shared.call("/VolumeDriver.Nothing")[0] == 404
    assert shared.call("/VolumeDriver.List", method="GET")[0] == 405
    shared.ok("List")
