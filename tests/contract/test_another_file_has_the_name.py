"""Another object is renamed to a key that somebody is writing: each file keeps its own attributes.

What one creates belongs to one, with the permissions that one asked for, whatever had the name in between.
"""

import os
import stat
from pathlib import Path

import pytest

from tests.support.processes import Other

pytestmark = pytest.mark.mount

PAST = 1_500_000_000_123_456_789
OPENED = {
    "exclusive": "os.O_CREAT | os.O_EXCL",
    "new": "os.O_CREAT | os.O_TRUNC",
    "new to append": "os.O_CREAT | os.O_APPEND",
    "overwritten": "os.O_TRUNC",
    "edited": "0",
    "appended": "os.O_APPEND",
}
NEW = ("exclusive", "new", "new to append")
AFTER = {
    "is renamed away": "os.rename(key, away)",
    "is removed": "os.unlink(key)",
    "is exchanged and removed": "exchange(key, third); os.unlink(key)",
    "stays": "pass",
}
EXCHANGE = """
def exchange(one, other):
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.renameat2(-100, one.encode(), -100, other.encode(), 2) == 0
"""
ASKING = {
    "its process": "asking = eval",
    "a thread": """
def asking(code):
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor() as threads:
        return threads.submit(eval, code, globals()).result()
""",
    "a child": """
def asking(code):
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.write(writer, pickle.dumps(eval(code)))
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as answer:
        return pickle.load(answer)
""",
}
Attributes = tuple[int, int, int, dict[str, bytes]]
OWN: Attributes = (0o600, 1001, 1002, {"user.own": b"x"})
OTHERS: Attributes = (0o644, 1003, 1004, {"user.others": b"y"})


def attributes(path: Path) -> Attributes:
    info = path.stat()
    xattrs = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, xattrs


def set_attributes(file: Path | int, wanted: Attributes) -> None:
    mode, uid, gid, xattrs = wanted
    os.chown(file, uid, gid)
    os.chmod(file, mode)
    for name, value in xattrs.items():
        os.setxattr(file, name, value)


@pytest.fixture
def writer(one: Other) -> Other:
    return one


@pytest.fixture
def other(other: Other) -> Other:
    other(EXCHANGE)
    return other


def begin(writer: Other, key: Path, how: str) -> None:
    """Open a key with attributes of its own, and write."""
    if how not in NEW:
        key.write_bytes(b"old")
        set_attributes(key, OWN)
    writer(f"k = os.open(path, os.O_RDWR | {OPENED[how]}, 0o600)", path=str(key))
    if how in NEW:
        writer("os.fchown(k, 1001, 1002); os.setxattr(k, 'user.own', b'x')")
    writer("os.write(k, b'put')")


def rename_onto(other: Other, key: Path) -> None:
    """Another process puts objects of its own, and renames one to the key."""
    for name in ("beside", "third"):
        (key.parent / name).write_bytes(b"others")
        set_attributes(key.parent / name, OTHERS)
    paths = {"key": key, "beside": key.parent / "beside", "third": key.parent / "third", "away": key.parent / "away"}
    other("os.rename(beside, key)", **{name: str(path) for name, path in paths.items()})


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("how", OPENED)
@pytest.mark.parametrize("end", ["os.close(k)", "os.fsync(k); os.close(k)"], ids=["close", "fsync"])
def test_the_put_has_its_own_attributes(
    pipeline: Path, writer: Other, other: Other, how: str, after: str, end: str
) -> None:
    """An append goes to what has the key, and leaves that its attributes."""
    key = pipeline / "k"
    begin(writer, key, how)
    rename_onto(other, key)
    other(AFTER[after])
    writer(end)
    appended = after == "stays" and "append" in how
    assert attributes(key) == (OTHERS if appended else OWN)
    if after == "is renamed away":
        assert attributes(pipeline / "away") == OTHERS


@pytest.mark.parametrize("after", AFTER)
def test_the_descriptor_shows_its_own_attributes(pipeline: Path, writer: Other, other: Other, after: str) -> None:
    key = pipeline / "k"
    begin(writer, key, "exclusive")
    rename_onto(other, key)
    other(AFTER[after])
    info = writer("os.fstat(k)")
    assert (stat.S_IMODE(info[0]), info[4], info[5]) == OWN[:3]
    assert writer("os.listxattr(k)") == ["user.own"]


