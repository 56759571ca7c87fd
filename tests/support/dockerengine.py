"""A Docker engine of the tests' own: a real dockerd with everything that belongs to it in one scratch directory.

It leaves alone whatever engine the machine has: it has its own socket and data, and touches neither the network nor the
firewall. Containers get no network. Only root can start one.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from fusefs.bare import release
from tests.support.processes import sh
from tests.support.scratch import detach, fuse_mounts, make_directory, owner_of, run_is_over

SWITCH = "FUSEFS_TEST_NO_DOCKER"
"""Set to 1, leaves out the tests that need an engine."""

_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_PROGRAMS = ("dockerd", "docker", "docker-compose", "debootstrap", "busybox", "setpriv")
_READY_SECONDS = 60.0
_STOP_SECONDS = 40.0
_NAME = "engine"
_RUN = "run"
PLUGINS = Path("/run/docker/plugins")
"""Where every engine of a machine looks for plugins."""
_ENGINE = (b"dockerd", b"containerd", b"containerd-shim", b"containerd-shim-runc-v2")


class EngineError(Exception):
    """This machine runs no Docker engine, and why."""


def find_program(name: str) -> str | None:
    """Debian's own docker first: others in the PATH may be clients without the builders."""
    return shutil.which(name, path=f"/usr/bin:{_PATH}")


def what_is_missing() -> str:
    """Say why this machine cannot run the tests in containers; nothing where it seems to be able to."""
    if os.geteuid() != 0:
        return "only root can start a Docker engine"
    missing = [program for program in _PROGRAMS if find_program(program) is None]
    return f"{', '.join(missing)} not installed: run script/setup docker" if missing else ""


