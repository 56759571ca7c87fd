"""What a process has open, where that cannot be seen."""

import os
import subprocess
from pathlib import Path

import pytest

from fusefs.openfiles import holds

USER, GROUP, OTHER_GROUP = 1000, 1000, 2000


def looks(pid: int, ino: int, otherwise: bool) -> bool:
    """What the user finds with its own group."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.setgroups([])
            os.setgid(GROUP)
            os.setuid(USER)
            code = holds(pid, {ino}, for_writing=True, otherwise=otherwise)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return bool(code)


@pytest.mark.parametrize("otherwise", [False, True])
def test_what_can_be_listed_and_not_looked_at(tmp_path: Path, otherwise: bool) -> None:
    """As after newgrp(1): the links of the process are there, and lead nowhere for a daemon of the same user."""
    if os.geteuid() != 0:
        pytest.skip("only root has processes of other users")
    with (tmp_path / "k").open("wb") as file:
        ino, fds = os.fstat(file.fileno()).st_ino, [file.fileno()]
        for group, found in ((GROUP, True), (OTHER_GROUP, otherwise)):
            with subprocess.Popen(
                ["cat"], stdin=subprocess.PIPE, pass_fds=fds, user=USER, group=group, extra_groups=[]
            ) as process:
                assert looks(process.pid, ino, otherwise) is found
                assert process.stdin is not None
                process.stdin.close()
