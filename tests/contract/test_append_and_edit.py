"""Append and edit: `>>` loses nothing, an edit in place is a private copy that is published like a Put."""

import ctypes
import errno
import functools
import mmap
import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import MakeMount
from tests.support.mounting import MountedStore
from tests.support.processes import Other, end, sh, start_python
from tests.support.shared_mount import listed, refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND

# Append

_APPENDER = """
import os, sys
path, letter, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for number in range(count):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    line = f"{letter}{number:04}".ljust(size - 1, letter).encode() + b"\\n"
    assert os.write(fd, line) == len(line)
    os.close(fd)
"""


def _check_lines(path: Path, letters: str, count: int, size: int) -> None:
    content = path.read_bytes()
    lines = content.split(b"\n")[:-1]
    assert len(content) == len(letters) * count * size
    expected = [
        f"{letter}{number:04}".ljust(size - 1, letter).encode() for letter in letters for number in range(count)
    ]
    assert sorted(lines) == sorted(expected)
    for letter in letters:
        own = [line for line in lines if line.startswith(letter.encode())]
        assert own == sorted(own)


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(("count", "size"), [(60, 20), (12, 70_000)])
def test_appenders_lose_nothing(pipeline: Path, existing: bool, count: int, size: int) -> None:
    """Of N writers appending at once no byte is lost and no two writes interleave inside one write().

    Also when the key does not exist yet and each of them creates it.
    """
    path = pipeline / "k"
    if existing:
        path.touch()
    end([start_python(_APPENDER, path, letter, count, size) for letter in "abcd"])
    _check_lines(path, "abcd", count, size)


def test_each_creates_it(pipeline: Path) -> None:
    """No byte is lost, also when the key does not exist yet and each of them creates it."""
    processes = [Other() for _ in range(4)]
    try:
        for number in range(15):
            for process in processes:
                process("fd = os.open(path, flags)", path=pipeline / f"k{number}", flags=APPEND)
            assert listed(pipeline) == sorted(f"k{earlier}" for earlier in range(number))
            for letter, process in zip(b"abcd", processes, strict=True):
                process.begin("os.write(fd, line); os.close(fd)", line=bytes([letter]) * 5)
            for process in processes:
                process.answer()
            content = (pipeline / f"k{number}").read_bytes()
            assert sorted(content) == sorted(b"aaaaabbbbbcccccddddd")
            assert len({content[start : start + 5] for start in range(0, 20, 5)}) == 4
    finally:
        for process in processes:
            process.stop()


def test_appenders_on_two_mounts(make_mount: MakeMount) -> None:
    """No byte is lost of N writers appending at once, from any mount of the store."""
    first = make_mount()
    (first.pipeline / "p").mkdir()
    second = make_mount(store=first.store)
    paths = [first.pipeline / "p/k", second.pipeline / "p/k"]
    processes = [start_python(_APPENDER, paths[index % 2], letter, 25, 30) for index, letter in enumerate("abcd")]
    end(processes)
    # What one mount commits is visible on the others a moment later.
    wait_until(lambda: paths[0].stat().st_size == 4 * 25 * 30)
    _check_lines(paths[0], "abcd", 25, 30)


def test_appenders_that_hold_it_open(pipeline: Path) -> None:
    """No byte is lost of writers that append at once to what they hold open."""
    with Other() as one, Other() as two:
        for writer in (one, two):
            writer("fd = os.open(path, flags)", path=pipeline / "k", flags=APPEND)
        for number in range(5):
            one("os.write(fd, line)", line=f"one {number}\n".encode())
            two("os.write(fd, line)", line=f"two {number}\n".encode())
        two("os.close(fd)")
        one("os.close(fd)")
    lines = (pipeline / "k").read_text().splitlines()
    assert sorted(lines) == sorted(f"{name} {number}" for name in ("one", "two") for number in range(5))


def test_appends_of_a_shell(pipeline: Path) -> None:
    """`>>` is an atomic append."""
    sh("for i in 1 2 3 4; do (for j in $(seq 30); do echo line $i $j >> log; done) & done; wait", pipeline)
    assert sorted((pipeline / "log").read_text().splitlines()) == sorted(
        f"line {number} {line}" for number in range(1, 5) for line in range(1, 31)
    )


