"""Containers for tests: started on the tests' own engine, watched, and removed at the end."""

import json
import os
import re
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fusefs.bare import release
from fusefs.status import State, status_of
from tests.support.dockerengine import Engine
from tests.support.dockerimages import FUSEFS
from tests.support.mounting import ROOT
from tests.support.scratch import detach, mount_at
from tests.support.waiting import wait_until

COMPOSE_FILE = ROOT / "docker" / "compose.yaml"
MOUNTPOINT = "/srv/fusefs/mount"
"""Where the image mounts."""
MOUNT = ("mount", "--foreground", "--allow-other", "--leave-dead", "--umask", "000", MOUNTPOINT)

UNPRIVILEGED = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges")
_TROUBLE = re.compile(r"^.*(?:Traceback|\bERROR\b|\bCRITICAL\b).*$", re.MULTILINE)


def capabilities() -> list[str]:
    """Those that docker/compose.yaml gives the daemon."""
    found = re.findall(r"^      - ([A-Z_]+) #", COMPOSE_FILE.read_text(), re.MULTILINE)
    assert found, "docker/compose.yaml gives the daemon no capability"
    return found


def daemon_options() -> list[str]:
    """What docker/compose.yaml gives the daemon, beside its binds, as options of `docker run`."""
    added = [word for name in capabilities() for word in ("--cap-add", name)]
    return ["--pid", "host", "--device", "/dev/fuse", *UNPRIVILEGED, *added, "--read-only", "--tmpfs", "/run"]


class Container:
    """One container, by its id."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name

    def inspect(self, template: str) -> Any:
        """A part of what the engine knows of it: `.State.Pid`."""
        return json.loads(self.engine.docker("inspect", "--format", f"{{{{json {template}}}}}", self.name))

    @property
    def pid(self) -> int:
        """Its first process, as this machine sees it."""
        pid: int = self.inspect(".State.Pid")
        return pid

    @property
    def health(self) -> str:
        health: str = self.inspect(".State.Health.Status")
        return health

    @property
    def running(self) -> bool:
        return self.inspect(".State.Running") is True

    def output(self) -> str:
        return self.engine.run("logs", self.name).stdout

    def errors(self) -> str:
        """What it wrote to stderr."""
        return self.engine.run("logs", self.name).stderr

    def execute(self, script: str, *options: str) -> str:
        """Run a shell script in it, which has to succeed, and return its output."""
        return self.engine.docker("exec", *options, self.name, "sh", "-euc", script)

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end, and return its exit code."""
        return int(self.engine.docker("wait", self.name, seconds=seconds))

    def end(self) -> str:
        """Wait for its end, which has to be a good one, and return its output."""
        code = self.wait()
        assert code == 0, f"ended with {code}: {self.output()}{self.errors()}"
        return self.output()

    def docker(self, command: str, *options: object) -> str:
        """Do something with it: kill, stop, start, restart."""
        return self.engine.docker(command, *options, self.name)


class Containers:
    """Starts containers, without network; all of them are removed at the end."""

    def __init__(self, engine: Engine, image: str) -> None:
        self.engine = engine
        self.image = image
        self._started: list[str] = []

    def start(self, *command: str, options: Sequence[object] = (), image: str = "") -> Container:
        """Start a command in a container that goes on by itself."""
        name = self.engine.docker("create", "--network", "none", *options, image or self.image, *command)
        self._started.append(name)
        self.engine.docker("start", name)
        return Container(self.engine, name)

    def sh(self, script: str, *options: object, user: str = "0", image: str = "") -> str:
        """Run a shell script to its end, which has to be a good one, and return its output."""
        started = self.start("-euc", script, options=["--entrypoint", "sh", "--user", user, *options], image=image)
        return started.end()

    def start_sh(self, script: str, *options: object, user: str = "0", image: str = "") -> Container:
        """Start a shell script."""
        return self.start("-euc", script, options=["--entrypoint", "sh", "--user", user, *options], image=image)

    def close(self) -> None:
        if self._started:
            self.engine.run("rm", "--force", "--volumes", *self._started, check=False)


class DaemonContainer:
    """A daemon in a container, with the directory that it shares; `path` is its mount as this machine sees it."""

    def __init__(
        self, containers: Containers, directory: Path, *, options: Sequence[object] | None = None, user: str = "0"
    ) -> None:
        self.directory = directory
        self.path = directory / "mount"
        self.expected = ""
        directory.mkdir(mode=0o755)
        os.chown(directory, int(user), int(user))
        given = daemon_options() if options is None else options
        bind = f"{directory}:/srv/fusefs:rshared"
        self.container = containers.start(
            *MOUNT, image=FUSEFS, options=["--user", user, "--volume", bind, "--health-interval", "1s", *given]
        )
        self.wait_until_serving()

    @property
    def bind(self) -> list[str]:
        """How a job sees the mount: options of `docker run`."""
        return ["--volume", f"{self.directory}:/srv/fusefs:rslave"]

    def wait_until_serving(self) -> None:
        def answers() -> bool:
            assert self.container.running, f"the daemon has ended: {self.container.errors()}"
            return status_of(str(self.path)).state is State.SERVING

        wait_until(answers)

    def kill(self) -> None:
        """SIGKILL to the daemon's process."""
        os.kill(self.container.pid, signal.SIGKILL)

    def close(self) -> None:
        """Take the mount away, and fail if the daemon told of an error."""
        trouble = _TROUBLE.findall(self.container.errors())
        with ExitStack() as todo:
            todo.callback(release, str(self.path))
            todo.callback(take_away, self.path)
            self.container.docker("kill" if self.container.running else "inspect")
        assert not trouble, f"unexpected in the daemon's log: {trouble}"


def take_away(path: Path) -> None:
    """Unmount what is mounted there, dead or not."""
    while (mount := mount_at(path)) is not None:
        detach(mount)
