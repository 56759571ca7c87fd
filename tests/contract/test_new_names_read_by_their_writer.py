"""A process that writes a new key and reads it by path, before anybody closed it: it is shown its own file."""

import os
import stat
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.processes import Other
from tests.support.shared_mount import listed

pytestmark = pytest.mark.mount

OPEN = "os.O_RDWR | os.O_CREAT | os.O_TRUNC"


def start(process: Other, path: Path, value: bytes) -> None:
    """Write a new key, and read it through another descriptor; both stay open."""
    process(f"w = os.open(path, {OPEN}); os.write(w, value); r = os.open(path, os.O_RDONLY)", path=path, value=value)


def read(process: Other) -> bytes:
    value: bytes = process("os.pread(r, 100, 0)")
    return value


def test_what_another_process_writes_there_is_not_shown(pipeline: Path, one: Other, other: Other) -> None:
    start(one, pipeline / "k", b"one")
    start(other, pipeline / "k", b"other")
    assert (read(one), read(other)) == (b"one", b"other")
    assert one("os.pread(os.open(path, os.O_RDONLY), 100, 0)", path=pipeline / "k") == b"one"
    other("os.close(w)")
    assert (read(one), read(other)) == (b"one", b"other")
    one("os.close(w)")
    assert (read(one), read(other)) == (b"one", b"other")
    assert (pipeline / "k").read_bytes() == b"one"


def test_it_is_the_published_file_once_that_is_written(pipeline: Path, one: Other) -> None:
    """As on any filesystem: its attributes are those of the key, and what is changed by it is changed there."""
    start(one, pipeline / "k", b"value")
    one("os.close(w); os.fchmod(r, 0o640); os.setxattr(r, 'user.a', b'1')")
    found, key = one("os.fstat(r)"), tuple(os.stat(pipeline / "k"))
    assert found == key
    assert (key[stat.ST_SIZE], key[stat.ST_NLINK], key[stat.ST_MODE] & 0o777) == (5, 1, 0o640)
    assert os.listxattr(pipeline / "k") == one("os.listxattr(r)") == ["user.a"]
    (pipeline / "k").write_bytes(b"another")
    assert read(one) == b"value"
    assert one("os.lseek(r, 0, os.SEEK_END)") == 5


APPEND = "os.O_WRONLY | os.O_CREAT | os.O_APPEND"


@pytest.mark.parametrize(
    ("how", "more", "value"), [(OPEN, b"other", b"other"), (APPEND, b"+", b"one+"), (APPEND, b"", b"one")]
)
def test_another_process_writes_on(
    pipeline: Path, one: Other, other: Other, how: str, more: bytes, value: bytes
) -> None:
    """Once it has closed as well, the attributes are those of the value that is read, too."""
    start(one, pipeline / "k", b"one")
    other(f"w = os.open(path, {how}); os.write(w, more)", path=pipeline / "k", more=more)
    one("os.close(w)")
    assert (pipeline / "k").read_bytes() == b"one"
    other("os.close(w)")
    one("os.fchmod(r, 0o640)")
    assert (read(one), one("os.lseek(r, 0, os.SEEK_END)")) == (b"one", 3)
    assert one("os.fstat(r)")[stat.ST_MODE] & 0o777 == 0o640
    assert (pipeline / "k").read_bytes() == value


def test_a_further_put_by_the_same_process(pipeline: Path, one: Other) -> None:
    """Who has opened the first goes on reading that."""
    start(one, pipeline / "k", b"first")
    one(f"w2 = os.open(path, {OPEN}); os.write(w2, b'second')", path=pipeline / "k")
    assert read(one) == b"first"
    one("os.close(w); os.close(w2)")
    assert read(one) == b"first"
    assert (pipeline / "k").read_bytes() == b"second"


@pytest.mark.parametrize("size", [5, 3_000_000])
def test_what_is_never_published_can_be_read_on(pipeline: Path, one: Other, size: int) -> None:
    """As of any file that was removed: until the last descriptor is closed."""
    value = (b"value" * size)[:size]
    start(one, pipeline / "k", value)
    one("os.unlink(path); os.close(w)", path=pipeline / "k")
    assert one("b''.join(iter(lambda: os.read(r, 1 << 20), b''))") == value
    assert listed(pipeline) == []
    one("os.close(r)")
    assert listed(pipeline) == []


@pytest.mark.parametrize("size", [5, 3_000_000])
def test_a_removed_name_does_not_come_back_with_the_daemon(make_mount: MakeMount, one: Other, size: int) -> None:
    """One of its descriptors was closed before it was removed: what that acknowledged is taken back."""
    store = make_mount()
    (store.pipeline / "p").mkdir()
    path = store.pipeline / "p" / "k"
    start(one, path, bytes(size))
    one("os.close(os.dup(w)); os.unlink(path)", path=path)
    assert not os.path.lexists(path)
    store.kill()
    store.mount()
    assert listed(store.pipeline / "p") == []


def test_a_name_that_another_object_took(pipeline: Path, one: Other) -> None:
    """Who created it and wrote nothing has an empty file open, and goes on reading that."""
    (pipeline / "other").write_bytes(b"other")
    one("w = os.open(path, os.O_RDWR | os.O_CREAT); r = os.open(path, os.O_RDONLY)", path=pipeline / "k")
    one("os.rename(other, path)", other=pipeline / "other", path=pipeline / "k")
    assert read(one) == b""
    one("os.close(w)")
    assert read(one) == b""
    assert (pipeline / "k").read_bytes() == b"other"
