"""docker/compose.yaml, as it is: what it passes on, what its jobs may do, and the end of its daemon under a job."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from tests.support.containers import COMPOSE_FILE, Container, Containers, take_away
from tests.support.dockerengine import Engine, find_program
from tests.support.jobs import Job, check

UP_SECONDS = 120


class Project:
    """The services of the file, in a shared directory of their own."""

    def __init__(self, engine: Engine, image: str, directory: Path) -> None:
        self.engine = engine
        self.image = image
        self.directory = directory
        self.mount = directory / "mount"

        self.options = ["--project-name", directory.name, "--file", str(COMPOSE_FILE), "--no-ansi"]
        self.variables = {
            "FUSEFS_SHARED": str(directory),
            "FUSEFS_IMAGE": image,
            "FUSEFS_JOB_IMAGE": image,
        }

    def compose(self, *arguments: str) -> str:
        command = [*self.options, *arguments]
        return self.engine.run(*command, program="docker-compose", seconds=UP_SECONDS, **self.variables).stdout

    def container(self, service: str) -> Container:
        return Container(self.engine, self.compose("ps", "--quiet", service).strip())

    def up(self) -> None:
        """Start everything, and wait until the last job has ended well."""
        self.compose("up", "--no-build", "--detach")
        self.container("test").end()


@pytest.fixture(scope="module")
def project(docker_engine: Engine, docker_image: str) -> Iterator[Project]:
    made = Project(docker_engine, docker_image, docker_engine.shared / "compose")
    try:
        made.up()
        yield made
    finally:
        made.compose("down", "--volumes")
        take_away(made.mount)


def test_a_value_an_artifact_and_a_cache_are_passed_on(project: Project) -> None:
    assert project.container("build").output() == "the cache has 0 entries\n"
    assert project.container("test").output().splitlines() == [
        "the value is 1.4.2",
        "the artifact was built by user 1001",
        "the cache has 2 entries",
    ]


def test_the_next_time_finds_the_cache(project: Project) -> None:
    before = len(project.container("build").output().splitlines())
    project.up()
    assert project.container("build").output().splitlines()[before:] == ["the cache has 2 entries"]


@pytest.mark.parametrize("service", ["build", "test"])
def test_jobs_have_no_privileges(project: Project, service: str) -> None:
    seen = project.compose(
        *("run", "--rm", "-T", "--no-deps", service),
        "cat /proc/self/status; ls /dev; touch /stray 2>&1 || true; ls /sys/class/net",
    )
    capabilities = re.findall(r"^Cap(?:Inh|Prm|Eff|Bnd|Amb):\s*(\w+)$", seen, re.MULTILINE)
    assert [int(mask, 16) for mask in capabilities] == [0] * 5
    assert re.findall(r"^NoNewPrivs:\s*(\d)$", seen, re.MULTILINE) == ["1"]
    assert re.findall(r"^Uid:\s*(\d+)", seen, re.MULTILINE) == [{"build": "1001", "test": "1002"}[service]]
    assert "fuse" not in seen.split("Cpus_allowed", 1)[1].split()
    assert "Read-only file system" in seen
    assert "eth0" not in seen


@pytest.mark.parametrize("end", ["restart", "kill -9"])
def test_a_job_at_work_outlives_the_daemon(project: Project, containers: Containers, end: str) -> None:
    daemon = project.container("fusefs")
    bind = ["--volume", f"{project.directory}:/srv/fusefs:rslave"]
    (project.mount / "pipeline" / "app" / "log").unlink(missing_ok=True)
    job = Job(containers, "/srv/fusefs/mount", project.image, *bind)
    if end == "restart":
        project.compose("restart", "fusefs")
    else:
        os.kill(daemon.pid, signal.SIGKILL)  # the engine starts it again by itself
    report = job.report()
    check(report, (project.mount / "pipeline" / "app" / "log").read_text())
    assert "ERROR" not in daemon.errors()


def test_up_prints_the_value(project: Project) -> None:
    """In the foreground, as the README shows it. Ctrl-C stops the daemon, so this comes last."""
    program = find_program("docker-compose")
    assert program is not None
    said: list[str] = []
    with subprocess.Popen(
        [program, *project.options, "up", "--no-build"],
        env={**project.engine.environment, **project.variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        watchdog = Timer(UP_SECONDS, process.kill)
        watchdog.start()
        for line in process.stdout:
            if line.startswith("test_1"):
                said.append(line.split("|", 1)[1].strip())
                if said[-1].startswith("the cache has"):
                    process.send_signal(signal.SIGINT)
        watchdog.cancel()
    assert said[-3:-1] == ["the value is 1.4.2", "the artifact was built by user 1001"]
