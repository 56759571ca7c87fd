"""Times: what a Put, a rename and utimens(2) make of them."""

import os
import time
from pathlib import Path

import pytest

from tests.support.processes import Other, sh

pytestmark = pytest.mark.mount


def _now_between(path: Path, before: int, field: str = "st_mtime_ns") -> None:
    assert before - 20_000_000 <= getattr(path.stat(), field) <= time.time_ns() + 20_000_000


def test_a_put_sets_the_time(pipeline: Path) -> None:
    """A Put sets mtime and ctime, a new one atime too."""
    before = time.time_ns()
    (pipeline / "k").write_text("x")
    for field in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns"):
        _now_between(pipeline / "k", before, field)
    first = (pipeline / "k").stat()
    time.sleep(0.02)
    (pipeline / "k").write_text("y")
    assert (pipeline / "k").stat().st_mtime_ns > first.st_mtime_ns
    assert (pipeline / "k").stat().st_ctime_ns > first.st_ctime_ns


@pytest.mark.parametrize(
    "nanoseconds", [0, 1, 999_999_999, 981_173_106_123_456_789, 4_102_444_800_000_000_000, -1_500_000_000]
)
def test_utimens(pipeline: Path, nanoseconds: int) -> None:
    """utimens works, to the nanosecond, on objects and directories."""
    (pipeline / "k").write_text("x")
    (pipeline / "d").mkdir()
    for name in ("k", "d"):
        os.utime(pipeline / name, ns=(nanoseconds + 1, nanoseconds))
        found = (pipeline / name).stat()
        assert (found.st_atime_ns, found.st_mtime_ns) == (nanoseconds + 1, nanoseconds)


FIRST, LAST = -(2**63), 2**63 - 1


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [(2**33, 2**33 * 10**9), (9_223_372_037, LAST), (2**40, LAST), (-9_223_372_037, FIRST), (-(2**40), FIRST)],
)
def test_times_that_cannot_be_kept(pipeline: Path, seconds: int, kept: int) -> None:
    """They are set to the nearest that can, as on local filesystems, those of a name that is being written too."""
    with (pipeline / "k").open("wb", buffering=0) as file:
        file.write(b"value")
        os.utime(file.fileno(), ns=(seconds * 10**9, seconds * 10**9))
    (pipeline / "d").mkdir()
    os.utime(pipeline / "d", ns=(seconds * 10**9, seconds * 10**9))
    for name in ("k", "d"):
        found = (pipeline / name).stat()
        assert (found.st_atime_ns, found.st_mtime_ns) == (kept, kept)
    (pipeline / "other").write_bytes(b"of somebody else")
    assert (pipeline / "other").read_bytes() == b"of somebody else"


def test_utimens_of_a_symlink(pipeline: Path) -> None:
    """utimens works on a symlink itself."""
    (pipeline / "l").symlink_to("nowhere")
    os.utime(pipeline / "l", ns=(5, 7), follow_symlinks=False)
    assert (pipeline / "l").lstat().st_mtime_ns == 7


def test_one_of_the_two(pipeline: Path) -> None:
    """`touch -a` and `touch -m` set one time each."""
    sh("echo > k; touch -d '2001-01-01 UTC' k; touch -a k", pipeline)
    assert (pipeline / "k").stat().st_mtime == 978_307_200
    sh("touch -d '2001-01-01 UTC' k; touch -m k", pipeline)
    assert (pipeline / "k").stat().st_atime == 978_307_200


def test_changes_of_attributes_set_ctime(pipeline: Path) -> None:
    """chmod sets ctime and leaves mtime."""
    (pipeline / "k").write_text("x")
    before = (pipeline / "k").stat()
    time.sleep(0.02)
    (pipeline / "k").chmod(0o600)
    after = (pipeline / "k").stat()
    assert after.st_mtime_ns == before.st_mtime_ns
    assert after.st_ctime_ns > before.st_ctime_ns


