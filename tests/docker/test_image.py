"""The image of docker/Dockerfile: how it is built, what is in it, and how the daemon behaves as a container."""

import os
import re
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.docker.conftest import MakeDaemon
from tests.support import dockerimages
from tests.support.containers import MOUNT, MOUNTPOINT, Containers, daemon_options
from tests.support.dockerengine import Engine
from tests.support.waiting import wait_until

ADDED_MB = 100
"""How much larger than its base the image may be."""
STOP_SECONDS = 5
PLAIN = ("--device", "/dev/fuse", "--cap-add", "SYS_ADMIN")
"""The least that `docker run` has to be given."""


def test_buildkit_builds_the_same(docker_engine: Engine, docker_image: str, containers: Containers) -> None:
    dockerimages.build(docker_engine, "fusefs-test-buildkit", buildkit=True)
    list_files = "cd /opt/fusefs && find . -type f | sort && fusefs --version"
    classic = containers.sh(list_files, image=docker_image)
    assert containers.sh(list_files, image="fusefs-test-buildkit") == classic
    settings = "{{json .Config.Entrypoint}} {{json .Config.Cmd}} {{json .Config.Env}} {{json .Config.Volumes}}"
    assert (
        len({docker_engine.docker("inspect", "-f", settings, tag) for tag in (docker_image, "fusefs-test-buildkit")})
        == 1
    )


@pytest.mark.parametrize("buildkit", ["0", "1"])
def test_a_checkout_without_a_wheelhouse_is_copied_too(docker_engine: Engine, tmp_path: Path, buildkit: str) -> None:
    """How pip then goes on, to a package index, cannot be shown on a machine that reaches none."""
    (tmp_path / "docker").mkdir()
    shutil.copytree(dockerimages.ROOT / "requirements", tmp_path / "requirements")
    copies = [line for line in dockerimages.DOCKERFILE.read_text().splitlines() if line.startswith("COPY requirements")]
    (tmp_path / "Dockerfile").write_text("\n".join([f"FROM {dockerimages.BUSYBOX}", *copies]))
    docker_engine.run("build", tmp_path, DOCKER_BUILDKIT=buildkit)


def test_nothing_that_builds_or_installs_is_in_it(docker_image: str, containers: Containers) -> None:
    found = containers.sh(
        "for tool in gcc cc g++ c++ make ld as cpp pip pip3 easy_install; do command -v $tool || true; done;"
        " find / -xdev '(' -name '*.whl' -o -name pip -o -name setuptools -o -name pytest -o -name mypy"
        " -o -name hatchling -o -name Python.h ')' -not -path '/proc/*'",
        image=docker_image,
    )
    assert found == ""


def test_it_holds_the_versions_of_the_requirements(docker_image: str, containers: Containers) -> None:
    listing = "from importlib.metadata import distributions as d; print(*(x.name + '==' + x.version for x in d()))"
    installed = containers.sh(f'/opt/fusefs/bin/python -c "{listing}"', image=docker_image).split()
    pinned = (dockerimages.ROOT / "requirements" / "dev.txt").read_text().lower().replace("_", "-").split("\n")
    names = {word.lower().replace("_", "-") for word in installed}
    assert {name.partition("==")[0] for name in names} >= {
        "pyfuse3",
        "trio",
        "apsw",
        "hypercorn",
        "starlette",
        "fusefs",
    }
    assert {name for name in names if not name.startswith("fusefs==")} <= set(pinned)


def test_python_compiles_nothing_at_its_start(docker_image: str, containers: Containers) -> None:
    compiled = containers.sh(
        "fusefs mount --help >/dev/null; touch /tmp/now; fusefs --version >/dev/null;"
        " find /opt/fusefs/lib -name '*.py' | wc -l; find /opt/fusefs/lib -name '*.pyc' | wc -l;"
        " find /opt/fusefs -newer /tmp/now",
        image=docker_image,
    ).split()
    assert compiled[0] == compiled[1], "modules, compiled modules, compiled now"
    assert len(compiled) == 2


def test_its_size(docker_engine: Engine, docker_image: str) -> None:
    image, base = (
        int(docker_engine.docker("inspect", "--format", "{{.Size}}", name)) / 1e6
        for name in (docker_image, dockerimages.base_name())
    )
    print(f"the image has {image:.0f} MB, {image - base:.0f} MB more than its base")
    assert image - base < ADDED_MB


def test_the_least_of_options_serves_a_mount(make_daemon: MakeDaemon, containers: Containers) -> None:
    daemon = make_daemon(options=PLAIN)
    containers.sh("mkdir /srv/fusefs/mount/pipeline/app; echo 1 >/srv/fusefs/mount/pipeline/app/k", *daemon.bind)
    assert (daemon.path / "pipeline" / "app" / "k").read_text() == "1\n"


