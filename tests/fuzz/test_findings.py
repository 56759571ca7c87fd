"""What was found by bad input, each as a test of its own beside the input in the corpus."""

import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
import trio

from engine import ScopeName, journal, open_store, xattrs
from engine.config import ObjectStoreSettings
from engine.errors import InternalError
from fusefs.callers import Caller
from fusefs.closers import Closers, Closing
from fusefs.mountinfo import parse_line
from fusefs.openers import Life, Openers, life_of
from fusefs.openfiles import holds
from fusefs.tasks import Processes
from tests.fuzz.targets.journal import framed

ROOT = Path(__file__).parents[2]


def in_thread_called(name: bytes, call: Callable[[int], object]) -> object:
    """What `call` returns for a thread that has this name, as any process may give itself one."""
    results: list[object] = []

    def named() -> None:
        number = threading.get_native_id()
        Path(f"/proc/self/task/{number}/comm").write_bytes(name)
        results.append(call(number))

    thread = threading.Thread(target=named)
    thread.start()
    thread.join()
    return results[0]


def test_the_groups_of_a_process_whose_name_is_no_utf_8() -> None:
    """It was EIO to whoever wrote into a set-group-ID object."""
    assert in_thread_called(b"\xff\xfe", lambda pid: Caller(pid, 1, 1).in_group(54321)) is False


@pytest.mark.parametrize("separator", [b"\r", b"\n", b"\x0b", b"\x85", b"\xe2\x80\xa8"])
def test_no_process_puts_itself_into_a_group_by_its_name(separator: bytes) -> None:
    """A carriage return began a line, so the name was read as the list of groups."""
    assert in_thread_called(separator + b"Groups:\t54321", lambda pid: Caller(pid, 1, 1).in_group(54321)) is False


def test_the_user_of_a_mount_is_a_number_in_ascii() -> None:
    line = b"36 35 0:1 / /mnt rw - fuse.fusefs store rw,user_id=\xc2\xb2"
    assert parse_line(line).uid is None
    assert parse_line(line.replace(b"\xc2\xb2", b"9" * 5000)).uid is None
    assert parse_line(line.replace(b"\xc2\xb2", b"1000")).uid == 1000


@pytest.mark.parametrize("packed", [b"", b"\xff", b"\x81\xc4\x01a", b"\x91\xc0", b"\xdf\xff\xff\xff\xff", b"\x80\x80"])
def test_attributes_that_are_damaged_are_told_as_damage(packed: bytes) -> None:
    """It was a traceback in the log, as for a mistake in the program."""
    calls: Sequence[Callable[[bytes], object]] = (
        xattrs.names,
        lambda column: xattrs.get(column, b"user.a"),
        lambda column: xattrs.without(column, b"user.a"),
        lambda column: xattrs.with_value(column, b"user.a", b"x"),
    )
    for call in calls:
        with pytest.raises(InternalError, match="damaged"):
            call(packed)


PUT = (1, 4, b"name", 0o644, 0, 0, 9, None, None, None)


def changed(at: int, value: object) -> tuple[object, ...]:
    return (*PUT[:at], value, *PUT[at + 1 :])


@pytest.mark.parametrize(
    "put",
    [
        *(changed(0, 0), changed(0, 5), changed(1, -1), changed(1, 2**63), changed(2, b""), changed(2, b"..")),
        *(changed(2, b"a/b"), changed(2, b"a\0b"), changed(2, b"x" * 256), changed(6, 0), changed(7, 2**63)),
    ],
    ids=lambda put: repr(put)[:60],
)
def test_an_entry_that_checks_and_is_no_put_is_the_end_of_a_journal(tmp_path: Path, put: tuple[object, ...]) -> None:
    """It was a ValueError or an OverflowError, at every opening of the store."""
    good = msgspec.msgpack.encode((1, 500, 1, PUT, b"value"))
    path = tmp_path / "journal"
    path.write_bytes(framed(good) + framed(msgspec.msgpack.encode((2, 501, 1, put, b"value"))))
    assert [entry.number for entry in journal.read(path)] == [1]


def test_a_process_has_its_file_open_while_another_of_its_threads_closes_others(tmp_path: Path) -> None:
    """It was ENOENT, now and then, for the new name that a process of several threads was writing."""
    ended = threading.Event()

    def open_and_close() -> None:
        while not ended.is_set():
            for fd in [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]:
                os.close(fd)

    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
    path = tmp_path / "file"
    with path.open("wb") as file:
        high = fcntl.fcntl(file.fileno(), fcntl.F_DUPFD_CLOEXEC, 400)  # behind those that come and go
    thread = threading.Thread(target=open_and_close)
    thread.start()
    try:
        found = [holds(os.getpid(), {path.stat().st_ino}, for_writing=True) for _ in range(300)]
    finally:
        ended.set()
        thread.join()
        for fd in (*others, high):
            os.close(fd)
    assert all(found)