def test_an_append_sees_what_it_appends_to(pipeline: Path) -> None:
    """`>>` (O_APPEND without O_TRUNC): its descriptor shows the whole file, like any file."""
    (pipeline / "k").write_text("old,")
    fd = os.open(pipeline / "k", os.O_RDWR | os.O_APPEND)
    os.write(fd, b"new")
    assert os.fstat(fd).st_size == 7
    assert os.pread(fd, 100, 0) == b"old,new"
    assert (pipeline / "k").read_text() == "old,"
    os.close(fd)
    assert (pipeline / "k").read_text() == "old,new"


def test_an_append_writes_at_the_end_wherever_it_is(pipeline: Path) -> None:
    """`>>`: every write goes to the end, wherever the descriptor was moved to."""
    (pipeline / "k").write_text("old,")
    fd = os.open(pipeline / "k", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"a,")
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"b")
    os.close(fd)
    assert (pipeline / "k").read_text() == "old,a,b"


def test_an_append_meets_another_put(pipeline: Path) -> None:
    """An atomic append: it goes behind the value that is there when it is published."""
    (pipeline / "k").write_text("old,")
    fd = os.open(pipeline / "k", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"appended")
    with Other() as other:
        other("open(path, 'w').write('replaced,')", path=pipeline / "k")
    os.close(fd)
    assert (pipeline / "k").read_text() == "replaced,appended"


