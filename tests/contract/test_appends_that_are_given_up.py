"""Who appends to a key that is not put in the end is shown its own bytes, and never what another makes of the key."""

import os
from pathlib import Path

import pytest

from tests.support.processes import Other

pytestmark = pytest.mark.mount

OTHERS = {
    "closes it": "os.close(k)",
    "syncs it": "os.fsync(k)",
    "renames it": "os.rename(path, path + b'-renamed')",
}
"""What another process that creates the key, too, does with it."""

CHILD = """
r = os.open(path, os.O_RDONLY)
with open(answer, 'wb', buffering=0) as told:
    if os.fork() == 0:
        os.close(k)
        orders.close()
        told.write(b'ready\\n')
        while not os.path.exists(go):
            time.sleep(0.01)
        told.write(os.pread(r, 100, 0))
        os._exit(0)
time.sleep(100)
"""
"""A process that reads the key which its parent writes, and tells what it reads once it may go on."""


def create(process: Other, key: Path, flag: str, value: bytes) -> None:
    code = f"k = os.open(path, os.O_RDWR | os.O_CREAT | {flag}); os.write(k, value)"
    process(code, path=os.fsencode(key), value=value)


@pytest.mark.parametrize("what", OTHERS)
def test_after_the_key_was_removed(pipeline: Path, one: Other, other: Other, what: str) -> None:
    """By the process that appends: what it has open goes on being what it was."""
    create(one, pipeline / "k", "os.O_APPEND", b"one")
    create(other, pipeline / "k", "os.O_TRUNC", b"other")
    one("os.unlink(path)")
    other(OTHERS[what])
    assert one("os.pread(k, 100, 0)") == b"one"
    assert one("os.fstat(k).st_size") == 3
    one("os.write(k, b' more')")
    assert one("os.pread(k, 100, 0)") == b"one more"
    one("os.ftruncate(k, 5)")
    assert one("os.pread(k, 100, 0)") == b"one m"


def test_after_an_old_value_was_removed(pipeline: Path, one: Other, other: Other) -> None:
    """It goes on being shown behind the value that it was appended to."""
    key = pipeline / "k"
    key.write_bytes(b"old ")
    create(other, key, "os.O_TRUNC", b"other")
    create(one, key, "os.O_APPEND", b"one")
    one("os.unlink(path)")
    other("os.close(k)")
    assert key.read_bytes() == b"other"
    assert one("os.pread(k, 100, 0)") == b"old one"
    one("os.close(k)")
    assert key.read_bytes() == b"other"


@pytest.mark.parametrize("what", OTHERS)
def test_after_its_writer_was_killed(pipeline: Path, tmp_path: Path, one: Other, other: Other, what: str) -> None:
    """A child that only reads what its parent was appending, by the key, has what was written up to then."""
    create(one, pipeline / "k", "os.O_APPEND", b"one")
    create(other, pipeline / "k", "os.O_TRUNC", b"other")
    reading, answer = os.pipe()
    with os.fdopen(reading, "rb") as told:
        go = tmp_path / "go"
        one.begin(CHILD, answer=f"/proc/{os.getpid()}/fd/{answer}", go=str(go))
        assert told.readline() == b"ready\n"
        one.process.kill()
        one.process.wait()
        os.close(answer)
        other(OTHERS[what])
        go.touch()
        assert told.read() == b"one"
