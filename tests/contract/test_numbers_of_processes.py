"""Who writes a new key is known by the number of its thread, which may be given to another later."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusefs.callers import identity_of
from tests.support.numbers import with_number
from tests.support.processes import SECONDS, Other
from tests.support.shared_mount import listed
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

_UNTIL_TOLD_APART_S = 0.0 if identity_of(os.getpid()) else 1.1
"""Where the kernel does not tell them apart, a number is taken for that of the same thread for a second."""


@contextmanager
def opened_by_one_who_is_gone(path: Path) -> Iterator[int]:
    """The number of a shell that wrote a new key and has ended; a child of it has the key open."""
    script = 'exec 3> "$1"; printf old >&3; exec 4<&0; cat <&4 >&3 2>&3 & exec 3>&-'
    with subprocess.Popen(["bash", "-c", script, "bash", path], stdin=subprocess.PIPE) as shell:
        assert shell.wait(SECONDS) == 0
        yield shell.pid
        assert shell.stdin is not None
        shell.stdin.close()
    wait_until(path.exists)


def number_of_another(pid: int) -> Other:
    time.sleep(_UNTIL_TOLD_APART_S)
    return with_number(pid)


def test_another_process_with_the_number_of_the_opener(pipeline: Path) -> None:
    """It is shown nothing of what that one wrote; what it writes itself is its own."""
    path = pipeline / "k"
    with opened_by_one_who_is_gone(path) as pid, number_of_another(pid) as stranger:
        assert not stranger("os.path.exists(path)", path=path)
        with pytest.raises(FileNotFoundError):
            stranger("os.unlink(path)")
        with pytest.raises(FileNotFoundError):
            stranger("os.rename(path, path.with_name('stolen'))")
        stranger("own = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC); os.write(own, b'stranger')")
        assert stranger("path.read_bytes()") == b"stranger"
        stranger("os.unlink(path); os.close(own)")
        assert listed(pipeline) == []
    assert path.read_bytes() == b"old"
