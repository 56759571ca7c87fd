"""Volumes of fusefs, as `docker` makes and uses them."""

import json
from collections.abc import Iterator
from itertools import count

import pytest

from tests.docker.plugins import DRIVER, plugin_of
from tests.support.containers import Container, Containers
from tests.support.dockerengine import Engine
from tests.support.dockerimages import BUSYBOX, import_busybox
from tests.support.dockerplugin import Plugin
from tests.support.waiting import wait_until

CONTAINERS = 20
APPENDS = 5
_numbers = count(1)


@pytest.fixture(scope="module")
def plugin() -> Iterator[Plugin]:
    with plugin_of("--umask", "000") as plugin:
        yield plugin


class Volume:
    """A volume of a pipeline of its own."""

    def __init__(self, engine: Engine, *options: str) -> None:
        self.engine = engine
        self.pipeline = f"p{next(_numbers)}"
        self.name = f"volume-of-{self.pipeline}"
        words = [word for option in (f"pipeline={self.pipeline}", *options) for word in ("--opt", option)]
        engine.docker("volume", "create", "--driver", DRIVER, *words, self.name)

    @property
    def bind(self) -> list[str]:
        return ["--volume", f"{self.name}:/cache"]


@pytest.fixture
def volume(docker_engine: Engine, plugin: Plugin) -> Volume:
    return Volume(docker_engine)


def test_a_volume_from_its_first_to_its_last_day(volume: Volume, plugin: Plugin, containers: Containers) -> None:
    containers.sh("echo 1.4.2 >/cache/version; mkdir /cache/d", *volume.bind, user="1001")
    assert containers.sh("cat /cache/version; echo 2 >>/cache/version", *volume.bind, user="54321") == "1.4.2\n"
    engine = volume.engine
    assert volume.name in engine.docker("volume", "ls", "--quiet", "--filter", f"driver={DRIVER}").split()
    (inspected,) = json.loads(engine.docker("volume", "inspect", volume.name))
    assert inspected["Status"] == {"pipeline": volume.pipeline, "read-only": False}
    containers.close()
    engine.docker("volume", "rm", volume.name)
    assert volume.name not in engine.docker("volume", "ls", "--quiet").split()
    assert (plugin.mount / "pipeline" / volume.pipeline / "version").read_text() == "1.4.2\n2\n"


def test_a_limit(docker_engine: Engine, plugin: Plugin, containers: Containers) -> None:
    volume = Volume(docker_engine, "limit=2")
    assert containers.sh("cd /cache; for i in 1 2 3; do echo $i >k$i; done; ls", *volume.bind) == "k2\nk3\n"


def test_a_run(docker_engine: Engine, plugin: Plugin, containers: Containers) -> None:
    docker_engine.docker("volume", "create", "--driver", DRIVER, "--opt", "run=7", "results")
    containers.sh("echo v >/run7/k", "--volume", "results:/run7", user="1001")
    assert (plugin.mount / "run" / "7" / "k").read_text() == "v\n"


def test_read_only(docker_engine: Engine, plugin: Plugin, containers: Containers) -> None:
    """Whatever the container is told: it is root, and binds the volume for writing."""
    volume = Volume(docker_engine, "ro")
    (plugin.mount / "pipeline" / volume.pipeline / "k").write_text("v\n")
    script = "cat /cache/k; touch /cache/new || rm /cache/k || mount -o remount,rw /cache || true"
    container = containers.start_sh(script, *volume.bind)
    assert container.end() == "v\n"
    assert container.errors().count("Read-only file system") == 2
    assert (plugin.mount / "pipeline" / volume.pipeline / "k").read_text() == "v\n"


@pytest.mark.parametrize("option", ["size=7", "limit=many", "mode=999", "pipeline=../x", "run=7"])
def test_a_wrong_option(docker_engine: Engine, plugin: Plugin, option: str) -> None:
    plugin.expect_log("VolumeDriver")
    done = docker_engine.run(
        *("volume", "create", "--driver", DRIVER, "--opt", "pipeline=x", "--opt", option, "wrong"), check=False
    )
    assert done.returncode != 0
    assert "wrong" not in docker_engine.docker("volume", "ls", "--quiet").split()


def test_many_containers_append_to_one_key(volume: Volume, plugin: Plugin, containers: Containers) -> None:
    script = f"i=0; while [ $i -lt {APPENDS} ]; do echo $HOSTNAME $i >>/cache/log; i=$((i+1)); done"
    for container in [containers.start_sh(script, *volume.bind, user=str(1000 + i)) for i in range(CONTAINERS)]:
        container.end()
    lines = (plugin.mount / "pipeline" / volume.pipeline / "log").read_text().splitlines()
    assert len(lines) == len(set(lines)) == CONTAINERS * APPENDS


def test_a_container_killed_in_the_middle_of_a_write(volume: Volume, plugin: Plugin, containers: Containers) -> None:
    key = plugin.mount / "pipeline" / volume.pipeline / "k"
    key.write_text("old")
    container = containers.start_sh("exec 5>/cache/k; echo half >&5; echo started; sleep 100", *volume.bind)
    wait_until(lambda: "started" in container.output())
    container.docker("kill")
    container.wait()
    assert key.read_text() == "old"


COUNTING = "i=0; while true; do i=$((i+1)); echo $i >>/cache/log && echo $i || true; sleep 0.05; done"
"""It goes on after an error: at a death, the request on its way gets ECONNABORTED, and those after it ENOTCONN."""


def counted(container: Container) -> int:
    return len(container.output().split())


def goes_on(container: Container) -> None:
    """It writes, and what it has written is whole."""
    before = counted(container)
    wait_until(lambda: counted(container) > before + 3)
    assert container.errors() == ""


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_container_outlives_the_plugin(volume: Volume, plugin: Plugin, containers: Containers, end: str) -> None:
    container = containers.start_sh(COUNTING, *volume.bind)
    goes_on(container)
    getattr(plugin, end)()
    goes_on(container)
    plugin.start()
    goes_on(container)
    assert "is in use" in volume.engine.run("volume", "rm", volume.name, check=False).stderr
    containers.close()
    volume.engine.docker("volume", "rm", volume.name)


def test_the_daemon_of_the_mount_is_killed(volume: Volume, plugin: Plugin, containers: Containers) -> None:
    """Who has the volume is told, and finds it again when started again."""
    container = containers.start_sh(COUNTING, *volume.bind)
    goes_on(container)
    plugin.kill_daemon()
    wait_until(lambda: "not connected" in container.errors())
    container.docker("restart", "--time", 0)
    before = len(container.errors())
    wait_until(lambda: container.running)
    count = counted(container)
    wait_until(lambda: counted(container) > count + 3)
    assert container.errors()[before:] == ""


@pytest.mark.parametrize("killed", [False, True])
def test_the_engine_is_started_again(plugin: Plugin, killed: bool) -> None:
    """It finds its volumes again, and a container that it starts by itself has its own."""
    engine = Engine()
    try:
        import_busybox(engine)
        volume, containers = Volume(engine), Containers(engine, BUSYBOX)
        container = containers.start_sh(COUNTING, *volume.bind, "--restart", "always")
        goes_on(container)
        engine.restart(kill=killed)
        wait_until(lambda: container.running)
        goes_on(container)
        assert volume.name in engine.docker("volume", "ls", "--quiet").split()
        containers.close()
        engine.docker("volume", "rm", volume.name)
    finally:
        engine.stop()
