"""Put is atomic: nobody sees it before it is whole, everybody sees it from then on."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.support.disks import small_disk
from tests.support.mounting import MountedStore
from tests.support.processes import Other, end, run_sh, sh, start_python
from tests.support.shared_mount import listed, refused

pytestmark = pytest.mark.mount

PUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
SIZES = [0, 1, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 1_048_577, 5 * 1_048_576]


def _seen(directory: Path, name: str = "k") -> str:
    """What ls, stat and cat of a process of their own say."""
    return sh(f"ls; stat -c %s {name} 2>&1; cat {name} 2>&1; [ -e {name} ] || echo none", directory)


NOTHING = "stat: cannot statx 'k': No such file or directory\ncat: k: No such file or directory\nnone\n"


@pytest.mark.parametrize(
    "flags", [os.O_CREAT, os.O_CREAT | os.O_TRUNC, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_APPEND]
)
@pytest.mark.parametrize("access", [os.O_WRONLY, os.O_RDWR])
def test_a_new_key_is_invisible_until_close(pipeline: Path, flags: int, access: int) -> None:
    """Opening with O_CREAT or O_TRUNC starts a Put. Until the close `ls` and `stat` show no new key."""
    fd = os.open(pipeline / "k", access | flags)
    assert _seen(pipeline) == NOTHING
    os.write(fd, b"a" * 100_000)
    assert _seen(pipeline) == NOTHING
    os.write(fd, b"b")
    assert _seen(pipeline) == NOTHING
    os.close(fd)
    assert _seen(pipeline) == "k\n100001\n" + "a" * 100_000 + "b"


@pytest.mark.parametrize("flags", [os.O_TRUNC, os.O_CREAT | os.O_TRUNC])
@pytest.mark.parametrize("access", [os.O_WRONLY, os.O_RDWR])
def test_readers_get_the_old_value_until_close(pipeline: Path, flags: int, access: int) -> None:
    """Until the last descriptor is closed a reader gets the old value."""
    (pipeline / "k").write_text("old")
    fd = os.open(pipeline / "k", access | flags)
    assert _seen(pipeline) == "k\n3\nold"
    os.write(fd, b"new value")
    assert _seen(pipeline) == "k\n3\nold"
    os.close(fd)
    assert _seen(pipeline) == "k\n9\nnew value"


def test_a_put_of_nothing(pipeline: Path) -> None:
    """Opening with O_CREAT or O_TRUNC starts a Put, also of an empty value."""
    os.close(os.open(pipeline / "k", PUT))
    assert _seen(pipeline) == "k\n0\n"
    (pipeline / "k").write_text("full")
    os.close(os.open(pipeline / "k", os.O_WRONLY | os.O_TRUNC))
    assert _seen(pipeline) == "k\n0\n"


@pytest.mark.parametrize("how", ["os.dup(fd)", "os.dup2(fd, 60)", "fcntl.fcntl(fd, fcntl.F_DUPFD, 70)"])
def test_a_duplicate_keeps_it_open(pipeline: Path, how: str) -> None:
    """Nobody else sees it until the last descriptor on it is closed: a duplicate counts."""
    (pipeline / "old").write_text("old")
    with Other() as writer:
        for name in ("k", "old"):
            writer("fd = os.open(path, flags); os.write(fd, b'one')", path=pipeline / name, flags=PUT)
            writer(f"other = {how}")
            writer("os.close(fd)")
            assert _seen(pipeline).endswith(NOTHING)
            assert (pipeline / "old").read_text() == "old"
            writer("os.write(other, b'two')")
            assert (pipeline / "old").read_text() == "old"
            writer("os.close(other)")
            assert (pipeline / name).read_text() == "onetwo"
            (pipeline / "k").unlink(missing_ok=True)


def test_a_child_keeps_it_open(pipeline: Path) -> None:
    """Until the last descriptor on it is closed: one that a child inherited counts."""
    (pipeline / "old").write_text("old")
    for name in ("k", "old"):
        fd = os.open(pipeline / name, PUT)
        os.write(fd, b"parent ")
        with Other(pass_fds=[fd]) as child:
            os.close(fd)
            assert _seen(pipeline).endswith(NOTHING)
            assert (pipeline / "old").read_text() == "old"
            child("os.write(fd, b'child')", fd=fd)
            assert (pipeline / "old").read_text() == "old"
        assert (pipeline / name).read_text() == "parent child"
        (pipeline / "k").unlink(missing_ok=True)


def test_one_redirection_for_several_commands(pipeline: Path) -> None:
    """Until the last descriptor on it is closed: `(echo a; echo b) > k` is one Put."""
    script = """
    (/bin/echo a; cat k 2>/dev/null; ls; /bin/echo b) > k; cat k
    { /bin/echo c; cat k; (/bin/echo d); } > k; cat k
    """
    assert sh(script, pipeline) == "a\nb\n" + "c\na\nb\nd\n"


def test_fork_without_exec(pipeline: Path) -> None:
    """Until the last descriptor on it is closed: a fork that exits without a write publishes nothing halfway."""
    (pipeline / "k").write_text("old")
    with Other() as writer:
        writer("fd = os.open(path, flags); os.write(fd, b'half')", path=pipeline / "k", flags=PUT)
        writer("pid = os.fork()\nif not pid: os.close(fd); os._exit(0)\nos.waitpid(pid, 0)")
        assert (pipeline / "k").read_text() == "old"
        writer("os.write(fd, b' whole'); os.close(fd)")
    assert (pipeline / "k").read_text() == "half whole"


@pytest.mark.parametrize("sync", [os.fsync, os.fdatasync])
def test_fsync_publishes(pipeline: Path, sync: object) -> None:
    """Nobody else sees it until the last descriptor is closed, or until fsync/fdatasync."""
    assert callable(sync)
    for name in ("new", "k"):
        (pipeline / "k").write_text("old")
        fd = os.open(pipeline / name, PUT)
        os.write(fd, b"first")
        sync(fd)
        assert sh(f"cat {name}; stat -c ' %s' {name}", pipeline) == "first 5\n"
        os.write(fd, b" second")
        assert sh(f"cat {name}", pipeline) == "first"
        assert os.fstat(fd).st_size == 12
        os.close(fd)
        assert sh(f"cat {name}", pipeline) == "first second"


def test_fsync_through_a_duplicate_goes_on(pipeline: Path) -> None:
    """Until fsync: readers that opened what it published keep that value."""
    fd = os.open(pipeline / "k", PUT)
    os.write(fd, b"first")
    os.fsync(fd)
    with open(pipeline / "k", "rb") as reader:
        os.pwrite(fd, b"FIRST", 0)
        os.fsync(fd)
        assert reader.read() == b"first"
    assert (pipeline / "k").read_bytes() == b"FIRST"
    os.close(fd)


@pytest.mark.parametrize("existing", [False, True])
def test_the_writer_sees_its_own_bytes(pipeline: Path, existing: bool) -> None:
    """The writer sees its own bytes through its own descriptor (fstat, read, seek), like any file."""
    if existing:
        (pipeline / "k").write_text("the old value")
    fd = os.open(pipeline / "k", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0
    os.write(fd, b"hello world")
    assert os.fstat(fd).st_size == 11
    assert os.lseek(fd, 0, os.SEEK_END) == 11
    assert os.pread(fd, 100, 6) == b"world"
    os.lseek(fd, 6, os.SEEK_SET)
    os.write(fd, b"W")
    os.lseek(fd, 0, os.SEEK_SET)
    assert os.read(fd, 100) == b"hello World"
    os.ftruncate(fd, 5)
    assert os.fstat(fd).st_size == 5
    os.lseek(fd, 10, os.SEEK_SET)
    os.write(fd, b"!")
    assert os.pread(fd, 100, 0) == b"hello\0\0\0\0\0!"
    os.close(fd)
    assert (pipeline / "k").read_bytes() == b"hello\0\0\0\0\0!"


@pytest.mark.parametrize("size", SIZES)
def test_values_of_all_sizes(pipeline: Path, size: int) -> None:
    """Once close() has returned, every later open and stat shows it: values of every size, in any steps."""
    content = os.urandom(size)
    with open(pipeline / "k", "wb", buffering=0) as file:
        for start in range(0, size, 100_003):
            file.write(content[start : start + 100_003])
    assert (pipeline / "k").stat().st_size == size
    assert (pipeline / "k").read_bytes() == content
    sh("cp k copy; cmp k copy; dd if=k of=dd bs=7k status=none; cmp k dd", pipeline)


# Temporary files before close


@pytest.fixture(params=["itself", "child", "thread"])
def pending(request: pytest.FixtureRequest, pipeline: Path) -> Iterator[Other]:
    """A process that holds the new key `new` open as `fd`, with "content" written.

    It opened it itself, or inherited it, or opened it in another thread.
    """
    how = request.param
    if how == "child":
        fd = os.open(pipeline / "new", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.write(fd, b"content")
        other = Other(pass_fds=[fd])
        other("fd = number", number=fd)
        os.close(fd)
    else:
        other = Other()
        code = "fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)"
        if how == "thread":
            code = f"def make():\n global fd\n {code}"
            code = f"import threading\n{code}\nthread = threading.Thread(target=make)\nthread.start()\nthread.join()"
        other(code, path=pipeline / "new")
        other("os.write(fd, b'content')")
    other("os.chdir(directory)", directory=pipeline)
    yield other
    other.stop()


def test_its_own_new_key_by_path(pipeline: Path, pending: Other) -> None:
    """A process that holds a new key open sees it by path as well: stat and open it."""
    assert pending("os.stat('new').st_size") == 7
    assert pending("os.path.exists('new')")
    assert pending("os.stat('new').st_ino == os.fstat(fd).st_ino")
    assert pending("open('new', 'rb').read()") == b"content"
    pending("second = os.open('new', os.O_RDONLY)")
    assert pending("os.read(second, 100)") == b"content"
    assert listed(pipeline) == []
    assert _seen(pipeline, "new").endswith("none\n")
    pending("os.close(second); os.close(fd)")
    assert (pipeline / "new").read_bytes() == b"content"


def test_its_own_new_key_opened_for_writing_again(pipeline: Path, pending: Other) -> None:
    """A process that holds a new key open sees it by path as well: it can open it to write, too."""
    pending("second = os.open('new', os.O_WRONLY); os.pwrite(second, b'C', 0); os.close(second)")
    pending("os.close(fd)")
    assert (pipeline / "new").read_bytes() == b"Content"


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("rename", ["os.rename", "os.replace"])
def test_its_own_new_key_renamed(pipeline: Path, pending: Other, rename: str, existing: bool) -> None:
    """Rename it: it is then published under the new name."""
    if existing:
        (pipeline / "k").write_text("old")
    pending(f"{rename}('new', 'k')")
    assert listed(pipeline) == ["k"]
    assert (pipeline / "k").read_bytes() == b"content"
    pending("os.write(fd, b' and more')")
    assert pending("os.fstat(fd).st_size") == 16
    assert (pipeline / "k").read_bytes() == b"content"
    pending("os.close(fd)")
    assert listed(pipeline) == ["k"]
    assert (pipeline / "k").read_bytes() == b"content and more"


@pytest.mark.parametrize("flags", ["0", "os.O_APPEND"], ids=["create", "append"])
@pytest.mark.parametrize("value", [b"", b"value"], ids=["nothing", "value"])
def test_its_own_new_key_renamed_over_another(pipeline: Path, one: Other, flags: str, value: bytes) -> None:
    """However it was opened, and though nothing was written: a rename replaces, and appending goes on behind that."""
    (pipeline / "k").write_text("old")
    one(f"fd = os.open(new, os.O_RDWR | os.O_CREAT | {flags})", new=pipeline / "new", key=pipeline / "k")
    one("os.write(fd, value)", value=value)
    one("os.rename(new, key)")
    assert (pipeline / "k").read_bytes() == value == one("os.pread(fd, 100, 0)")
    if flags != "0":
        with (pipeline / "k").open("ab") as behind:
            behind.write(b" and others")
        value += b" and others"
    one("os.write(fd, b' and more')")
    one("os.close(fd)")
    assert (pipeline / "k").read_bytes() == value + b" and more"


def test_its_own_new_key_renamed_and_nothing_more(pipeline: Path, pending: Other) -> None:
    """Rename it: it is then published under the new name, once."""
    pending("os.rename('new', 'k'); os.close(fd)")
    assert listed(pipeline) == ["k"]
    assert (pipeline / "k").read_bytes() == b"content"


def test_its_own_new_key_renamed_elsewhere(pipeline: Path, other_pipeline: Path, run: Path, pending: Other) -> None:
    """Rename it: into another directory, pipeline or run, too."""
    (pipeline / "d").mkdir()
    pending("os.rename('new', 'd/k')")
    assert (pipeline / "d/k").read_bytes() == b"content"
    pending("os.rename('d/k', target)", target=other_pipeline / "k")
    pending("os.rename(source, target)", source=other_pipeline / "k", target=run / "k")
    pending("os.close(fd)")
    assert (run / "k").read_bytes() == b"content"
    assert (listed(pipeline), listed(other_pipeline), listed(pipeline / "d")) == (["d"], [], [])


def test_its_own_new_key_unlinked(pipeline: Path, pending: Other) -> None:
    """Unlink it: it is then never published."""
    pending("os.unlink('new')")
    assert not pending("os.path.exists('new')")
    pending("os.write(fd, b' and more')")
    assert pending("os.pread(fd, 100, 0)") == b"content and more"
    pending("os.fsync(fd)")
    assert listed(pipeline) == []
    pending("os.close(fd)")
    assert listed(pipeline) == []
    (pipeline / "new").write_text("another")
    assert (pipeline / "new").read_text() == "another"


@pytest.mark.parametrize("by", ["its remover", "somebody else"])
def test_a_key_that_one_of_its_creators_removed(pipeline: Path, one: Other, other: Other, by: str) -> None:
    """Who creates it after that puts a value of its own, although another still has it open."""
    one("removed = os.open(path, os.O_RDWR | os.O_CREAT); os.write(removed, b'removed')", path=pipeline / "k")
    other("fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC); os.write(fd, b'last')", path=pipeline / "k")
    one("os.unlink(path)")
    with Other() as third:
        creator = one if by == "its remover" else third
        creator("fd = os.open(path, os.O_RDWR | os.O_CREAT); os.write(fd, b'new'); os.close(fd)", path=pipeline / "k")
    assert (pipeline / "k").read_bytes() == b"new"
    assert one("os.pread(removed, 100, 0)") == b"removed"
    one("os.close(removed)")
    assert (pipeline / "k").read_bytes() == b"new"
    other("os.close(fd)")
    assert (pipeline / "k").read_bytes() == b"last"


def test_temporary_files_of_the_standard_library(pipeline: Path) -> None:
    """The idioms of temporary files work before close."""
    with Other() as program:
        program("import tempfile; file = tempfile.NamedTemporaryFile(dir=directory)", directory=pipeline)
        program("file.write(b'spooled'); file.flush()")
        assert program("open(file.name, 'rb').read()") == b"spooled"
        program("os.link if False else os.replace(file.name, target)", target=pipeline / "k")
        program("file.delete = False; file._closer.delete = False if hasattr(file, '_closer') else None; file.close()")
        assert (pipeline / "k").read_bytes() == b"spooled"
        program("with tempfile.TemporaryFile(dir=directory) as file: file.write(b'x'); file.seek(0); file.read()")
        program("with tempfile.NamedTemporaryFile(dir=directory) as file: file.write(b'x'); name = file.name")
        assert not program("os.path.exists(name)")
    assert listed(pipeline) == ["k"]


@pytest.mark.parametrize("mode", ["w", "a", "r+"])
@pytest.mark.parametrize("first", ["opened", "descriptor"])
def test_mkstemp_then_open_by_path(pipeline: Path, mode: str, first: str) -> None:
    """The idioms of temporary files work before close: mkstemp, then open the path, whichever is closed first."""
    with Other() as program:
        program("import tempfile; fd, path = tempfile.mkstemp(dir=directory)", directory=pipeline)
        program(f"file = open(path, {mode!r}); file.write('content')")
        for step in ["file.close()", "os.close(fd)"][:: 1 if first == "opened" else -1]:
            program(step)
        program("os.rename(path, target)", target=pipeline / "k")
    assert listed(pipeline) == ["k"]
    assert (pipeline / "k").read_text() == "content"


def test_others_cannot_see_or_touch_a_new_key(pipeline: Path) -> None:
    """Nobody else sees it: for another process the key is not there to open, rename or remove."""
    with Other() as writer:
        writer("fd = os.open(path, flags); os.write(fd, b'x')", path=pipeline / "k", flags=PUT)
        with refused(errno.ENOENT):
            os.open(pipeline / "k", os.O_RDONLY)
        with refused(errno.ENOENT):
            os.unlink(pipeline / "k")
        with refused(errno.ENOENT):
            os.rename(pipeline / "k", pipeline / "l")
        writer("os.close(fd)")
    assert listed(pipeline) == ["k"]


def test_an_existing_value_is_what_the_writer_sees_by_path(pipeline: Path) -> None:
    """Where a value exists already, everybody, the writer too, sees that value by path until the Put is published."""
    (pipeline / "k").write_text("old")
    with Other() as writer:
        writer("fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)", path=pipeline / "k")
        writer("os.write(fd, b'new value')")
        assert writer("open(path).read()") == "old"
        assert writer("os.stat(path).st_size") == 3
        assert writer("os.fstat(fd).st_size") == 9
        assert writer("os.pread(fd, 100, 0)") == b"new value"
        writer("os.close(fd)")
        assert writer("open(path).read()") == "new value"


def test_sort_into_itself(pipeline: Path) -> None:
    """`sort k > k` sorts k."""
    sh("seq 5000 | sort -R > k; sort -n k > k", pipeline)
    assert (pipeline / "k").read_text() == "".join(f"{number}\n" for number in range(1, 5001))
    assert sh("tac k > k; head -1 k; tr 0-9 a-j < k > k; head -1 k", pipeline) == "5000\nfaaa\n"


# O_EXCL


def test_exclusive_creation(pipeline: Path) -> None:
    """O_EXCL is `force=False`: EEXIST where the key exists."""
    (pipeline / "k").write_text("old")
    (pipeline / "d").mkdir()
    (pipeline / "l").symlink_to("nowhere")
    for name in ("k", "d", "l"):
        with refused(errno.EEXIST):
            os.open(pipeline / name, PUT | os.O_EXCL)
    done = run_sh("set -C; echo new > k", pipeline)
    assert done.returncode != 0
    assert (pipeline / "k").read_text() == "old"


def test_exclusive_creation_beside_a_creator(pipeline: Path) -> None:
    """O_EXCL: EEXIST where another writer has it open to create it."""
    with Other() as writer:
        writer("fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)", path=pipeline / "k")
        with refused(errno.EEXIST):
            os.open(pipeline / "k", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        writer("os.write(fd, b'mine'); os.close(fd)")
    assert (pipeline / "k").read_text() == "mine"


def test_one_of_many_exclusive_creators_wins(pipeline: Path) -> None:
    """O_EXCL: of many at once one succeeds."""
    code = """
