"""A disk that fails where a test tells it to: failing_disk.c in LD_PRELOAD, controlled while its process runs.

variables = environment(scratch, directory_of_the_store)
store = make_mount(store=..., environment=variables)
disk = FailingDisk(variables["FAILING_DISK_CONTROL"])
disk.fail(errno.EIO, first=3)        # the third call from now on, and no other
"""

import errno
import mmap
import struct
import subprocess
from enum import IntFlag
from pathlib import Path

SOURCE = Path(__file__).with_name("failing_disk.c")
FOR_EVER = 2**64 - 1
SHORT = 0
"""In the place of an errno: what is written is written by half."""

_LAYOUT = struct.Struct("=QQQQqiI256s")


class Kind(IntFlag):
    """Which calls count."""

    WRITE = 1
    SYNC = 2
    CUT = 4
    OPEN = 8
    REMOVE = 16
    CHANGING = WRITE | SYNC | CUT | OPEN
    """All that a process cannot do without. What could not be removed is removed by the next one."""
    ALL = CHANGING | REMOVE


def environment(scratch: Path, directory: Path) -> dict[str, str]:
    """What a process is to be started with to have a disk that fails below `directory`. Its files are in `scratch`."""
    library, control = scratch / "failing_disk.so", scratch / "failing_disk"
    if not library.exists():
        command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(SOURCE)]
        subprocess.run(command, check=True)
        control.write_bytes(bytes(mmap.PAGESIZE))
    return {
        "LD_PRELOAD": str(library),
        "FAILING_DISK_CONTROL": str(control),
        "FAILING_DISK_DIRECTORY": f"{directory.resolve()}/",
    }


class FailingDisk:
    """The disk of the processes that were started with such an environment."""

    def __init__(self, control: str) -> None:
        """`control`: FAILING_DISK_CONTROL."""
        with open(control, "r+b") as file:
            self._control = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    def _set(self, first: int, last: int, error: int, kinds: Kind, clock: int) -> None:
        self._control[: _LAYOUT.size] = _LAYOUT.pack(0, first, last, 0, clock, error, kinds, b"")

    def fail(self, error: int, *, first: int = 1, last: int | None = None, kinds: Kind = Kind.CHANGING) -> None:
        """Count from 0 again, and let the calls from `first` to `last` fail; by default that one alone."""
        self._set(first, first if last is None else last, error, kinds, self._state()[4])

    def count(self, kinds: Kind = Kind.CHANGING) -> None:
        """Let nothing fail; count from 0 again."""
        self._set(0, 0, 0, kinds, self._state()[4])

    def mend(self) -> None:
        """The fault goes; the numbers stay as they are."""
        calls, _, _, failed, clock, _, kinds, what = self._state()
        self._control[: _LAYOUT.size] = _LAYOUT.pack(calls, 0, 0, failed, clock, 0, kinds, what)

    def move_clock(self, seconds: float) -> None:
        """Let the time of day be so much later than it is, or earlier."""
        self._set(0, 0, 0, Kind(0), int(seconds * 1e9))

    def _state(self) -> tuple[int, int, int, int, int, int, int, bytes]:
        return _LAYOUT.unpack_from(self._control)

    @property
    def calls(self) -> int:
        """How many calls there were since it was told to fail or to count."""
        return self._state()[0]

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return self._state()[3]

    @property
    def what(self) -> str:
        """The call that failed last, and the name of its file."""
        return self._state()[7].partition(b"\0")[0].decode(errors="replace")

    def close(self) -> None:
        self._control.close()


def told(error: int) -> int:
    """The errno that a writer is to be told for this one of the disk."""
    return errno.ENOSPC if error in (errno.ENOSPC, errno.EDQUOT) else errno.EIO
