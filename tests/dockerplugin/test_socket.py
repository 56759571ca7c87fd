"""The socket: who may use it, whose it is, and one that systemd hands over."""

import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.dockerplugin.conftest import MakePlugin
from tests.dockerplugin.test_restarts import ended
from tests.support.dockerplugin import Plugin
from tests.support.scratch import mount_at

pytestmark = pytest.mark.mount


@pytest.mark.parametrize("umask", [0, 0o077])
def test_only_its_owner_can_use_it(make_plugin: MakePlugin, umask: int) -> None:
    plugin = make_plugin()
    plugin.start(umask=umask)
    assert stat.S_IMODE(plugin.socket.stat().st_mode) == 0o600


def test_its_directory_is_made(make_plugin: MakePlugin) -> None:
    plugin = make_plugin()
    plugin.socket = plugin.scratch / "run" / "plugins" / "fusefs.sock"
    plugin.start()
    plugin.stop()
    assert os.listdir(plugin.socket.parent) == []


def test_one_that_a_killed_plugin_left_is_replaced(plugin: Plugin) -> None:
    plugin.kill()
    assert plugin.socket.exists()
    plugin.start()


def test_one_that_somebody_listens_on_is_not(make_plugin: MakePlugin) -> None:
    plugin = make_plugin()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(plugin.socket))
        other.listen()
        assert ended(plugin) == f"fusefs: cannot listen on {plugin.socket}: another process does"
    assert plugin.socket.exists()


def test_a_file_in_its_place_is_left_alone(make_plugin: MakePlugin) -> None:
    plugin = make_plugin()
    plugin.socket.write_text("precious")
    assert "there is a file that is no socket" in ended(plugin)
    assert plugin.socket.read_text() == "precious"


def test_a_path_that_is_too_long(make_plugin: MakePlugin) -> None:
    plugin = make_plugin()
    plugin.socket = plugin.scratch / ("x" * 120)
    assert f"cannot listen on {plugin.socket}: AF_UNIX path too long" in ended(plugin)


def test_the_socket_of_a_successor_is_left_alone(plugin: Plugin) -> None:
    plugin.socket.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(plugin.socket))
        plugin.stop()
        assert plugin.socket.exists()


# Socket activation


def activated(make_plugin: MakePlugin, listener: socket.socket, count: int = 1) -> Plugin:
    """A plugin that is started as systemd starts it: with the socket as descriptor 3, and its own process id."""
    script = f'exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES=x exec "$@"'
    plugin = make_plugin(command=["bash", "-c", script, "bash"])
    plugin.own_socket = plugin.socket
    plugin.socket = plugin.scratch / "passed.sock"
    listener.bind(str(plugin.socket))
    listener.listen()
    return plugin


def test_a_socket_that_is_handed_over(make_plugin: MakePlugin) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        plugin = activated(make_plugin, listener)
        assert plugin.own_socket is not None
        for _ in range(2):
            plugin.spawn(pass_fds=[listener.fileno()])
            # Nobody waits for it to be ready: systemd holds the connection until then.
            plugin.create("v")
            assert not plugin.own_socket.exists()
            plugin.stop()
            assert plugin.socket.exists(), "it is systemd's"


def test_more_sockets_than_one_are_refused(make_plugin: MakePlugin) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        plugin = activated(make_plugin, listener, count=2)
        process = plugin.spawn(pass_fds=[listener.fileno()], stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=60)
        assert b"fusefs: systemd passes 2 sockets, and the plugin serves one" in said


def test_a_socket_for_another_process_is_not_taken(make_plugin: MakePlugin) -> None:
    plugin = make_plugin(LISTEN_PID="1", LISTEN_FDS="1")
    plugin.start()
    assert plugin.socket.exists()


def test_the_mount_does_not_hold_the_socket(plugin: Plugin) -> None:
    plugin.create("v")
    plugin.mounted("v")
    table = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    inodes = {f"socket:[{fields[6]}]" for fields in table if fields[-1] == str(plugin.socket)}
    assert inodes
    daemon = plugin.daemon
    links = {os.readlink(f"/proc/{daemon}/fd/{fd}") for fd in os.listdir(f"/proc/{daemon}/fd")}
    assert not inodes & links
    plugin.kill()
    assert mount_at(plugin.mount) is not None


def test_it_works_with_the_rights_of_its_unit(make_plugin: MakePlugin) -> None:
    from tests.dockerplugin.test_units import capabilities

    assert shutil.which("setpriv")
    allowed = ",".join(["-all", *(f"+{name}" for name in capabilities())])
    plugin = make_plugin(command=["setpriv", "--no-new-privs", f"--bounding-set={allowed}"])
    plugin.start()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{plugin.daemon}/status").read_text().splitlines())
    assert int(status["CapBnd"], 16).bit_count() == len(capabilities())
    plugin.create("v", uid="1000", mode="2770", ro="")
    path = plugin.mounted("v")
    (plugin.mount / "pipeline" / "v" / "key").write_text("value")
    assert (path / "key").read_text() == "value"
    plugin.unmount("v")
    plugin.kill_daemon()
    plugin.mounted("v")
    plugin.unmount("v")
    plugin.stop()
    assert mount_at(plugin.mount) is None