class Engine:
    """An engine at work until `stop`."""

    def __init__(self, options: Sequence[str] = (), prepare: str = "") -> None:
        """`options` are further ones of dockerd; `prepare` are shell commands for mounts that it alone is to see."""
        self.directory = make_directory() / _NAME
        self.directory.mkdir()
        # The paths of sockets must be short, and those of scratch directories are not.
        self._run = make_directory(Path("/run"))
        (self.directory / _RUN).symlink_to(self._run)
        self.shared = self.directory / "shared"
        """A directory in which mounts propagate to those who bind it so. In / itself they may not."""
        self.log_path = self.directory / "log"
        self.shared.mkdir()
        self.directory.parent.chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "FUSEFS_"))},
            "PATH": f"/usr/bin:{_PATH}",
            "DOCKER_HOST": f"unix://{self._run}/sock",
            "DOCKER_CONFIG": str(self.directory / "client"),
        }
        self._options = options
        self._prepare = prepare
        self._process: subprocess.Popen[bytes] | None = None
        try:
            sh(
                "mount --bind shared shared && mount --make-private shared && mount --make-rshared shared",
                self.directory,
            )
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        # The machine's own configuration is not ours.
        (self.directory / "daemon.json").write_text("{}")
        places = {
            "--config-file": self.directory / "daemon.json",
            "--data-root": self.directory / "data",
            "--exec-root": self._run / "exec",
            "--pidfile": self._run / "pid",
        }
        network = ["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]
        command = [
            *(["unshare", "--mount", "--propagation", "unchanged", "sh", "-ec"] if self._prepare else []),
            *([f'mount --make-private /\n{self._prepare}\nexec "$@"', "sh"] if self._prepare else []),
            *("setpriv", "--pdeathsig", "TERM"),  # a run that is killed leaves no engine behind
            *("dockerd", "--storage-driver", "overlay2", "--host", self.environment["DOCKER_HOST"], *network),
            *(str(word) for pair in places.items() for word in pair),
            *self._options,
        ]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory
            )
        deadline = monotonic() + _READY_SECONDS
        while self.run("version", check=False).returncode != 0:
            if self._process.poll() is not None or monotonic() > deadline:
                raise EngineError(f"dockerd does not start here:\n{self.log()}")
            sleep(0.1)

    def restart(self, *, kill: bool = False) -> None:
        """End dockerd, in order or by SIGKILL with its containerd, and start it again with the same data."""
        assert self._process is not None
        if kill:
            self._process.kill()
            for pid in _processes(self._run, (b"containerd",)):
                os.kill(pid, signal.SIGKILL)
            # Where nobody waits for orphans it stays a zombie, which a new dockerd would take for the living.
            (self._run / "exec" / "containerd" / "containerd.pid").unlink()
        else:
            self._process.terminate()
        self._process.wait(_STOP_SECONDS)
        self._start()

    def run(
        self, *arguments: object, program: str = "docker", check: bool = True, seconds: float = 60, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a client of this engine, docker or docker-compose, with further environment variables."""
        done = subprocess.run(
            [find_program(program) or program, *map(str, arguments)],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert not check or done.returncode == 0, f"{program} {arguments}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done

    def docker(self, *arguments: object, seconds: float = 60) -> str:
        """Run docker, which has to succeed, and return what it prints."""
        return self.run(*arguments, seconds=seconds).stdout.strip()

    def log(self) -> str:
        """The end of what dockerd said."""
        return self.log_path.read_text(errors="replace")[-4000:] if self.log_path.exists() else ""

    def stop(self) -> None:
        """End the containers and the engine, and leave nothing, whatever state they are in."""
        if self._process is not None and self._process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                if containers := self.run("ps", "-aq", check=False).stdout.split():
                    self.run("rm", "-fv", *containers, check=False)
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            self._process.kill()
            self._process.wait()
        _remove(self.directory)


def plugin_name() -> str:
    """What a volume plugin of this run is called: not what a plugin of this machine is called."""
    return f"fusefs-test-{os.getpid()}"


def sweep() -> list[Path]:
    """Take away the engines of runs that have ended, and their plugins; returns the directories and the sockets."""
    return [*_sweep_engines(), *_sweep_plugins()]


def _sweep_plugins() -> list[Path]:
    """An engine that finds a dead plugin looks for it for 15 seconds before each container with a volume."""
    dead = [
        path
        for path in PLUGINS.glob("*.sock")
        if (owner := owner_of(Path(path.name))) is not None and run_is_over(owner)
    ]
    for path in dead:
        path.unlink(missing_ok=True)  # another run may sweep at the same time
    return dead


def _sweep_engines() -> list[Path]:
    found = {
        parent
        for path in _mountpoints()
        for parent in path.parents
        if parent.name == _NAME and (owner := owner_of(parent)) is not None and run_is_over(owner)
    }
    for directory in found:
        _remove(directory)
    return sorted(found)


def _remove(directory: Path) -> None:
    run = (directory / _RUN).resolve()
    _end_processes(run)
    for mount in fuse_mounts():
        if mount.path.is_relative_to(directory):
            detach(mount)
    for path in reversed(_mounted_in(directory, run)):
        subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)
    if left := _mounted_in(directory, run):
        raise RuntimeError(f"still mounted: {left}")
    for name, _, _ in os.walk(directory / "shared"):
        release(name)  # a mountpoint whose daemon was killed refuses writes
    with suppress(FileNotFoundError):  # another run may sweep at the same time
        for path in run.parent.glob(f"{run.name}*"):  # one that remaps users makes another beside it
            shutil.rmtree(path)
        shutil.rmtree(directory.parent)


def _end_processes(run: Path) -> None:
    """End what the engine left: containerd and its shims, known by the directory in their arguments."""
    deadline = monotonic() + _STOP_SECONDS
    while processes := _processes(run):
        number = signal.SIGTERM if monotonic() < deadline - _STOP_SECONDS / 2 else signal.SIGKILL
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if monotonic() > deadline:
            raise RuntimeError(f"processes of {run} do not end: {processes}")
        sleep(0.1)


def _processes(run: Path, names: Sequence[bytes] = _ENGINE) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                program, *arguments = (entry / "cmdline").read_bytes().split(b"\0")
                ours = any(os.fsencode(run) in argument for argument in arguments)
                if ours and os.path.basename(program) in names:
                    found.append(int(entry.name))
    return found


def _mounted_in(*directories: Path) -> list[Path]:
    return [path for path in _mountpoints() if any(path.is_relative_to(directory) for directory in directories)]


def _mountpoints() -> list[Path]:
    """Every mountpoint, in the order in which they were mounted."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    return [Path(line.split(" ")[4]) for line in lines]
