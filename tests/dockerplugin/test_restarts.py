"""The plugin ends, is killed, is started again; its mount is killed: containers and volumes go on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.dockerplugin.conftest import MakePlugin
from tests.support.dockerplugin import Plugin
from tests.support.mounting import FUSEFS, ROOT
from tests.support.scratch import mount_at
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount


def test_the_mount_goes_with_the_plugin_when_nobody_uses_it(plugin: Plugin) -> None:
    plugin.create("v", ro="")
    plugin.mounted("v")
    plugin.unmount("v")
    plugin.stop()
    assert mount_at(plugin.mount) is None
    assert plugin.daemon is None
    assert not plugin.socket.exists()
    assert "is unmounted" in plugin.log()
    plugin.start()
    assert plugin.mounted("v") == plugin.views / "v"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_volume_in_use_goes_on(plugin: Plugin, how: signal.Signals) -> None:
    plugin.create("v")
    plugin.create("view", pipeline="v", ro="")
    path, view = plugin.mounted("v"), plugin.mounted("view")
    daemon = plugin.daemon
    with (path / "log").open("w") as file:
        file.write("before\n")
        begun = time.monotonic()
        if how == signal.SIGKILL:
            plugin.kill()
        else:
            plugin.stop(how)
            assert f"{plugin.mount} goes on without the plugin: in use are v, view" in plugin.log()
        assert time.monotonic() - begun < 10
        file.write("without\n")
        (path / "key").write_text("value")
        assert (view / "key").read_text() == "value"
        plugin.start()
        file.write("after\n")
    assert (path / "log").read_text() == "before\nwithout\nafter\n"
    assert plugin.daemon == daemon
    assert plugin.ok("Path", Name="v") == {"Mountpoint": str(path)}
    assert plugin.mounted("view", "2") == view
    for by in "12":
        plugin.unmount("view", by)
    assert plugin.refused("Remove", Name="v")
    plugin.unmount("v")
    plugin.ok("Remove", Name="v")


def test_an_idle_connection_does_not_keep_it(plugin: Plugin) -> None:
    import socket  # the engine keeps its connections

    with socket.socket(socket.AF_UNIX) as idle, socket.socket(socket.AF_UNIX) as half:
        idle.connect(str(plugin.socket))
        half.connect(str(plugin.socket))
        half.sendall(b"POST /VolumeDriver.List HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        time.sleep(0.2)
        begun = time.monotonic()
        plugin.stop()
        assert time.monotonic() - begun < 10


def test_the_next_mount_recovers_from_a_killed_daemon(plugin: Plugin) -> None:
    plugin.create("v")
    plugin.create("view", pipeline="v", ro="")
    path, view = plugin.mounted("v"), plugin.mounted("view")
    (path / "key").write_text("value")
    plugin.kill_daemon()
    assert plugin.mounted("view", "2") == view
    assert (view / "key").read_text() == "value"
    assert (path / "key").read_text() == "value"
    with pytest.raises(OSError, match="Read-only"):
        (view / "new").touch()
    plugin.kill_daemon()
    plugin.create("other")
    assert (plugin.mount / "pipeline" / "other").is_dir()
    for name, by in (("v", "1"), ("view", "1"), ("view", "2")):
        plugin.unmount(name, by)
    assert mount_at(view) is None


def test_unmounting_and_removing_need_no_living_mount(plugin: Plugin) -> None:
    plugin.create("view", ro="")
    view = plugin.mounted("view")
    plugin.kill_daemon()
    plugin.unmount("view")
    assert mount_at(view) is None
    plugin.ok("Remove", Name="view")
    plugin.stop()
    assert mount_at(plugin.mount) is None


def test_a_dead_mount_is_found_at_the_start(plugin: Plugin) -> None:
    plugin.create("v")
    (plugin.mounted("v") / "key").write_text("value")
    plugin.kill()
    plugin.kill_daemon()
    plugin.start()
    assert (plugin.mounted("v") / "key").read_text() == "value"


@pytest.mark.slow
def test_a_mount_that_hangs_is_said_and_does_not_hang_the_plugin(plugin: Plugin) -> None:
    plugin.create("v")
    daemon = plugin.daemon
    assert daemon
    os.kill(daemon, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        for _ in range(3):
            assert "does not answer" in plugin.refused("Mount", Name="v", ID="1")
        assert time.monotonic() - begun < 9  # who asks next does not wait as long
        plugin.ok("List")
        plugin.ok("Remove", Name="v")
    finally:
        os.kill(daemon, signal.SIGCONT)
    wait_until(lambda: plugin.call("/VolumeDriver.Create", {"Name": "w"})[0] == 200)


def test_a_reboot_forgets_who_had_volumes_mounted(plugin: Plugin) -> None:
    plugin.create("v")
    plugin.mounted("v")
    plugin.kill()
    text = plugin.state.read_text()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot in text
    plugin.state.write_text(text.replace(boot, "another"))
    plugin.start()
    assert plugin.ok("Path", Name="v") == {"Mountpoint": ""}
    plugin.ok("Remove", Name="v")


@pytest.mark.parametrize("how", ["remove", "stop"])
def test_a_view_that_a_kill_left_behind_goes(plugin: Plugin, how: str) -> None:
    plugin.create("view", ro="")
    view = plugin.mounted("view")
    plugin.kill()
    # As if it had been killed in the middle of Unmount.
    plugin.state.write_text(plugin.state.read_text().replace('"1"', ""))
    plugin.start()
    if how == "remove":
        plugin.ok("Remove", Name="view")
        assert mount_at(view) is None
    plugin.stop()
    assert mount_at(view) is None
    assert mount_at(plugin.mount) is None


# Starting


def ended(plugin: Plugin) -> str:
    """Start a plugin that cannot start, and return its last words."""
    process = plugin.spawn(stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=60)
    plugin.process = None
    assert process.returncode == 1
    message: str = said.decode().splitlines()[-1]
    assert message.startswith("fusefs: ")
    return message


def test_a_damaged_state_file(make_plugin: MakePlugin) -> None:
    plugin = make_plugin()
    plugin.state.write_text('{"version": 1, "vol')
    assert "volumes.json is damaged" in ended(plugin)
    assert plugin.state.read_text() == '{"version": 1, "vol'
    assert mount_at(plugin.mount) is None


def test_one_plugin_for_a_directory(plugin: Plugin, make_plugin: MakePlugin) -> None:
    second = make_plugin()
    second.directory = plugin.directory
    assert ended(second) == f"fusefs: {plugin.directory} is in use by another docker-plugin"
    plugin.ok("List")


def test_a_mount_of_another_store(make_plugin: MakePlugin) -> None:
    plugin = make_plugin()
    plugin.mount.mkdir()
    subprocess.run([*FUSEFS, "mount", "--store", f"{plugin.store}2", plugin.mount], cwd=ROOT, check=True)
    assert f"is a mount of another store, {plugin.store}2: unmount it" in ended(plugin)
    assert mount_at(plugin.mount) is not None


@pytest.mark.parametrize("option", ["--read-only", None])
def test_a_mount_that_is_not_for_containers(make_plugin: MakePlugin, option: str | None) -> None:
    plugin = make_plugin()
    plugin.mount.mkdir()
    options = ["--allow-other", option] if option else []
    subprocess.run([*FUSEFS, "mount", "--store", plugin.store, *options, plugin.mount], cwd=ROOT, check=True)
    assert "is mounted read-only or without --allow-other: unmount it" in ended(plugin)


def test_a_store_that_cannot_be_mounted(make_plugin: MakePlugin) -> None:
    plugin = make_plugin()
    plugin.expect_log("OpenError")
    plugin.store.write_text("no store, but long enough to be looked at " * 100)
    message = ended(plugin)
    assert message.startswith("fusefs: the store cannot be mounted: ")
    assert str(plugin.store) in message


@pytest.mark.parametrize(("options", "mode"), [([], 0o755), (["--umask", "0"], 0o777), (["--umask", "027"], 0o750)])
def test_the_mode_of_volumes_is_for_the_mount_to_say(make_plugin: MakePlugin, options: list[str], mode: int) -> None:
    plugin = make_plugin(*options)
    plugin.start(umask=0o077)
    plugin.create("v")
    assert plugin.mounted("v").stat().st_mode & 0o7777 == mode
    plugin.create("own", mode="1711")
    assert plugin.mounted("own").stat().st_mode & 0o7777 == 0o1711


def test_the_umask_of_what_is_written(make_plugin: MakePlugin) -> None:
    plugin = make_plugin("--umask", "0")
    plugin.start()
    plugin.create("v")
    code = "import os, sys; os.umask(0o077); os.close(os.open(sys.argv[1], os.O_CREAT, 0o666))"
    path = plugin.mounted("v") / "key"
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert path.stat().st_mode & 0o777 == 0o666


def test_the_log_goes_where_it_is_told(make_plugin: MakePlugin) -> None:
    plugin = make_plugin()
    log = plugin.scratch / "own.log"
    plugin.options = ["--log-file", str(log), "--log-level", "debug"]
    plugin.start()
    plugin.create("v")
    assert "volume v: created, pipeline=v, remove=keep" in log.read_text()
    assert plugin.log_path.read_text() == ""
