"""The volume plugin for tests: the real process on a socket of its own, spoken to as Docker does."""

import contextlib
import errno
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from fusefs.presence import server
from tests.support.mounting import ROOT, kill_daemon
from tests.support.scratch import detach, fuse_mounts, make_directory, remove_directory
from tests.support.waiting import wait_until

SECONDS = 60.0
_TROUBLE = re.compile(r"^.*(?:Traceback|\bERROR\b|\bCRITICAL\b).*$", re.MULTILINE)


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path: Path, seconds: float = SECONDS) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Plugin:
    """A plugin in a directory of its own. `start` it; `stop` or `kill` it and start it again; `close` at the end."""

    def __init__(self, *options: str, command: Sequence[str] = (), **environment: str) -> None:
        """`command` stands before the plugin's own, for one that changes something and executes it."""
        self.scratch = make_directory()
        self.directory = self.scratch
        self.socket = self.scratch / "fusefs.sock"
        """Where it is spoken to."""
        self.own_socket: Path | None = None
        """Where it is told to listen, if that is another."""
        self.store = self.scratch / "objects.db"
        self.log_path = self.scratch / "plugin.log"
        self.mount = self.directory / "mount"
        self.views = self.directory / "volumes"
        self.state = self.directory / "volumes.json"
        self.process: subprocess.Popen[bytes] | None = None
        self.options = list(options)
        self._command = list(command)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FUSEFS_")}
        (self.scratch / "fusefs.toml").touch()
        self.environment = {
            **inherited,
            "FUSEFS_CONFIG": str(self.scratch / "fusefs.toml"),
            "FUSEFS_STORE": str(self.store),
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        self._expected: list[re.Pattern[str]] = []

    # Its life

    def spawn(self, **options: Any) -> subprocess.Popen[bytes]:
        """Start the process, and do not wait for it."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, *self.words()],
                **{"env": self.environment, "cwd": "/", "stdout": log, "stderr": log, **options},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self.process

    def words(self) -> list[str]:
        """The command."""
        own = ["--socket", str(self.own_socket or self.socket), "--directory", str(self.directory), *self.options]
        return [sys.executable, "-m", "fusefs", "docker-plugin", *own]

    def start(self, **options: Any) -> None:
        """Start the process, and return when it answers."""
        self.spawn(**options)
        deadline = monotonic() + SECONDS
        while not self._answers():
            assert self.process is not None
            assert self.process.poll() is None, f"the plugin ended:\n{self.log()}"
            assert monotonic() < deadline, f"the plugin does not answer:\n{self.log()}"
            sleep(0.02)

    def _answers(self) -> bool:
        try:
            return self.call("/Plugin.Activate")[0] == 200
        except OSError:
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 20) -> None:
        """End the process in order, and wait for that."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(seconds)
        self.process = None
        assert code == 0, f"the plugin ended with {code}:\n{self.log()}"

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    @property
    def daemon(self) -> int | None:
        """The process that serves the mount."""
        return server(str(self.mount))

    def kill_daemon(self) -> None:
        """Kill the process that serves the mount, and return when its mount is dead."""
        pid = self.daemon
        assert pid
        kill_daemon(pid)
        wait_until(self._dead)

    def _dead(self) -> bool:
        try:
            os.statvfs(self.mount)
        except OSError as error:
            return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        return False

    def log(self) -> str:
        """What the plugin and the daemons of its mount have said."""
        paths = [self.log_path, *sorted(self.scratch.glob("objects.db*.log"))]
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())

    def expect_log(self, pattern: str) -> None:
        """Announce an error that is going to be logged: a regular expression for that line."""
        self._expected.append(re.compile(pattern))

    def close(self) -> None:
        """End everything, remove the directory, and fail if there was an error that nobody had announced."""
        if self.process is not None:
            self.kill()
        if pid := self.daemon:  # first, or it says that its connection was aborted
            kill_daemon(pid)
        for mount in fuse_mounts():
            if mount.path.is_relative_to(self.scratch):
                detach(mount)
        # Its daemon still writes to the store and to its log.
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self.daemon is None)
        log = self.log()
        lines = [found[0] for found in _TROUBLE.finditer(log)]
        trouble = [line for line in lines if not any(pattern.search(line) for pattern in self._expected)]
        remove_directory(self.scratch)
        assert not trouble, "unexpected in the log:\n" + "\n".join(trouble) + f"\n\nthe whole log:\n{log}"

    # Speaking to it

    def call(
        self, path: str, body: object = None, *, method: str = "POST", raw: bytes | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Send a request; returns the status and the answer, which has to be JSON of the protocol."""
        connection = UnixConnection(self.socket)
        try:
            content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
            connection.request(method, path, content)
            response = connection.getresponse()
            answer = response.read()
            assert response.headers["Content-Type"] == "application/vnd.docker.plugins.v1.1+json"
            return response.status, json.loads(answer)
        finally:
            connection.close()

    def ok(self, operation: str, **body: object) -> dict[str, Any]:
        """Do what has to succeed."""
        status, answer = self.call(f"/VolumeDriver.{operation}", body)
        assert (status, answer.pop("Err")) == (200, ""), (operation, body, answer, self.log())
        return answer

    def refused(self, operation: str, **body: object) -> str:
        """Do what has to be refused, and return the message."""
        status, answer = self.call(f"/VolumeDriver.{operation}", body)
        assert status == 500, (operation, body, answer)
        assert list(answer) == ["Err"]
        message = answer["Err"]
        assert isinstance(message, str)
        assert message
        assert "\n" not in message
        return message

    def create(self, name: str, **options: str) -> None:
        self.ok("Create", Name=name, Opts={name.replace("_", "-"): value for name, value in options.items()})

    def mounted(self, name: str, by: str = "1") -> Path:
        return Path(self.ok("Mount", Name=name, ID=by)["Mountpoint"])

    def unmount(self, name: str, by: str = "1") -> None:
        self.ok("Unmount", Name=name, ID=by)
