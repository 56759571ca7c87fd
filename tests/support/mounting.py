"""Mounts stores for tests through the real command, in a process of their own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Timer
from time import monotonic, sleep
from typing import Any

from tests.support.scratch import abort, detach, make_directory, mount_at, remove_directory

ROOT = Path(__file__).parents[2]
FUSEFS: tuple[str, ...] = (sys.executable, "-m", "fusefs")
READY_SECONDS = 20.0
STOP_SECONDS = 30.0
_TROUBLE = re.compile(r"^.*(?:Traceback|\bERROR\b|\bCRITICAL\b).*$", re.MULTILINE)


class MountedStore:
    """A store, mounted by a daemon of its own until `unmount`, `terminate` or `kill`; `remount` starts another.

    `options` are further arguments of `fusefs mount`, `settings` further environment variables without their
    FUSEFS_ in front, in small letters: `pipeline_object_limit=3`. Both hold for every daemon that this starts,
    the settings for `cli` too. `store` names a store that exists, by default there is a new one. `within` is where
    its directory is made. `program` is the command of the daemon, where that is not to be the real one.
    """

    def __init__(
        self,
        *,
        store: Path | str | None = None,
        options: Iterable[str] = (),
        config: str | None = None,
        environment: Mapping[str, str] | None = None,
        within: Path | None = None,
        program: Iterable[str] | None = None,
        **settings: object,
    ) -> None:
        self.directory = make_directory(within)
        self.path = self.directory / "mount"
        self.path.mkdir()
        self.store = str(self.directory / "objects.db" if store is None else store)
        self.log_path = self.directory / "daemon.log"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.program = [*(FUSEFS if program is None else program)]
        self._options = list(options)
        self._environment = self._make_environment(config, environment or {}, settings)
        self._expected: list[re.Pattern[str]] = []

    def _make_environment(
        self, config: str | None, environment: Mapping[str, str], settings: Mapping[str, object]
    ) -> dict[str, str]:
        """The caller's own configuration must not decide what a test finds."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FUSEFS_")}
        result = {**inherited, "FUSEFS_STORE": self.store, "HOME": str(self.directory), "PYTHONUNBUFFERED": "1"}
        # The checkout's own code, whether it is installed or not.
        result["PYTHONPATH"] = os.pathsep.join(filter(None, [inherited.get("PYTHONPATH"), str(ROOT)]))
        result |= {f"XDG_{name}_HOME": str(self.directory / name.lower()) for name in ("CONFIG", "STATE", "CACHE")}
        config_file = self.directory / "fusefs.toml"
        config_file.write_text(config or "")
        result["FUSEFS_CONFIG"] = str(config_file)
        return {**result, **{f"FUSEFS_{name.upper()}": str(value) for name, value in settings.items()}, **environment}

    @property
    def store_path(self) -> Path:
        """The file of a store that is named by its path."""
        return Path(self.store)

    @property
    def pipeline(self) -> Path:
        return self.path / "pipeline"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def pid(self) -> int:
        """The process id of the daemon."""
        assert self.daemon is not None, "not mounted"
        return self.daemon.pid

    # The daemon

    def mount(self) -> None:
        """Start the daemon and wait until it answers."""
        self.start()
        self._wait_until_ready()

    def start(self) -> None:
        """Start the daemon."""
        assert self.daemon is None, "mounted already"
        with self.log_path.open("ab") as log:
            self.daemon = subprocess.Popen(
                [*self.program, "mount", "--foreground", *self._options, str(self.path)],
                env=self._environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for pytest, which unmounts in order
            )

    def _wait_until_ready(self) -> None:
        assert self.daemon is not None
        deadline = monotonic() + READY_SECONDS
        while not self._answers(deadline):
            if self.daemon.poll() is not None or monotonic() > deadline:
                code = self.daemon.poll()
                self.discard()
                state = "still starts" if code is None else f"ended with {code}"
                raise AssertionError(f"the mount does not answer, the daemon {state}:\n{self.log()}")
            sleep(0.005)

    def _answers(self, deadline: float) -> bool:
        """Whether a daemon answers. A dead mount to be mounted over does not, whatever the kernel caches."""
        mount = mount_at(self.path)
        if mount is None or mount.type != "fuse.fusefs":
            return False
        # A daemon that mounted and never answers would hold the test for ever.
        watchdog = Timer(max(0.1, deadline - monotonic()), abort, [mount])
        watchdog.start()
        try:
            os.statvfs(self.path)  # the one request that the kernel never answers by itself
            # Between the dead mount and the new one lies the bare directory, which answers as well.
            return (now := mount_at(self.path)) is not None and now.type == "fuse.fusefs"
        except OSError:
            return False
        finally:
            watchdog.cancel()
            watchdog.join()

    def unmount(self) -> None:
        """Unmount as a user does, and wait until the daemon has ended well."""
        done = subprocess.run(["fusermount3", "-u", str(self.path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self.wait()

    def terminate(self) -> None:
        """Ask the daemon to end, with SIGTERM, and wait until it has ended well."""
        os.kill(self.pid, signal.SIGTERM)
        self.wait()

    def wait(self, exit_code: int = 0) -> None:
        """Wait until the daemon has ended with `exit_code`."""
        assert self.daemon is not None
        try:
            code = self.daemon.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon goes on after {STOP_SECONDS:.0f} s:\n{self.log()}") from None
        self.daemon = None
        assert code == exit_code, f"the daemon ended with {code}:\n{self.log()}"
        assert mount_at(self.path) is None, "the daemon ended and left its mount"

    def kill(self) -> None:
        """SIGKILL the daemon. The mount stays, dead: detach it with `detach`, or mount over it with `remount`."""
        assert self.daemon is not None
        kill_daemon(self.daemon.pid)
        self.daemon.wait()
        self.daemon = None

    def detach(self) -> None:
        """Take away a dead mount."""
        while (mount := mount_at(self.path)) is not None:
            detach(mount)

    def remount(self) -> None:
        """Unmount where mounted, and mount again. Over a dead mount, `fusefs mount` has to cope by itself."""
        if self.daemon is not None:
            self.unmount()
        self.mount()

    # What it says

    def cli(
        self, *arguments: str | bytes, stdin: bytes | None = None, exit_code: int | None = None, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `fusefs` on the same store, beside the mount. With `exit_code`, that must be how it ends."""
        given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        done = subprocess.run(
            [*FUSEFS, *arguments],
            **{"env": self._environment, "cwd": self.directory, "capture_output": True, "timeout": 120, **options},
            **given,
            check=False,
        )
        if exit_code is not None:
            assert done.returncode == exit_code, f"{arguments!r} ended with {done.returncode}: {done.stderr!r}"
        return done

    def log(self) -> str:
        """What all daemons of this store have said so far."""
        paths = [self.log_path, *sorted(self.directory.glob("objects.db*.log"))]
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())

    def expect_log(self, pattern: str) -> None:
        """Announce an error that the daemon is going to log: a regular expression for that line.

        One for "Traceback" announces the traceback too.
        """
        self._expected.append(re.compile(pattern))

    def unexpected_log(self) -> list[str]:
        """Return the lines that tell of an error which nobody announced."""
        lines = (found[0] for found in _TROUBLE.finditer(self.log()))
        return [line for line in lines if not any(pattern.search(line) for pattern in self._expected)]

    # The end

    def discard(self) -> None:
        """End the daemon and the mount, whatever state they are in."""
        if self.daemon is not None:
            kill_daemon(self.daemon.pid)
        self.detach()
        if self.daemon is not None:
            self.daemon.wait()
            self.daemon = None

    def close(self) -> None:
        """End everything, remove the directory, and fail if the daemon did anything that a test did not announce."""
        try:
            if self.daemon is not None:
                self.unmount()
        finally:
            self.discard()
            trouble, log = self.unexpected_log(), self.log()
            remove_directory(self.directory)
        assert not trouble, "unexpected in the daemon's log:\n" + "\n".join(trouble) + f"\n\nthe whole log:\n{log}"


def kill_daemon(pid: int) -> None:
    """SIGKILL a daemon. Its watchdog too has something to do after the death, and is waited for."""
    with suppress(OSError):  # it has just ended
        watchdogs = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(pid, signal.SIGKILL)
        deadline = monotonic() + READY_SECONDS
        while any(map(_lives, [str(pid), *watchdogs])) and monotonic() < deadline:
            sleep(0.005)


def _lives(pid: str) -> bool:
    """Whether a process has not ended yet. Who adopted it may take a second to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False
