"""The units for systemd: they are valid, start a command that exists, and give it no mount namespace of its own."""

import configparser
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from fusefs.cli import fusefs
from fusefs.cli.docker_plugin import SOCKET

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "docker" / "systemd"
SERVICE = UNITS / "fusefs-docker-plugin.service"
SOCKET_UNIT = UNITS / "fusefs-docker-plugin.socket"


class _Several(dict[str, object]):
    """A section in which a name may stand several times: its values are joined, as in systemd."""

    def __setitem__(self, name: str, value: object) -> None:
        if name in self and isinstance(value, list) and isinstance(self[name], list):
            value = [*self[name], *value]  # type: ignore[misc]
        super().__setitem__(name, value)


def unit(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, dict_type=_Several)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return parser


def capabilities() -> list[str]:
    """What the service may still do, as setpriv calls it."""
    return [name.lower().removeprefix("cap_") for name in unit(SERVICE)["Service"]["CapabilityBoundingSet"].split()]


def test_the_command_and_its_options_exist() -> None:
    program, name, *arguments = shlex.split(unit(SERVICE)["Service"]["ExecStart"])
    assert program == "fusefs"
    command = fusefs.commands[name]
    command.make_context(name, arguments)


def test_the_socket_is_the_one_that_docker_looks_for() -> None:
    section = unit(SOCKET_UNIT)["Socket"]
    assert section["ListenStream"] == SOCKET
    assert int(section["SocketMode"], 8) == stat.S_IRUSR | stat.S_IWUSR
    assert "docker.service" in unit(SOCKET_UNIT)["Unit"]["Before"].split()
    assert unit(SERVICE)["Unit"]["Requires"] == SOCKET_UNIT.name


def test_a_restart_leaves_the_mount_alone() -> None:
    assert unit(SERVICE)["Service"]["KillMode"] == "process"


def test_docker_sees_the_mounts() -> None:
    """systemd.exec(5): each of these gives a service a mount namespace of its own."""
    separate = ["Private", "Protect", "ReadOnly", "ReadWrite", "Inaccessible", "Bind", "TemporaryFileSystem", "Mount"]
    separate += ["RootDirectory", "RootImage", "DynamicUser", "StateDirectory", "NoExecPaths", "ExecPaths", "Load"]
    assert not [name for name in unit(SERVICE)["Service"] if name.startswith(tuple(separate))]


@pytest.mark.slow  # the fast level installs no systemd
def test_systemd_has_no_objection(tmp_path: Path) -> None:
    program = tmp_path / "fusefs"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in (SERVICE, SOCKET_UNIT):
        (tmp_path / path.name).write_text(path.read_text().replace("ExecStart=fusefs", f"ExecStart={program}"))
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / SERVICE.name, tmp_path / SOCKET_UNIT.name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
