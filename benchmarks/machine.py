"""What figures depend on beside the code: a description of the machine and of everything that takes part."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import apsw

_PACKAGES = ("pyfuse3", "trio", "apsw", "diskcache")
_PEERS = {"rclone": ["rclone", "version"], "gocryptfs": ["gocryptfs", "--version"]}
_LIKE = ("processor", "processors", "kernel", "filesystem", "python")
"""What two machines share whose figures may be compared."""


def filesystem_type(directory: Path) -> str:
    """Return the type of the filesystem that `directory` is on."""
    resolved = directory.resolve()
    best, found = -1, "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mountpoint, kind, *_ = line.split()
        if resolved.is_relative_to(mountpoint) and len(mountpoint) >= best:
            best, found = len(mountpoint), kind
    return found


def describe(directory: Path) -> dict[str, str]:
    """The machine, by what is said of it. `directory`: where the store lies."""
    found = {
        "processor": _field("/proc/cpuinfo", "model name"),
        "processors": str(os.cpu_count()),
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 1024**2:.0f} GiB",
        "kernel": platform.release(),
        "filesystem": filesystem_type(directory),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "libfuse": _first_version(["fusermount3", "--version"]),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    for name, command in _PEERS.items():
        found[name] = _first_version(command)
    return found


def digest(machine: dict[str, str]) -> str:
    """Eight digits that two machines share when their figures may be compared."""
    return hashlib.sha256("\n".join(machine[name] for name in _LIKE).encode()).hexdigest()[:8]


def commit() -> str:
    """The commit that is measured, with a + where files differ from it."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [git, "describe", "--always", "--abbrev=10", "--dirty=+"], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _field(path: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", Path(path).read_text(), re.MULTILINE)
    return found.group(1).strip() if found else "unknown"


def _first_version(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return "missing"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found.group() if found else "unknown"