import os, sys
won = 0
for number in range(100):
    try:
        fd = os.open(f"{sys.argv[1]}/k{number % 40}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        continue
    os.write(fd, sys.argv[2].encode())
    os.close(fd)
    won += 1
print(won)
"""
    processes = [start_python(code, pipeline, letter) for letter in "abcd"]
    assert sum(int(output) for output in end(processes)) == 40
    assert {(pipeline / f"k{number}").read_text() for number in range(40)} <= set("abcd")


def test_a_creator_that_gave_up_leaves_the_name_free(pipeline: Path) -> None:
    """O_EXCL: EEXIST where another writer has it open; once that one unlinked it, the name is free."""
    with Other() as writer:
        writer("fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)", path=pipeline / "k")
        writer("os.unlink(path)")
        fd = os.open(pipeline / "k", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(fd, b"second")
        writer("os.write(fd, b'first'); os.close(fd)")
        assert listed(pipeline) == []
        os.close(fd)
    assert (pipeline / "k").read_text() == "second"


# Read your writes


def test_close_has_committed(shared: MountedStore, pipeline: Path) -> None:
    """Once close() has returned, the Put is committed and every later open, stat or ls on this mount shows it."""
    with Other() as reader:
        for number in range(150):
            content = b"%d" % number
            with open(pipeline / f"k{number % 7}", "wb") as file:
                file.write(content)
            assert reader("open(path, 'rb').read()", path=pipeline / f"k{number % 7}") == content
            assert reader("os.stat(path).st_size") == len(content)
            assert reader("os.path.basename(path) in os.listdir(os.path.dirname(path))")
    found = shared.cli("pipeline", "object", "get", pipeline.name, f"k{149 % 7}", exit_code=0)
    assert found.stdout == b"149"


def test_a_negative_entry_does_not_hide_it(pipeline: Path) -> None:
    """Every later open, stat or ls shows it: also where the name was asked for before, and while it was written."""
    with Other() as other:
        for number in range(50):
            path = pipeline / f"k{number}"
            assert not path.exists()
            fd = os.open(path, PUT)
            assert not other("os.path.exists(path)", path=path)
            os.close(fd)
            assert other("os.path.exists(path)")
            assert path.exists()
            path.unlink()
            assert not other("os.path.exists(path)")


@pytest.mark.parametrize("size", [100, 100_000, 3_000_000])
def test_it_survives_the_kill_of_the_daemon(make_mount: MakeMount, size: int) -> None:
    """It survives a kill -9 of the daemon."""
    store = make_mount()
    (store.pipeline / "p").mkdir()
    contents = [bytes([65 + number]) * size for number in range(10)]
    for number, content in enumerate(contents):
        (store.pipeline / f"p/k{number}").write_bytes(content)
    store.kill()
    store.detach()
    store.mount()
    assert [(store.pipeline / f"p/k{number}").read_bytes() for number in range(10)] == contents


def test_what_was_not_closed_does_not_survive(make_mount: MakeMount) -> None:
    """A Put that was neither closed nor synced when the daemon was killed leaves the old value."""
    store = make_mount()
    (store.pipeline / "p").mkdir()
    (store.pipeline / "p/k").write_text("old")
    with Other() as writer:
        writer("a = os.open(path, flags); os.write(a, b'x' * 3_000_000)", path=store.pipeline / "p/k", flags=PUT)
        writer("b = os.open(path, flags); os.write(b, b'x')", path=store.pipeline / "p/new", flags=PUT)
        store.kill()
        store.detach()
    store.mount()
    assert listed(store.pipeline / "p") == ["k"]
    assert (store.pipeline / "p/k").read_text() == "old"


def test_fsync_survives_the_kill_of_the_daemon(make_mount: MakeMount) -> None:
    """Once fsync has returned, it survives (here a kill; power cuts need a disk of their own)."""
    store = make_mount()
    (store.pipeline / "p").mkdir()
    fd = os.open(store.pipeline / "p/k", PUT)
    os.write(fd, b"synced")
    os.fsync(fd)
    os.write(fd, b" and not")
    store.kill()
    store.detach()
    with refused(errno.ENOTCONN, errno.EIO, errno.ECONNABORTED):
        os.close(fd)
    store.mount()
    assert (store.pipeline / "p/k").read_text() == "synced"


# Failed Puts


@pytest.mark.parametrize("piece", [1_000, 200_000])
def test_too_large(make_mount: MakeMount, piece: int) -> None:
    """A failed Put is told to the writer: EFBIG (over `max_object_size`), and the old value stands."""
    store = make_mount(max_object_size="100KiB")
    directory = store.pipeline / "p"
    directory.mkdir()
    (directory / "k").write_bytes(b"old")
    for name in ("k", "new"):
        with refused(errno.EFBIG), open(directory / name, "wb", buffering=0) as file:
            for _ in range(0, 300_000, piece):
                file.write(b"n" * piece)
        with refused(errno.EFBIG), open(directory / name, "ab", buffering=0) as file:
            for _ in range(0, 300_000, piece):
                file.write(b"n" * piece)
    with refused(errno.EFBIG):
        os.truncate(directory / "k", 102_401)
    assert (directory / "k").read_bytes() == b"old"
    assert listed(directory) == ["k"]
    (directory / "fits").write_bytes(b"f" * 102_400)
    os.truncate(directory / "fits", 102_400)
    assert (directory / "fits").stat().st_size == 102_400


def test_a_full_disk(make_mount: MakeMount) -> None:
    """A failed Put is told to the writer: close(), write() or fsync() returns ENOSPC, and the old value stands."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    with small_disk(8) as small:
        mounted = make_mount(store=small / "objects.db")
        try:
            _fill(mounted)
        finally:
            mounted.discard()  # before the disk under it goes


def _fill(store: MountedStore) -> None:
    store.expect_log("(?i)full|space|ENOSPC")
    directory = store.pipeline / "p"
    directory.mkdir()
    (directory / "k").write_text("old")
    for name in ("k", "new"):
        with refused(errno.ENOSPC), open(directory / name, "wb", buffering=0) as file:
            for _ in range(20):
                file.write(os.urandom(1 << 20))
    assert (directory / "k").read_text() == "old"
    assert listed(directory) == ["k"]
    (directory / "k").unlink()
    (directory / "small").write_text("there is room again")
    assert (directory / "small").read_text() == "there is room again"
    store.unmount()


# Writers that exit, and two at once


@pytest.mark.parametrize("code", ["sys.exit(0)", "sys.exit(7)", "os._exit(0)", "os._exit(9)", "raise ValueError"])
def test_a_writer_that_exits_publishes(pipeline: Path, code: str) -> None:
    """A process that merely exits (any exit status) with the descriptor open has closed it, and publishes."""
    (pipeline / "old").write_text("old")
    for name in ("k", "old"):
        script = f"import os, sys; fd = os.open({str(pipeline / name)!r}, {PUT}); os.write(fd, b'whole'); {code}"
        subprocess.run([sys.executable, "-I", "-S", "-c", script], timeout=60, check=False, stderr=subprocess.DEVNULL)
        assert sh(f"cat {name}", pipeline) == "whole"


@pytest.mark.parametrize("existing", [False, True])
def test_two_puts_at_once(pipeline: Path, existing: bool) -> None:
    """Two Puts of one key at once: both are whole, the last to close wins."""
    path = pipeline / "k"
    if existing:
        path.write_text("old")
    with Other() as one, Other() as two:
        for writer in (one, two):
            writer("fd = os.open(path, flags)", path=path, flags=PUT)
        one("os.write(fd, b'one' * 30_000)")
        two("os.write(fd, b'two')")
        one("os.write(fd, b'ONE')")
        two("os.write(fd, b'TWO')")
        two("os.close(fd)")
        assert path.read_bytes() == b"twoTWO"
        one("os.write(fd, b'!')")
        assert path.read_bytes() == b"twoTWO"
        one("os.close(fd)")
        assert path.read_bytes() == b"one" * 30_000 + b"ONE!"


def test_each_of_two_writers_sees_its_own_size(pipeline: Path) -> None:
    """The writer sees its own bytes through its own descriptor (fstat, seek): also beside another writer."""
    with Other() as one, Other() as two:
        for writer, content in ((one, b"one" * 30_000), (two, b"two")):
            writer("fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)", path=pipeline / "k")
            writer("os.write(fd, content)", content=content)
        assert one("os.pread(fd, 1_000_000, 0)") == b"one" * 30_000
        assert two("os.pread(fd, 1_000_000, 0)") == b"two"
        assert one("os.fstat(fd).st_size") == 90_000
        assert two("os.fstat(fd).st_size") == 3
        assert one("os.lseek(fd, 0, os.SEEK_END)") == 90_000


def test_two_puts_in_one_process(pipeline: Path) -> None:
    """Two Puts of one key at once: both are whole, in one process too."""
    first = os.open(pipeline / "k", PUT)
    second = os.open(pipeline / "k", PUT)
    os.write(first, b"first value")
    os.write(second, b"second")
    os.close(first)
    assert (pipeline / "k").read_bytes() == b"first value"
    os.close(second)
    assert (pipeline / "k").read_bytes() == b"second"


def test_many_puts_at_once(pipeline: Path) -> None:
    """Two Puts of one key at once: both are whole, whatever the number."""
    code = """
import os, sys
for number in range(60):
    with open(sys.argv[1], "wb", buffering=0) as file:
        for part in range(3):
            file.write(sys.argv[2].encode() * (1000 + number))
    content = open(sys.argv[1], "rb").read()
    assert len(set(content)) == 1 and len(content) % 3 == 0, (len(content), set(content))
"""
    end([start_python(code, pipeline / "k", letter) for letter in "abcd"])
    assert len(set((pipeline / "k").read_bytes())) == 1


def test_unlink_while_it_is_overwritten(pipeline: Path) -> None:
    """Two operations of one key at once: who removes the old value does not stop the Put under way."""
    (pipeline / "k").write_text("old")
    with Other() as writer:
        writer("fd = os.open(path, flags); os.write(fd, b'new')", path=pipeline / "k", flags=PUT)
        (pipeline / "k").unlink()
        assert listed(pipeline) == []
        writer("os.close(fd)")
    assert (pipeline / "k").read_text() == "new"