SHARES = {"overwriting": "os.O_CREAT | os.O_TRUNC", "appending": "os.O_CREAT | os.O_APPEND"}


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
@pytest.mark.parametrize("flags", SHARES.values(), ids=SHARES)
def test_set_beside_another_writer(pipeline: Path, flags: str, existing: bool) -> None:
    """As `cp -p` does before it closes: they are those of its own Put, whoever else writes and puts the key."""
    key = pipeline / "k"
    if existing:
        key.write_text("old")
    with Other() as one, Other() as other:
        for writer in (one, other):
            writer(f"k = os.open(path, os.O_RDWR | {flags}); os.write(k, b'value')", path=key)
        one("os.utime(k, ns=(6, 5))")
        other("os.write(k, b'more')")
        assert one("os.fstat(k).st_mtime_ns") == 5
        other("os.close(k)")
        assert key.stat().st_mtime_ns > 5
        assert one("os.fstat(k).st_mtime_ns") == 5
        one("os.close(k)")
    assert (key.stat().st_atime_ns, key.stat().st_mtime_ns) == (6, 5)


def test_set_by_the_path_beside_writers(pipeline: Path) -> None:
    """They are those of every Put that comes, unless something is written after them."""
    key = pipeline / "k"
    key.write_text("old")
    with Other() as one, Other() as other, Other() as third:
        for writer in (one, other, third):
            writer("k = os.open(path, os.O_WRONLY | os.O_TRUNC); os.write(k, b'value')", path=key)
        os.utime(key, ns=(6, 5))
        third("os.write(k, b'more')")
        for writer, kept in ((one, True), (third, False), (other, True)):
            writer("os.close(k)")
            assert key.stat().st_atime_ns == 6
            assert (key.stat().st_mtime_ns == 5) == kept


def test_set_before_an_fsync(pipeline: Path) -> None:
    """It puts them; what is written from then on is of another time."""
    key = pipeline / "k"
    with key.open("wb", buffering=0) as file:
        file.write(b"value")
        os.utime(file.fileno(), ns=(6, 5))
        os.fsync(file.fileno())
        assert (key.stat().st_atime_ns, key.stat().st_mtime_ns) == (6, 5)
        os.utime(key, ns=(8, 7))
        file.write(b"more")
    assert key.stat().st_atime_ns == 8
    assert key.stat().st_mtime_ns > 7


def test_a_rename_keeps_mtime(pipeline: Path, run: Path) -> None:
    """A rename keeps mtime."""
    (run / "k").write_text("x")
    before = (run / "k").stat().st_mtime_ns
    os.rename(run / "k", pipeline / "k")
    assert (pipeline / "k").stat().st_mtime_ns == before


def test_directories_change_with_what_is_in_them(pipeline: Path) -> None:
    """A directory's mtime changes when a name in it comes or goes, for other processes as well."""
    (pipeline / "d").mkdir()
    with Other() as other:
        seen = [other("os.stat(path).st_mtime_ns", path=pipeline / "d")]
        for change in ("echo x > k", "mv k l", "mkdir e", "ln -s k m", "rm l", "rmdir e"):
            time.sleep(0.012)
            sh(change, pipeline / "d")
            seen.append(other("os.stat(path).st_mtime_ns"))
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("publish", ["os.close(fd)", "os.fsync(fd)"])
def test_a_directory_that_was_looked_at_while_a_key_was_written(pipeline: Path, publish: str) -> None:
    """A Put moves its directory's mtime, also when somebody had it shown before the new name was published."""
    with Other() as other:
        other("fd = os.open(path, os.O_CREAT | os.O_WRONLY); os.write(fd, b'v')", path=pipeline / "k")
        before = pipeline.stat().st_mtime_ns
        assert pipeline.stat().st_mtime_ns == before
        other(publish)
        assert pipeline.stat().st_mtime_ns > before


def test_times_of_the_tree_are_recent(pipeline: Path) -> None:
    """Directories have times too, not 1970."""
    for path in (pipeline, pipeline.parent, pipeline.parent.parent):
        assert path.stat().st_mtime > 1_600_000_000


def test_make_builds_what_is_older(pipeline: Path) -> None:
    """What is written later is newer: make and `-nt` work."""
    script = """
    echo a > a; sleep 0.02; echo b > b; [ b -nt a ] && echo newer
    sleep 0.02; echo >> a; [ a -nt b ] && echo again
    """
    assert sh(script, pipeline) == "newer\nagain\n"