def test_a_process_with_many_open_files_holds_up_nobody_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20,000 open files were 10 us each, in which the mount served nobody, for every look-up of such a process."""
    path = tmp_path / "file"
    with path.open("wb"):
        assert holds(os.getpid(), {path.stat().st_ino}, for_writing=True)
        monkeypatch.setattr("fusefs.openfiles._LOOKED_AT_S", 0)
        assert not holds(os.getpid(), {path.stat().st_ino}, for_writing=True)


def test_a_process_of_many_mounts_holds_up_nobody_for_long() -> None:
    """Its table of 2,000 mounts was read for each file that might have been ours, and what is in no table was ours."""
    fd = os.memfd_create("in no table")
    try:
        about = os.fstat(fd)
        assert holds(os.getpid(), {about.st_ino}, for_writing=True, connection=os.minor(about.st_dev))
        assert not holds(os.getpid(), {about.st_ino}, for_writing=True, connection=os.minor(about.st_dev) + 1)
    finally:
        os.close(fd)


def test_a_process_of_many_threads_holds_up_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 threads were half a second, in which the mount served nobody, for every close of such a process."""
    looked_at: list[str] = []

    def life(sizes: list[bytes]) -> Life:
        looked_at.append(threading.current_thread().name)
        return life_of(sizes)

    monkeypatch.setattr("fusefs.openers.life_of", life)
    monkeypatch.setattr("fusefs.closers.life_of", life)
    ended = threading.Event()
    threads = [threading.Thread(target=ended.wait) for _ in range(100)]
    for thread in threads:
        thread.start()
    try:
        assert not Openers().nobody_exits(os.getpid())
        assert trio.run(Closers(60).closing, Processes().opener(os.getpid()), False, set[int]) is Closing.PLAIN
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert looked_at.count(threading.main_thread().name) == 2  # at the opener alone
    assert len(looked_at) > 100


def test_what_a_process_has_open_for_reading_is_not_open_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open("rb"):
        assert holds(os.getpid(), {path.stat().st_ino}, for_writing=False)
        assert not holds(os.getpid(), {path.stat().st_ino}, for_writing=True)


def test_a_listing_of_a_tree_of_any_depth(tmp_path: Path) -> None:
    """It was a RecursionError from a thousand directories on."""
    pipeline = ScopeName.pipeline(b"app")
    with open_store(ObjectStoreSettings(path=str(tmp_path / "objects.db")), create=True) as store:
        store.create_pipeline(b"app")
        deep = b"/".join([b"d"] * 2000)
        keys = [b"a", b"d-x", deep + b"/k", deep + b"2", b"d0"]
        for key in keys:
            store.put_object(pipeline, key, b"v")
        assert [info.key for info in store.list_objects(pipeline)] == sorted(keys)
        assert [info.key for info in store.list_objects(pipeline, deep)] == sorted([deep + b"/k", deep + b"2"])


def fusefs(directory: Path, *arguments: bytes | str) -> "subprocess.CompletedProcess[bytes]":
    """Run the command in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FUSEFS_")}
    (directory / "empty.toml").touch()
    return subprocess.run(
        [sys.executable, "-m", "fusefs", *arguments],
        env={
            **kept,
            **{"FUSEFS_STORE": str(directory / "objects.db"), "FUSEFS_CONFIG": str(directory / "empty.toml")},
            **{"HOME": str(directory), "PYTHONPATH": str(ROOT)},
        },
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_the_status_of_a_path_that_is_no_utf_8_as_json(tmp_path: Path) -> None:
    """It was a UnicodeEncodeError, in the middle of the output."""
    done = fusefs(tmp_path, "status", "--json", b"\xff")
    assert (done.returncode, done.stderr) == (1, b"")
    (found,) = json.loads(done.stdout)
    assert found["mountpoint"] is None
    assert found["state"] == "not mounted"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((b"pipeline", b"create", b"\xff\n\x1b[31m"), 2),
        ((b"pipeline", b"object", b"get", b"app", b"\x1b]0;title\x07\n"), 1),
        ((b"--store", b"x"), 2),
        ((b"run", b"start", b"x" * 100_000), 2),
        ((b"mount", b"-o", b"\xff\n=", b"x"), 2),
        ((b"mount", b"--umask", "\u0663".encode(), b"x"), 2),
        ((b"umount", b"\xff\r\n"), 1),
        ((b"pipeline", b"set-limit", b"app", b"\xc2\xb2"), 2),
        ((b"\xff",), 2),
        ((b"pipeline", b"list", b"--store", b"\xed\xa0\x80"), 2),
    ],
    ids=range(10),
)
def test_a_real_process_says_in_one_safe_line_what_is_wrong(
    tmp_path: Path, arguments: tuple[bytes, ...], code: int
) -> None:
    done = fusefs(tmp_path, *arguments)
    message = done.stderr.decode()
    assert (done.returncode, done.stdout) == (code, b""), message
    assert message.startswith("fusefs: ")
    assert message.endswith("\n")
    assert message[:-1].isprintable(), message[:300]
    assert "Traceback" not in message