def test_append_and_truncate(pipeline: Path) -> None:
    """O_APPEND with O_TRUNC is a Put of a new value (`> log; cmd >> log` starts afresh)."""
    (pipeline / "k").write_text("old")
    fd = os.open(pipeline / "k", os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
    os.write(fd, b"new")
    os.close(fd)
    assert (pipeline / "k").read_text() == "new"
    assert sh("echo a > log; echo b >> log; : > log; echo c >> log; cat log", pipeline) == "c\n"


def test_fsync_publishes_an_append(pipeline: Path) -> None:
    """An append is published like a Put, at the last close or at fsync, each byte once."""
    fd = os.open(pipeline / "k", APPEND)
    for part in (b"a", b"b", b"c"):
        os.write(fd, part)
        os.fsync(fd)
    assert sh("cat k", pipeline) == "abc"
    with Other() as other:
        other("fd = os.open(path, flags); os.write(fd, b'-'); os.close(fd)", path=pipeline / "k", flags=APPEND)
    os.write(fd, b"d")
    os.close(fd)
    assert sh("cat k", pipeline) == "abc-d"


@pytest.mark.parametrize("size", [1, 65_535, 65_537, 262_145, 1_048_577])
def test_append_to_values_of_all_sizes(pipeline: Path, size: int) -> None:
    """`>>` is an atomic append to any value."""
    old, new = os.urandom(size), os.urandom(size)
    (pipeline / "k").write_bytes(old)
    with open(pipeline / "k", "ab") as file:
        file.write(new)
    assert (pipeline / "k").read_bytes() == old + new


# Create if absent


@pytest.mark.parametrize("flags", [os.O_CREAT, os.O_CREAT | os.O_APPEND])
def test_create_if_absent_never_replaces(pipeline: Path, flags: int) -> None:
    """O_CREAT without O_TRUNC: one that wrote nothing never replaces a value that appeared meanwhile."""
    with Other() as creator:
        creator("fd = os.open(path, os.O_WRONLY | flags)", path=pipeline / "k", flags=flags)
        (pipeline / "k").write_text("appeared")
        creator("os.close(fd)")
    assert (pipeline / "k").read_text() == "appeared"


def test_touch_and_append_of_nothing_create(pipeline: Path) -> None:
    """O_CREAT without O_TRUNC asks for "create if absent"."""
    assert sh("touch a; : >> b; ls; stat -c %s a b; echo x > a; touch a; : >> a; cat a", pipeline) == "a\nb\n0\n0\nx\n"


def test_touch_races_with_writers(pipeline: Path) -> None:
    """One that wrote nothing (touch, `>>` of nothing) never replaces a value that appeared meanwhile."""
    code = """
import os, sys
for number in range(150):
    os.close(os.open(f"{sys.argv[1]}/k{number % 49}", os.O_WRONLY | os.O_CREAT, 0o644))
"""
    writer = """
import os, sys
for number in range(150):
    path = f"{sys.argv[1]}/k{number % 49}"
    open(path, "w").write("value")
    content = open(path).read()
    assert content == "value", (path, content)
"""
    end([start_python(code, pipeline), start_python(code, pipeline), start_python(writer, pipeline)])
    assert {(pipeline / name).read_text() for name in listed(pipeline)} == {"value"}


# Edit in place


def test_an_edit_is_published_at_the_last_close(pipeline: Path) -> None:
    """An edit in place works on a private copy that is published like a Put, at the last close."""
    (pipeline / "k").write_text("0123456789")
    for flags in (os.O_RDWR, os.O_WRONLY):
        fd = os.open(pipeline / "k", flags)
        os.pwrite(fd, b"abc", 3)
        assert sh("cat k", pipeline) == "0123456789"
        second = os.dup(fd)
        os.close(fd)
        assert sh("cat k", pipeline) == "0123456789"
        os.close(second)
        assert sh("cat k", pipeline) == "012abc6789"
        (pipeline / "k").write_text("0123456789")


def test_an_edit_is_published_at_fsync(pipeline: Path) -> None:
    """Published like a Put, at the last close or at fsync; the writer goes on from there."""
    (pipeline / "k").write_text("0123456789")
    fd = os.open(pipeline / "k", os.O_RDWR)
    os.pwrite(fd, b"abc", 3)
    os.fsync(fd)
    assert sh("cat k", pipeline) == "012abc6789"
    os.pwrite(fd, b"Z", 0)
    assert sh("cat k", pipeline) == "012abc6789"
    assert os.pread(fd, 100, 0) == b"Z12abc6789"
    os.close(fd)
    assert sh("cat k", pipeline) == "Z12abc6789"


def test_processes_share_an_edit(pipeline: Path) -> None:
    """Processes that edit an object in place at once share that copy, and see each other's writes, like any file."""
    path = pipeline / "k"
    path.write_text("." * 10)
    with Other() as one, Other() as two:
        for process in (one, two):
            process("fd = os.open(path, os.O_RDWR)", path=path)
        one("os.pwrite(fd, b'1', 1)")
        assert two("os.pread(fd, 100, 0)") == b".1........"
        two("os.pwrite(fd, b'two', 12)")
        assert one("os.fstat(fd).st_size") == 15
        assert one("os.pread(fd, 100, 0)") == b".1........\0\0two"
        assert path.read_text() == "." * 10
        one("os.close(fd)")
        two("os.pwrite(fd, b'2', 2); os.close(fd)")
    assert path.read_bytes() == b".12.......\0\0two"


def test_a_counter_under_a_lock(pipeline: Path) -> None:
    """Processes that edit an object in place at once see each other's writes and locks, like any file."""
    (pipeline / "counter").write_text("0000")
    code = """
import fcntl, os, sys
for _ in range(40):
    fd = os.open(sys.argv[1], os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    value = int(os.pread(fd, 4, 0))
    os.pwrite(fd, b"%04d" % (value + 1), 0)
    os.fsync(fd)
    fcntl.lockf(fd, fcntl.LOCK_UN)
    os.close(fd)
"""
    end([start_python(code, pipeline / "counter") for _ in range(3)])
    assert (pipeline / "counter").read_text() == "0120"


def test_an_edit_of_what_was_deleted(pipeline: Path) -> None:
    """An edit in place is a private copy: it goes on when the key is deleted or evicted under it."""
    (pipeline / "k").write_text("0123456789")
    with Other() as writer:
        writer("fd = os.open(path, os.O_RDWR)", path=pipeline / "k")
        (pipeline / "k").unlink()
        writer("os.pwrite(fd, b'abc', 3)")
        assert writer("os.pread(fd, 100, 0)") == b"012abc6789"
        writer("os.close(fd)")


def test_opening_for_writing_publishes_nothing(pipeline: Path) -> None:
    """Opening for writing without writing publishes nothing."""
    path = pipeline / "k"
    path.write_text("value")
    before = path.stat()
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_CREAT):
        fd = os.open(path, flags)
        os.close(fd)
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert path.read_text() == "value"