def test_its_health_is_that_of_the_mount(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    wait_until(lambda: daemon.container.health == "healthy")
    os.kill(daemon.container.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: daemon.container.health == "unhealthy", 40)
    finally:
        os.kill(daemon.container.pid, signal.SIGCONT)
    wait_until(lambda: daemon.container.health == "healthy")


def test_it_is_unhealthy_when_the_daemon_inside_is_killed(
    docker_image: str, containers: Containers, shared_directory: Path
) -> None:
    (shared_directory / "mount").mkdir(parents=True)
    container = containers.start_sh(
        f"fusefs mount {MOUNTPOINT}; sleep 100",
        *("--volume", f"{shared_directory}:/srv/fusefs", "--health-interval", "1s"),
        *PLAIN,
        image=docker_image,
    )
    wait_until(lambda: container.health == "healthy")
    container.execute("kill -9 $(cat /run/fusefs/*.lock)")
    wait_until(lambda: container.health == "unhealthy")


@pytest.mark.parametrize("namespace", ["of its own", "host"])
def test_sigterm_ends_it(make_daemon: MakeDaemon, containers: Containers, namespace: str) -> None:
    daemon = make_daemon(options=PLAIN if namespace == "of its own" else daemon_options())
    containers.sh("mkdir /srv/fusefs/mount/pipeline/app; echo 1 >/srv/fusefs/mount/pipeline/app/k", *daemon.bind)
    started = time.monotonic()
    daemon.container.docker("stop", "--time", 20)
    assert time.monotonic() - started < STOP_SECONDS
    assert daemon.container.inspect(".State.ExitCode") == 0
    assert "SIGTERM: leaving" in daemon.container.errors()
    assert daemon.container.output() == ""
    with pytest.raises(OSError, match="not connected"):
        list(daemon.path.iterdir())

    daemon.container.docker("start")
    daemon.wait_until_serving()
    assert (daemon.path / "pipeline" / "app" / "k").read_text() == "1\n"


def test_as_the_first_process_it_gathers_no_zombies(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(options=PLAIN)
    for _ in range(3):
        daemon.container.execute(f"fusefs status {MOUNTPOINT}")
    states = daemon.container.execute("cat /proc/[0-9]*/stat 2>/dev/null | sed 's/.*) //' | cut -c1 | sort | uniq -c")
    assert "Z" not in states


def test_a_user_other_than_root(make_daemon: MakeDaemon, containers: Containers, tmp_path: Path) -> None:
    # Open to all, as udev makes it. Not every machine has udev, and the container gets the permissions of this one's.
    device = tmp_path / "fuse"
    os.mknod(device, stat.S_IFCHR | 0o666, os.stat("/dev/fuse").st_rdev)
    device.chmod(0o666)
    daemon = make_daemon(options=["--device", f"{device}:/dev/fuse", "--cap-add", "SYS_ADMIN"], user="10001")
    containers.sh("mkdir /srv/fusefs/mount/pipeline/app", *daemon.bind, user="1001")
    containers.sh("echo 1 >/srv/fusefs/mount/pipeline/app/k", *daemon.bind, user="1002")
    assert (daemon.path / "pipeline" / "app" / "k").read_text() == "1\n"
    assert Path(f"/proc/{daemon.container.pid}").stat().st_uid == 10001


def test_the_capabilities_of_the_compose_file_are_enough(make_daemon: MakeDaemon, containers: Containers) -> None:
    daemon = make_daemon(options=daemon_options())
    status = Path(f"/proc/{daemon.container.pid}/status").read_text()
    assert bin(int(re.findall(r"CapBnd:\s*(\w+)", status)[0], 16)).count("1") == 4
    assert re.findall(r"NoNewPrivs:\s*(\d)", status) == ["1"]

    # Sees a job's process that is killed, whoever's it is.
    writes = "cd /srv/fusefs/mount/pipeline; mkdir -p app; exec 3>app/$(id -u); echo half >&3; echo written; sleep 60"
    for user in ("1001", "0"):
        job = containers.start_sh(writes, *daemon.bind, user=user)
        wait_until(lambda job=job: job.output() == "written\n")
        job.docker("kill")
    containers.sh("echo whole >/srv/fusefs/mount/pipeline/app/k", *daemon.bind, user="1003")
    assert [path.name for path in (daemon.path / "pipeline" / "app").iterdir()] == ["k"]


def test_the_bare_directory_is_protected_when_the_daemon_is_killed(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(options=daemon_options())
    daemon.kill()
    assert daemon.container.wait() == 137
    subprocess.run(["umount", "-l", daemon.path], check=True)
    with pytest.raises(PermissionError):
        (daemon.path / "stray").touch()
    daemon.container.docker("start")
    daemon.wait_until_serving()


def test_the_default_command_is_the_one_of_the_tests(docker_engine: Engine, docker_image: str) -> None:
    command = docker_engine.docker("inspect", "--format", '{{join .Config.Cmd " "}}', docker_image).split()
    assert command == [word for word in MOUNT if word not in ("--umask", "000")]
