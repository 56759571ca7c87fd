"""The same steps in the mount and in a local directory, and steps of other users."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.support.processes import Other
from tests.support.waiting import wait_until

Result = TypeVar("Result")

Identity = tuple[int, int, list[int]]
"""Uid, gid, supplementary groups. They need no entry in passwd."""
ALICE: Identity = (1001, 1001, [2000])
BOB: Identity = (1002, 1002, [2000])
CAROL: Identity = (1003, 1003, [])
_COARSE = 5
"""CLOCK_REALTIME_COARSE, which Python does not name."""
TEAM = 2000
"""The group that Alice and Bob have in common."""


def outcome(steps: Callable[..., Result], *arguments: Any) -> Result | str:
    """What the steps return, or the name of the errno that they fail with."""
    try:
        return steps(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


class Twins:
    """A directory in the mount and a local one."""

    def __init__(self, mine: Path, local: Path) -> None:
        self.mine = mine
        self.local = local

    def __iter__(self) -> Any:
        return iter((self.mine, self.local))

    def same(self, steps: Callable[[Path], Result]) -> Result | str:
        """What the steps give, which has to be the same in both directories."""
        mine, local = outcome(steps, self.mine), outcome(steps, self.local)
        assert mine == local, _difference(mine, local)
        return mine


def _difference(mine: object, local: object) -> str:
    """The first difference, short enough to be read."""
    if isinstance(mine, (list, tuple)) and isinstance(local, (list, tuple)) and len(mine) == len(local):
        number = next(number for number, pair in enumerate(zip(mine, local, strict=True)) if pair[0] != pair[1])
        return f"step {number}: {_difference(mine[number], local[number])}"
    return f"{mine!r:.300} in the mount, {local!r:.300} in a local directory"


class User:
    """A process of some user that tells what its calls give, or the name of the errno that they fail with."""

    def __init__(self, process: Other, uid: int = 0, gid: int = 0, groups: list[int] | None = None) -> None:
        self._process = process
        code = "os.setgroups(groups); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid); os.umask(0o022)"
        process(code, uid=uid, gid=gid, groups=groups or [])

    def __call__(self, code: str, **names: Any) -> Any:
        return outcome(lambda: self._process(code, **names))


def tick(*paths: Path | int) -> None:
    """Wait until the kernel's clock for times of files is past every time that these have."""
    latest = max(max(found.st_mtime_ns, found.st_ctime_ns) for found in map(_stat, paths))
    wait_until(lambda: time.clock_gettime_ns(_COARSE) > latest)


def _stat(path: Path | int) -> os.stat_result:
    return os.stat(path) if isinstance(path, int) else path.lstat()
