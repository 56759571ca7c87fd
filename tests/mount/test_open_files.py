"""What a process has open, where that cannot be seen."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fusefs.openfiles import holds

USER, GROUP, OTHER_GROUP = 1000, 1000, 2000


def as_user(group: int, do: Callable[[], bool]) -> int:
    """Fork a process of the user with this group. Returns its process id; it ends with 0 where `do` is true."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(USER)
            code = 0 if do() else 1
        finally:
            os._exit(code)
    return pid


@pytest.mark.parametrize("otherwise", [False, True])
def test_what_can_be_listed_and_not_looked_at(tmp_path: Path, otherwise: bool) -> None:
    """As after newgrp(1): the links of the process are there, and lead nowhere for a daemon of the same user."""
    if os.geteuid() != 0:
        pytest.skip("only root has processes of other users")
    path = tmp_path / "k"
    path.touch()
    told, tell = os.pipe()
    ready, say = os.pipe()

    def wait() -> bool:
        os.write(say, b"1")
        return os.read(told, 1) == b"1"

    with path.open("wb"):
        target = as_user(OTHER_GROUP, wait)
        assert os.read(ready, 1) == b"1"
        ino = path.stat().st_ino
        looked = as_user(GROUP, lambda: holds(target, {ino}, for_writing=True, otherwise=otherwise) is otherwise)
        assert os.waitpid(looked, 0)[1] == 0
        os.write(tell, b"1")
        assert os.waitpid(target, 0)[1] == 0
        assert holds(os.getpid(), {ino}, for_writing=True, otherwise=False)
    for fd in (told, tell, ready, say):
        os.close(fd)
