"""A process that writes a new key and works on it by path, before anybody closed it: it has its own file."""

import os
import stat
import subprocess
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


def test_a_file_of_another_store_with_its_number(make_mount: MakeMount, pipeline: Path, one: Other) -> None:
    """Inode numbers are those of one store: who has such a file open has not this new key."""
    elsewhere = make_mount().pipeline / "p"
    elsewhere.mkdir()
    lowest = os.stat(elsewhere).st_ino
    path = next(path for path in map(pipeline.joinpath, map(str, range(1000))) if _number_of_new(path) > lowest + 10)
    with path.open("wb", buffering=0) as file:
        file.write(b"value")
        number = os.fstat(file.fileno()).st_ino
        numbers = []
        while number not in numbers:
            twin = elsewhere / str(len(numbers))
            twin.touch()
            numbers.append(twin.stat().st_ino)
            assert numbers[-1] <= number
        one("twin = open(twin)", twin=twin)
        assert not one("os.path.exists(path)", path=path)
        with pytest.raises(FileNotFoundError):
            one("os.unlink(path)")
        one("twin.close()")
    assert path.read_bytes() == b"value"


def _number_of_new(path: Path) -> int:
    """The private inode of a new key, which is removed again."""
    with path.open("wb") as file:
        path.unlink()
        return os.fstat(file.fileno()).st_ino


def test_truncating_it_by_path(pipeline: Path, one: Other, other: Other) -> None:
    start(one, pipeline / "k", b"one")
    start(other, pipeline / "k", b"other")
    one("os.truncate(path, 2)")
    assert (read(one), read(other)) == (b"on", b"other")


def test_another_thread_of_its_process(pipeline: Path, one: Other, other: Other) -> None:
    """It has what its process writes, and not what another process writes there."""
    start(other, pipeline / "k", b"other")
    start(one, pipeline / "k", b"one")
    one("""
from threading import Thread
def work():
    global seen
    fd = os.open(path, os.O_RDWR)
    seen = os.pread(fd, 100, 0), os.fstat(fd).st_size, os.stat(path).st_size
    os.pwrite(fd, b"O", 0)
    os.close(fd)
thread = Thread(target=work)
thread.start()
thread.join()
""")
    assert one("seen") == (b"one", 3, 3)
    assert (read(one), read(other)) == (b"One", b"other")


@pytest.fixture
def appended(pipeline: Path, one: Other) -> Other:
    """A process that has appended to a new key, and opens it once more, to edit it."""
    one(f"w = os.open(path, {APPEND}); os.write(w, b'value'); r = os.open(path, os.O_RDWR)", path=pipeline / "k")
    return one


@pytest.mark.parametrize("order", ["wr", "rw"])
def test_editing_what_it_appended(pipeline: Path, appended: Other, order: str) -> None:
    """It works on one file through both descriptors, whichever is closed first."""
    assert (read(appended), appended("os.fstat(r).st_size")) == (b"value", 5)
    appended("os.pwrite(r, b'V', 0); os.write(w, b's')")
    assert (read(appended), appended("os.lseek(r, 0, os.SEEK_END)")) == (b"Values", 6)
    appended(f"os.close({order[0]}); os.close({order[1]})")
    assert (pipeline / "k").read_bytes() == b"Values"


@pytest.mark.parametrize("size", [0, 2, 7])
def test_cutting_what_it_appended(pipeline: Path, appended: Other, size: int) -> None:
    appended("os.ftruncate(r, size); os.write(w, b'!')", size=size)
    value = b"value\0\0"[:size] + b"!"
    assert read(appended) == value
    appended("os.close(r); os.close(w)")
    assert (pipeline / "k").read_bytes() == value


@pytest.mark.parametrize("other_first", [True, False])
def test_looking_at_what_it_appended_loses_nothing(
    pipeline: Path, appended: Other, other: Other, other_first: bool
) -> None:
    """Who opens it to edit and writes nothing there leaves it an append, beside those of others."""
    other(f"w = os.open(path, {APPEND}); os.write(w, b'+')", path=pipeline / "k")
    closers = [(other, "os.close(w)"), (appended, "os.close(w); os.close(r)")]
    for process, code in closers if other_first else closers[::-1]:
        process(code)
    assert (pipeline / "k").read_bytes() == (b"+value" if other_first else b"value+")


def test_editing_what_it_appended_to_that_of_another(pipeline: Path, appended: Other, other: Other) -> None:
    """Once the other has closed, its value is what was appended to, and all of it is edited."""
    other(f"w = os.open(path, {APPEND}); os.write(w, b'other,'); os.close(w)", path=pipeline / "k")
    assert read(appended) == b"other,value"
    appended("os.pwrite(r, b'V', 6); os.write(w, b's')")
    assert read(appended) == b"other,Values"
    assert (pipeline / "k").read_bytes() == b"other,"
    appended("os.close(w); os.close(r)")
    assert (pipeline / "k").read_bytes() == b"other,Values"


