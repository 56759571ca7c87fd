"""One of two mounts of a store is killed: what it had acknowledged comes before what is done on the other one then."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.shared_mount import listed, refused

pytestmark = pytest.mark.mount

PUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def put_newer(directory: Path) -> None:
    with open(directory / "k", "wb") as file:
        file.write(b"newer")
        file.flush()
        os.fsync(file.fileno())


CHANGES: dict[str, tuple[Callable[[Path], object], dict[str, bytes]]] = {
    "put": (put_newer, {"k": b"newer", "other": b"other"}),
    "removed": (lambda directory: (directory / "k").unlink(), {"other": b"other"}),
    "renamed": (
        lambda directory: (directory / "k").rename(directory / "moved"),
        {"moved": b"older", "other": b"other"},
    ),
    "renamed onto": (lambda directory: (directory / "other").rename(directory / "k"), {"k": b"other"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_does_not_come_back_over_what_is_done_later(make_mount: MakeMount, change: str) -> None:
    """A job of the killed one has it open still, and one close of it was answered."""
    killed = make_mount()
    (killed.pipeline / "p").mkdir()
    for name in ("k", "other"):
        (killed.pipeline / "p" / name).write_text(name)
    beside = make_mount(store=killed.store)
    directory = beside.pipeline / "p"
    assert (directory / "k").read_text() == "k"
    fd = os.open(killed.pipeline / "p" / "k", PUT)
    os.write(fd, b"older")
    os.close(os.dup(fd))
    killed.kill()
    make, expected = CHANGES[change]
    make(directory)
    beside.unmount()
    beside.mount()
    assert {name: (directory / name).read_bytes() for name in listed(directory)} == expected
    with refused(errno.ENOTCONN, errno.ECONNABORTED):
        os.close(fd)
