"""A process reads the new key that it has published, by a descriptor from before, while another creates it anew."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import Other
from tests.support.shared_mount import listed, refused

pytestmark = pytest.mark.mount

CREATE = "os.O_RDWR | os.O_CREAT | os.O_TRUNC"


@pytest.fixture
def reader(pipeline: Path, one: Other, other: Other) -> Other:
    """It has nothing else open; the other process has not closed yet."""
    one(f"w = os.open(path, {CREATE}, 0o644); os.write(w, b'hello')", path=pipeline / "k", to=pipeline / "l")
    one("r = os.open(path, os.O_RDONLY)")
    other(f"k = os.open(path, {CREATE}, 0o644); os.write(k, b'of another')", path=pipeline / "k")
    one("os.close(w)")
    return one


def test_what_it_sees(pipeline: Path, reader: Other, other: Other) -> None:
    for _ in range(2):
        assert (reader("os.pread(r, 100, 0)"), reader("os.fstat(r).st_size")) == (b"hello", 5)
        assert other("os.fstat(k).st_size") == 10
    other("os.write(k, b'!')")
    assert (reader("os.lseek(r, 0, os.SEEK_END)"), other("os.lseek(k, 0, os.SEEK_END)")) == (5, 11)
    assert reader("path.read_bytes()") == other("path.read_bytes()") == b"hello"
    other("os.close(k)")
    assert (reader("os.pread(r, 100, 0)"), reader("os.fstat(r).st_size")) == (b"hello", 5)
    assert (pipeline / "k").read_bytes() == b"of another!"


def test_removed(pipeline: Path, reader: Other, other: Other) -> None:
    reader("os.unlink(path)")
    assert listed(pipeline) == []
    with refused(errno.ENOENT):
        reader("os.unlink(path)")
    other("os.close(k)")
    assert (pipeline / "k").read_bytes() == b"of another"


def test_renamed(pipeline: Path, reader: Other, other: Other) -> None:
    reader("os.rename(path, to)")
    assert (pipeline / "l").read_bytes() == b"hello"
    other("os.write(k, b'!'); os.close(k)")
    assert [(pipeline / name).read_bytes() for name in listed(pipeline)] == [b"of another!", b"hello"]


def test_attributes(pipeline: Path, reader: Other, other: Other) -> None:
    reader("os.fchmod(r, 0o600)")
    assert stat.S_IMODE(reader("os.fstat(r)")[stat.ST_MODE]) == 0o600
    assert stat.S_IMODE(other("os.fstat(k)")[stat.ST_MODE]) == 0o644
    other("os.close(k)")
    assert stat.S_IMODE(os.stat(pipeline / "k").st_mode) == 0o644


def test_extended_attributes(reader: Other, other: Other) -> None:
    other("os.setxattr(k, 'user.b', b'of another')")
    assert (reader("os.listxattr(r)"), other("os.listxattr(k)")) == ([], ["user.b"])
    with refused(errno.ENODATA):
        reader("os.getxattr(r, 'user.b')")


def test_by_the_descriptor(pipeline: Path, reader: Other, other: Other) -> None:
    """There is no path to look up again."""
    for code in ("os.truncate(f'/proc/self/fd/{r}', 1)", "os.open(f'/proc/self/fd/{r}', os.O_RDWR)"):
        with refused(errno.ESTALE):
            reader(code)
    assert (pipeline / "k").read_bytes() == b"hello"
    other("os.close(k)")
    assert (pipeline / "k").read_bytes() == b"of another"


def test_written_once_more(pipeline: Path, reader: Other, other: Other) -> None:
    """The two descriptors stand for two files; by the path the process cuts what is published, as anybody does."""
    reader("os.truncate(path, 2)")
    assert (pipeline / "k").read_bytes() == b"he"
    reader(f"w = os.open(path, {CREATE}); os.write(w, b'again')")
    assert reader("os.pread(r, 100, 0)") == b"hello"
    assert (reader("os.fstat(w).st_size"), other("os.fstat(k).st_size")) == (5, 10)
    reader("os.close(w)")
    assert (pipeline / "k").read_bytes() == b"again"
    reader("os.close(r)")
    other("os.close(k)")
    assert (pipeline / "k").read_bytes() == b"of another"


SEEN = "os.pread(r, 100, 0), os.fstat(r).st_size, os.lseek(r, 0, os.SEEK_END), os.fstat(r).st_mode & 0o7777"


@pytest.mark.parametrize("lost", [None, Path.unlink, lambda key: key.write_bytes(b"new")], ids=["", "removed", "put"])
def test_both_read_what_they_have_published(
    pipeline: Path, one: Other, other: Other, lost: Callable[[Path], object] | None
) -> None:
    """Each its own value, once nobody writes the key any more; by its descriptor and in another thread, too."""
    values = {one: b"hello", other: b"of another"}
    for process, value in values.items():
        process(f"w = os.open(path, {CREATE}, 0o644); os.write(w, value)", path=pipeline / "k", value=value)
        process("r = os.open(path, os.O_RDONLY)")
    one("os.close(w)")
    other("os.close(w)")
    if lost is not None:
        lost(pipeline / "k")
    for _ in range(2):
        assert one(SEEN) == (b"hello", 5, 5, 0o644)
        assert other(SEEN) == (b"of another", 10, 10, 0o644)
    other("os.fchmod(r, 0o600)")
    assert (one(SEEN)[3], other(SEEN)[3]) == (0o644, 0o600)
    for process, value in values.items():
        process("f = open(f'/proc/self/fd/{r}', 'rb')")
        assert process("f.read()") == value
        process("from concurrent.futures import ThreadPoolExecutor")
        assert process("ThreadPoolExecutor().submit(os.fstat, r).result().st_size") == len(value)
    other("os.close(r); f.close()")
    assert one(SEEN) == (b"hello", 5, 5, 0o644)