@pytest.mark.parametrize(
    "change",
    [
        "touch k1",
        "touch -d 2001-01-01 k1",
        "touch -m k1",
        "chmod 600 k1",
        'chown "$(id -u):$(id -g)" k1',
        "python3 -c \"import os; os.setxattr('k1', 'user.a', b'x')\"",
        ": >> k1",
        "exec 9<> k1; exec 9>&-",
    ],
)
def test_attributes_are_no_put(limited: MountedStore, change: str) -> None:
    """touch, chmod, chown and setfattr change attributes and are no Put: neither the inode nor the order changes."""
    directory = limited.pipeline / "p"
    sh("rm -rf p; mkdir p; cd p; echo 1 > k1; echo 2 > k2", limited.pipeline)
    before = (directory / "k1").stat().st_ino
    sh(change, directory)
    assert (directory / "k1").stat().st_ino == before
    assert (directory / "k1").read_text() == "1\n"
    sh("echo 3 > k3", directory)
    assert listed(directory) == ["k2", "k3"]


@pytest.fixture(scope="module")
def limited() -> Iterator[MountedStore]:
    """A mount with a limit of 2."""
    with closing(MountedStore(pipeline_object_limit=2)) as store:
        store.mount()
        yield store


def test_touch_changes_the_times(pipeline: Path) -> None:
    """touch, chmod, chown and setfattr change attributes."""
    path = pipeline / "k"
    path.write_text("x")
    sh("touch -d '2001-02-03 04:05:06.789 UTC' k; chmod 4751 k", pipeline)
    assert path.stat().st_mtime_ns == 981_173_106_789_000_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o4751


def test_attributes_while_it_is_written(pipeline: Path) -> None:
    """chmod and touch through the writer's descriptor hold for what it publishes."""
    fd = os.open(pipeline / "k", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, b"x")
    os.fchmod(fd, 0o640)
    os.utime(fd, ns=(1_000_000_000, 2_000_000_000))
    os.setxattr(fd, "user.color", b"green")
    os.close(fd)
    found = (pipeline / "k").stat()
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_000, 2_000_000_000)
    assert os.getxattr(pipeline / "k", "user.color") == b"green"


# Mappings


@pytest.mark.parametrize("size", [1, 4095, 65_537, 1_048_577])
def test_mapped_for_reading(pipeline: Path, size: int) -> None:
    """mmap for reading works on every object."""
    content = os.urandom(size)
    (pipeline / "k").write_bytes(content)
    for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
        with open(pipeline / "k", "rb") as file, mmap.mmap(file.fileno(), 0, flags, mmap.PROT_READ) as mapped:
            assert mapped[:] == content


def test_mapped_copy_on_write(pipeline: Path) -> None:
    """mmap for reading works on every object: a private mapping may be written to, and changes nothing."""
    (pipeline / "k").write_bytes(b"0" * 5000)
    fd = os.open(pipeline / "k", os.O_RDONLY)
    with mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        mapped[0:3] = b"abc"
        assert mapped[:4] == b"abc0"
    os.close(fd)
    assert (pipeline / "k").read_bytes() == b"0" * 5000


def test_writing_through_a_mapping(pipeline: Path) -> None:
    """Where writing through a mapping cannot, it fails with a clear errno at mmap, never by losing data."""
    (pipeline / "k").write_bytes(b"0" * 5000)
    for name in ("k", "new"):
        fd = os.open(pipeline / name, os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, 5000)
        try:
            mapped = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            assert error.errno == errno.ENODEV  # noqa: PT017
            os.close(fd)
            assert (pipeline / name).stat().st_size == 5000
        else:
            mapped[0:3] = b"abc"
            mapped.flush()
            mapped.close()
            os.close(fd)
            assert (pipeline / name).read_bytes() == b"abc".ljust(5000, b"0" if name == "k" else b"\0")


# Sizes and positions


def test_truncate_by_path(pipeline: Path) -> None:
    """truncate works, and is a Put; a reader that has it open keeps its value."""
    path = pipeline / "k"
    path.write_text("0123456789")
    reader = os.open(path, os.O_RDONLY)
    os.truncate(path, 4)
    assert (path.stat().st_size, path.read_text()) == (4, "0123")
    os.truncate(path, 6)
    assert (path.stat().st_size, path.read_bytes()) == (6, b"0123\0\0")
    os.truncate(path, 0)
    assert (path.stat().st_size, path.read_bytes()) == (0, b"")
    assert os.read(reader, 100) == b"0123456789"
    os.close(reader)
    sh("truncate -s 3M k; stat -c %s k", pipeline)
    assert path.read_bytes() == bytes(3 * 1024 * 1024)