@pytest.mark.parametrize("after", ["stays", "is renamed away"])
def test_what_the_descriptor_changes_is_its_own(pipeline: Path, writer: Other, other: Other, after: str) -> None:
    """fchmod and the like change what is open, and not the file of somebody else that has the name, or had it."""
    key = pipeline / "k"
    begin(writer, key, "exclusive")
    rename_onto(other, key)
    other(AFTER[after])
    writer("os.fchmod(k, 0o755); os.fchown(k, 1005, 1006); os.setxattr(k, 'user.own', b'z')")
    writer("os.utime(k, ns=(past, past))", past=PAST)
    assert attributes(key if after == "stays" else pipeline / "away") == OTHERS
    writer("os.close(k)")
    assert attributes(key) == (0o755, 1005, 1006, {"user.own": b"z"})
    assert key.stat().st_mtime_ns == PAST


def test_who_opens_the_other_file_writes_that(pipeline: Path, writer: Other, other: Other) -> None:
    """The one who began before and the one who opens it now write two files: each Put has the attributes of its own."""
    key = pipeline / "k"
    begin(writer, key, "exclusive")
    rename_onto(other, key)
    other("k = os.open(key, os.O_WRONLY | os.O_TRUNC); os.write(k, b'later'); os.fchmod(k, 0o640)")
    assert stat.S_IMODE(key.stat().st_mode) == 0o640
    assert stat.S_IMODE(writer("os.fstat(k)")[0]) == 0o600
    other("os.close(k)")
    assert attributes(key) == (0o640, *OTHERS[1:])
    writer("os.close(k)")
    assert attributes(key) == OWN


@pytest.mark.parametrize("asks", ["its process", "a thread", "a child"])
def test_the_attributes_of_several_files_at_once(pipeline: Path, writer: Other, other: Other, asks: str) -> None:
    """Extended attributes of a descriptor are those of its own file, whoever opened or wrote last beside it."""
    key = pipeline / "k"
    begin(writer, key, "exclusive")
    rename_onto(other, key)
    other("k = os.open(key, os.O_RDWR | os.O_TRUNC); os.write(k, b'later')")
    writer(ASKING[asks])
    assert writer("asking('os.listxattr(k)')") == ["user.own"]
    assert writer("asking('os.getxattr(k, \"user.own\")')") == b"x"
    writer('asking(\'os.setxattr(k, "user.more", b"1")\'); asking(\'os.removexattr(k, "user.own")\')')
    assert other("os.listxattr(k)") == ["user.others"]
    writer("os.write(k, b'!')")
    other("os.removexattr(k, 'user.others')")
    for process in (other, writer):
        assert process("os.listxattr(k)") == (["user.more"] if process is writer else [])
        process("os.close(k)")
        assert os.listxattr(key) == (["user.more"] if process is writer else [])


def test_edits_are_shared_again_with_what_is_published(pipeline: Path, writer: Other, other: Other) -> None:
    """Who edited the key before, and publishes that, goes on with those who open it from then on."""
    key = pipeline / "k"
    begin(writer, key, "edited")
    rename_onto(other, key)
    other("k = os.open(key, os.O_RDWR)")
    assert other("os.pread(k, 100, 0)") == b"others"
    writer("os.fsync(k)")
    other("k2 = os.open(key, os.O_RDWR); os.pwrite(k2, b'both', 0)")
    assert writer("os.pread(k, 100, 0)") == b"both"
    writer("os.pwrite(k, b'!', 4)")
    assert other("os.pread(k2, 100, 0)") == b"both!"
    assert other("os.pread(k, 100, 0)") == b"others"


def test_an_fsync_of_nothing_leaves_the_other_file_alone(pipeline: Path, writer: Other, other: Other) -> None:
    """Who created the key and wrote nothing has not put it: who edits what is there by then edits that."""
    key = pipeline / "k"
    writer("k = os.open(path, flags, 0o600)", path=str(key), flags=os.O_RDWR | os.O_CREAT)
    rename_onto(other, key)
    writer("os.fsync(k)")
    assert key.read_bytes() == b"others"
    other("k = os.open(key, os.O_RDWR)")
    assert other("os.pread(k, 100, 0)") == b"others"
    other("os.pwrite(k, b'edited', 0)")
    assert writer("os.pread(k, 100, 0)") == b""
    writer("os.close(k)")
    other("os.close(k)")
    assert key.read_bytes() == b"edited"
    assert attributes(key) == OTHERS


def test_a_change_by_path_is_of_what_has_the_name(pipeline: Path, writer: Other, other: Other) -> None:
    key = pipeline / "k"
    begin(writer, key, "exclusive")
    rename_onto(other, key)
    key.chmod(0o640)
    os.setxattr(key, "user.others", b"z")
    assert attributes(key) == (0o640, 1003, 1004, {"user.others": b"z"})
    writer("os.close(k)")
    assert attributes(key) == OWN