def test_appending_through_two_descriptors(pipeline: Path, one: Other, other: Other) -> None:
    """Each is an append of its own, and none of them to what another process is writing there."""
    start(other, pipeline / "k", b"other")
    one(f"a, b = (os.open(path, {APPEND}) for _ in 'ab'); os.write(a, b'a'); os.write(b, b'b')", path=pipeline / "k")
    assert read(other) == b"other"
    one("os.close(a); os.close(b)")
    assert (pipeline / "k").read_bytes() == b"ab"
    other("os.close(w)")
    assert (pipeline / "k").read_bytes() == b"other"


CHILDREN = {
    "cat k": (["k"], b"own", "own"),
    "stat -c %s k": (["k"], b"own", "3\n"),
    "truncate -s 2 k": (["k"], b"ow", ""),
    "printf +more >> k": (["k"], b"own+more", ""),
    "rm k": ([], None, ""),
}


@pytest.mark.parametrize("child", CHILDREN)
def test_a_child_that_inherited_it(pipeline: Path, other: Other, child: str) -> None:
    """`exec 3> k; cat k` in a shell: the child has what its parent opened, and nothing of another process."""
    other(f"w = os.open(path, {OPEN})", path=pipeline / "k")
    script = ["bash", "-c", f"exec 3> k; printf own >&3; echo; read; ({child}); exec 3>&-"]
    with subprocess.Popen(script, cwd=pipeline, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "\n"
        other("os.write(w, b'of another process')")
        output = shell.communicate("\n", timeout=60)[0]
    names, value, printed = CHILDREN[child]
    assert (listed(pipeline), output) == (names, printed)
    assert not names or (pipeline / "k").read_bytes() == value
    other("os.close(w)")
    assert (pipeline / "k").read_bytes() == b"of another process"


def test_a_child_that_renames_it(pipeline: Path, other: Other) -> None:
    """Published under the new name is what its parent has written."""
    other(f"w = os.open(path, {OPEN})", path=pipeline / "k")
    script = ["bash", "-c", "exec 3> k; printf own >&3; echo; read; mv k l; cat l"]
    with subprocess.Popen(script, cwd=pipeline, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "\n"
        other("os.write(w, b'of another process')")
        assert shell.communicate("\n", timeout=60)[0] == "own"


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


@pytest.mark.parametrize("how", [OPEN, APPEND])
@pytest.mark.parametrize("directory", ["/dev/fd", "/proc/self/fd"])
def test_a_removed_name_opened_by_descriptor(
    pipeline: Path, one: Other, other: Other, how: str, directory: str
) -> None:
    """There is one file that no name leads to, whatever another process puts under the name."""
    one(f"w = os.open(path, {how}); os.write(w, b'value'); os.unlink(path)", path=pipeline / "k")
    other(f"w = os.open(path, {OPEN}); os.write(w, b'other')", path=pipeline / "k")
    one("path = f'{directory}/{w}'; r = os.open(path, os.O_RDONLY)", directory=directory)
    assert read(one) == b"value"
    one("a = os.open(path, os.O_WRONLY | os.O_APPEND); os.write(a, b's'); e = os.open(path, os.O_RDWR)")
    one("os.pwrite(e, b'V', 0)")
    assert (read(one), one("os.fstat(w).st_size"), read_by_path(one)) == (b"Values", 6, b"Values")
    one("t = os.open(path, os.O_WRONLY | os.O_TRUNC); os.write(t, b'cut')")
    assert (read(one), one("os.fstat(w).st_size"), read_by_path(one)) == (b"cut", 3, b"cut")
    one("[os.close(fd) for fd in (w, a, e, t)]")
    assert read(one) == b"cut"
    other("os.close(w)")
    one("os.close(r)")
    assert (pipeline / "k").read_bytes() == b"other"


@pytest.mark.parametrize("how", ["os.O_RDWR", OPEN, APPEND])
def test_a_removed_name_that_another_process_published(pipeline: Path, one: Other, other: Other, how: str) -> None:
    """Who removed its own and opens the name has what is published there."""
    one(f"w = os.open(path, {OPEN}); os.write(w, b'removed')", path=pipeline / "k")
    other(f"w = os.open(path, {OPEN}); os.write(w, b'other')", path=pipeline / "k")
    one("os.unlink(path)")
    other("os.fsync(w)")
    one(f"n = os.open(path, {how}); os.write(n, b'one'); os.close(n)")
    assert (pipeline / "k").read_bytes() == {"os.O_RDWR": b"oneer", OPEN: b"one", APPEND: b"otherone"}[how]
    assert one("os.pread(w, 100, 0)") == b"removed"


def read_by_path(process: Other) -> bytes:
    value: bytes = process("open(path, 'rb').read()")
    return value