def test_truncate_by_path_again_and_again(pipeline: Path) -> None:
    """truncate works: in a loop, while others read and write."""
    (pipeline / "k").write_bytes(b"x" * 1000)
    code = """
import os, sys
for number in range(100):
    {}
"""
    truncating = code.format("os.truncate(sys.argv[1], 1000 + number % 5)")
    reading = code.format("content = open(sys.argv[1], 'rb').read(); assert 1000 <= len(content) < 1010, len(content)")
    writing = code.format("fd = os.open(sys.argv[1], os.O_WRONLY); os.pwrite(fd, b'y', number); os.close(fd)")
    end([start_python(program, pipeline / "k") for program in (truncating, truncating, reading, writing)])
    assert 1000 <= (pipeline / "k").stat().st_size < 1005


def test_ftruncate(pipeline: Path) -> None:
    """ftruncate works."""
    (pipeline / "k").write_text("0123456789")
    fd = os.open(pipeline / "k", os.O_RDWR)
    os.ftruncate(fd, 4)
    assert os.fstat(fd).st_size == 4
    assert (pipeline / "k").stat().st_size == 10
    os.ftruncate(fd, 6)
    os.close(fd)
    assert (pipeline / "k").read_bytes() == b"0123\0\0"


def test_fallocate(pipeline: Path) -> None:
    """fallocate (plain) works."""
    fd = os.open(pipeline / "k", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"abc")
    os.posix_fallocate(fd, 0, 100_000)
    assert os.fstat(fd).st_size == 100_000
    os.close(fd)
    assert (pipeline / "k").read_bytes() == b"abc".ljust(100_000, b"\0")


def test_fallocate_without_the_library(pipeline: Path) -> None:
    """fallocate (plain): the bare system call works, or says EOPNOTSUPP and changes nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    (pipeline / "k").write_text("abc")
    fd = os.open(pipeline / "k", os.O_RDWR)
    if libc.fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(1000)) == 0:
        assert os.fstat(fd).st_size == 1000
    else:
        assert ctypes.get_errno() == errno.EOPNOTSUPP
        assert os.fstat(fd).st_size == 3
    os.close(fd)


def test_seek_hole_and_data(pipeline: Path) -> None:
    """SEEK_HOLE/SEEK_DATA work (trivially)."""
    (pipeline / "k").write_bytes(b"x" * 1000)
    for flags in (os.O_RDONLY, os.O_RDWR):
        fd = os.open(pipeline / "k", flags)
        assert os.lseek(fd, 10, os.SEEK_DATA) == 10
        assert os.lseek(fd, 10, os.SEEK_HOLE) == 1000
        with refused(errno.ENXIO):
            os.lseek(fd, 1000, os.SEEK_DATA)
        os.close(fd)
    sh("cp --sparse=always k copy; cmp k copy", pipeline)


def test_copy_file_range_and_sendfile(pipeline: Path, run: Path) -> None:
    """copy_file_range and sendfile work (through the kernel's own fallback where need be)."""
    content = os.urandom(300_000)
    (pipeline / "k").write_bytes(content)
    source = os.open(pipeline / "k", os.O_RDONLY)

    def by_range(target: int, offset: int) -> int:
        return os.copy_file_range(source, target, 300_000 - offset, offset)

    def by_sendfile(target: int, offset: int) -> int:
        return os.sendfile(target, source, offset, 300_000 - offset)

    for copy in (by_range, by_sendfile):
        target = os.open(run / "k", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        offset = 0
        while offset < 300_000:
            offset += copy(target, offset)
        os.close(target)
        assert (run / "k").read_bytes() == content
    os.close(source)


def test_shutil_and_splice(pipeline: Path, tmp_path: Path) -> None:
    """copy_file_range and sendfile work: as programs use them, in and out of the mount."""
    sh("head -c 3000000 /dev/urandom > k", tmp_path)
    with Other() as program:
        program("import shutil; shutil.copy2(source, target)", source=tmp_path / "k", target=pipeline / "k")
        program("shutil.copy2(source, target)", source=pipeline / "k", target=pipeline / "l")
        program("shutil.copy2(source, target)", source=pipeline / "l", target=tmp_path / "m")
    sh('cmp k m; cat k | cat > "$there"/n; cmp k "$there"/n', tmp_path, there=pipeline)


# The same steps on a local file

STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 1), st.integers(0, 120), st.binary(min_size=1, max_size=60)),
    st.tuples(st.just("read"), st.integers(0, 1), st.integers(0, 120), st.integers(0, 200)),
    st.tuples(st.just("truncate"), st.integers(0, 1), st.integers(0, 150)),
    st.tuples(st.just("sync"), st.integers(0, 1)),
    st.tuples(st.just("end"), st.integers(0, 1)),
    st.tuples(st.just("reopen"), st.integers(0, 1)),
)


