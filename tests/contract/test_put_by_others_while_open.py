"""A key is open for writing while others, whom no name leads to, put it: a new key renamed there, one that was removed.

Whoever comes then works on what the key stands for, as if nobody had it open.
"""

import os
import stat
from pathlib import Path

import pytest

from tests.support.processes import Other
from tests.support.shared_mount import listed

pytestmark = pytest.mark.mount

NEW = "t = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666); os.write(t, value); os.rename(path, to)"
OLD = b"old old old"


@pytest.fixture
def key(pipeline: Path, one: Other, other: Other) -> Path:
    """One process has it open and wrote nothing; the other has renamed a new key to it, which it goes on writing."""
    key = pipeline / "l"
    key.write_bytes(OLD)
    one("l = os.open(path, os.O_RDWR)", path=key, to=pipeline / "m")
    other("os.umask(0)")
    other(NEW, path=pipeline / "t", to=key, value=b"aaaa bbbb")
    return key


def test_truncate_cuts_what_was_renamed_there(key: Path, one: Other, other: Other) -> None:
    os.truncate(key, 6)
    assert key.read_bytes() == b"aaaa b"
    other("os.close(t)")
    assert (key.read_bytes(), one("os.pread(l, 100, 0)")) == (b"aaaa b", OLD)
    os.truncate(key, 2)
    assert key.read_bytes() == b"aa"


def test_truncate_cuts_what_was_put_anew(pipeline: Path, one: Other, other: Other) -> None:
    key = pipeline / "k"
    key.write_text("first")
    other("k = os.open(path, os.O_WRONLY | os.O_TRUNC); os.write(k, b'value')", path=key)
    os.unlink(key)
    one("k = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)", path=key)
    other("os.close(k)")
    assert (key.read_bytes(), one("os.fstat(k).st_size")) == (b"value", 5)
    os.truncate(key, 3)
    assert key.read_bytes() == b"val"
    one("os.write(k, b'!'); os.close(k)")
    assert key.read_bytes() == b"val!"


def test_attributes_that_are_set_by_path_stay(key: Path, other: Other) -> None:
    key.chmod(0o600)
    os.setxattr(key, "user.a", b"1")
    other("os.write(t, b'!'); os.close(t)")
    assert key.read_bytes() == b"aaaa bbbb!"
    assert (stat.S_IMODE(key.stat().st_mode), os.listxattr(key)) == (0o600, ["user.a"])


def test_attributes_that_are_set_by_descriptor_stay(pipeline: Path, one: Other, other: Other) -> None:
    """Also where those who open the key are among others, who are creating it anew."""
    key = pipeline / "k"
    key.write_text("first")
    other("k = os.open(path, os.O_WRONLY | os.O_TRUNC); os.write(k, b'value')", path=key)
    os.unlink(key)
    one("k = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)", path=key)
    other("os.fsync(k); os.fchmod(k, 0o600); os.setxattr(k, 'user.a', b'1')")
    key.write_text("overwritten")
    assert (stat.S_IMODE(key.stat().st_mode), os.listxattr(key)) == (0o600, ["user.a"])


def test_edits_are_shared_with_who_renamed_it_there(key: Path, other: Other) -> None:
    with Other() as third:
        third("l = os.open(path, os.O_RDWR)", path=key)
        other("os.pwrite(t, b'AAAA', 0)")
        third("os.pwrite(l, b'BBBB', 5)")
        assert other("os.pread(t, 100, 0)") == b"AAAA BBBB"
        other("os.close(t)")
        third("os.close(l)")
    assert key.read_bytes() == b"AAAA BBBB"


def test_edits_are_shared_with_who_renamed_what_it_edits(pipeline: Path, one: Other, other: Other) -> None:
    for name in "kl":
        (pipeline / name).write_bytes(b"aaaa bbbb")
    one("l = os.open(path, os.O_RDWR)", path=pipeline / "l")
    other("k = os.open(path, os.O_RDWR); os.pwrite(k, b'AAAA', 0)", path=pipeline / "k", to=pipeline / "l")
    other("os.rename(path, to)")
    with Other() as third:
        third("l = os.open(path, os.O_RDWR); os.pwrite(l, b'BBBB', 5); os.close(l)", path=pipeline / "l")
    other("os.close(k)")
    assert (pipeline / "l").read_bytes() == b"AAAA BBBB"


def test_who_had_it_open_removes_it(key: Path, one: Other, other: Other) -> None:
    one("os.write(l, b'lost'); os.unlink(path); os.close(l)")
    other("os.close(t)")
    assert listed(key.parent) == []


def test_all_that_a_process_has_open_is_gone_with_the_name(pipeline: Path, other: Other) -> None:
    """What it opened before somebody else removed the name, and what it opened anew."""
    key = pipeline / "k"
    other("old = os.open(path, os.O_WRONLY | os.O_CREAT); os.write(old, b'old'); os.fsync(old)", path=key)
    os.unlink(key)
    other("new = os.open(path, os.O_WRONLY | os.O_CREAT); os.write(new, b'new'); os.write(old, b'older')")
    other("os.unlink(path); os.close(old); os.close(new)")
    assert listed(pipeline) == []


def test_who_had_it_open_renames_it(key: Path, one: Other, other: Other) -> None:
    one("os.pwrite(l, b'NEW', 0); os.rename(path, to)")
    assert (key.parent / "m").read_bytes() == b"aaaa bbbb"
    one("os.close(l)")
    assert {name: (key.parent / name).read_bytes() for name in listed(key.parent)} == {"m": b"NEW old old"}


def test_who_reads_goes_on_reading(key: Path, one: Other, other: Other) -> None:
    """Whatever the two put, and whoever of them is the last."""
    with key.open("rb", buffering=0) as second:
        other("os.pwrite(t, b'third'.ljust(300000), 0); os.fsync(t)")
        with key.open("rb", buffering=0) as third:
            one("os.pwrite(l, b'fourth', 0); os.fsync(l)")
            other("os.close(t)")
            one("os.close(l)")
            os.truncate(key, 6)
            values = [os.pread(file.fileno(), 400000, 0).rstrip() for file in (second, third)]
    assert (values, key.read_bytes()) == ([b"aaaa bbbb", b"third"], b"fourth")