def _step(path: Path, fds: list[int], step: tuple[object, ...]) -> object:
    which, arguments = step[1], step[2:]
    assert isinstance(which, int)
    fd = fds[which]
    match step[0], arguments:
        case "write", (int(offset), bytes(content)):
            return os.pwrite(fd, content, offset)
        case "read", (int(offset), int(size)):
            return os.pread(fd, size, offset)
        case "truncate", (int(size),):
            os.ftruncate(fd, size)
            return None
        case "sync", ():
            os.fsync(fd)
            return None
        case "end", ():
            return os.lseek(fd, 0, os.SEEK_END), os.fstat(fd).st_size
        case "reopen", ():
            # Both: what one closed and opened again would be another copy than that of the other.
            for index, each in enumerate(fds):
                os.close(each)
                fds[index] = -1
            fds[:] = [os.open(path, os.O_RDWR) for _ in fds]
            return path.read_bytes()
    raise AssertionError(step)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(base=st.binary(max_size=100), steps=st.lists(STEP, max_size=14))
def test_edits_as_on_a_local_file(
    shared: MountedStore, tmp_path: Path, base: bytes, steps: list[tuple[object]]
) -> None:
    """An edit in place, through two descriptors at once, gives what the same steps give on a local file."""
    (shared.pipeline / "edits").mkdir(exist_ok=True)
    paths = [shared.pipeline / "edits/k", tmp_path / "k"]
    opened: list[list[int]] = []
    for path in paths:
        path.write_bytes(base)
        opened.append([os.open(path, os.O_RDWR) for _ in range(2)])
    try:
        for step in steps:
            ours, local = (_step(path, fds, step) for path, fds in zip(paths, opened, strict=True))
            assert ours == local, step
    finally:
        for fd in (fd for fds in opened for fd in fds if fd >= 0):
            os.close(fd)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def _pwrite(fd: int, offset: int, content: bytes) -> int:
    return os.pwrite(fd, content, offset)


def _ftruncate(fd: int, size: int) -> None:
    os.ftruncate(fd, size)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 1_048_577, 5 * 1_048_576])
def test_random_edits_of_large_values(pipeline: Path, tmp_path: Path, size: int) -> None:
    """An edit in place of a value of any size gives what the same steps give on a local file."""
    chance = random.Random(size)
    base = chance.randbytes(size)
    paths = [pipeline / "k", tmp_path / "k"]
    for path in paths:
        path.write_bytes(base)
    for _ in range(3):
        fds = [os.open(path, os.O_RDWR) for path in paths]
        for _ in range(12):
            offset = chance.choice([0, chance.randrange(size + 1000), max(0, size - 10), 65_530, 262_140])
            content = chance.randbytes(chance.choice([1, 20, 5000, 70_000, 300_000]))
            change: Callable[[int], object] = functools.partial(_pwrite, offset=offset, content=content)
            if chance.random() < 0.2:
                change = functools.partial(_ftruncate, size=offset)
            where, length = chance.randrange(size + 1), chance.choice([10, 200_000])
            ours, local = ((change(fd), os.fstat(fd).st_size, os.pread(fd, length, where)) for fd in fds)
            assert ours == local
        for fd in fds:
            os.close(fd)
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_an_append_that_is_cut_stays_removed(pipeline: Path) -> None:
    """Who removes the key that it appends to publishes nothing, also when it goes on by cutting what it has open."""
    (pipeline / "k").write_text("old")
    with (pipeline / "k").open("a") as file:
        file.write("new")
        file.flush()
        (pipeline / "k").unlink()
        os.ftruncate(file.fileno(), 2)
        file.write("more")
    assert listed(pipeline) == []
