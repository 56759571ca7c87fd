"""Several processes write one new key: what one of them does by the name is done to its own, whoever opened that in it.

Its own is what any thread of the process opened, or an ancestor; else what nobody is left for who opened it.
"""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import SECONDS, Other, end, start_python
from tests.support.shared_mount import listed, refused

pytestmark = pytest.mark.mount

CREATE = "os.O_RDWR | os.O_CREAT | os.O_TRUNC"
IN_A_THREAD = f"""
from threading import Thread
def create():
    global k
    k = os.open(path, {CREATE})
    os.write(k, b"mine!")
thread = Thread(target=create)
thread.start()
thread.join()
"""


def create_too(other: Other, path: Path) -> None:
    other(f"k = os.open(path, {CREATE}); os.write(k, b'of another')", path=path)


@pytest.fixture
def opened_by_a_thread(pipeline: Path, one: Other, other: Other) -> Other:
    """One that created the key by a thread which has ended; then another process created it, too."""
    one(IN_A_THREAD, path=pipeline / "k", to=pipeline / "l")
    create_too(other, pipeline / "k")
    return one


class Heir:
    """A process whose parent created a key and has ended. It does what it is told, and answers with an errno."""

    def __init__(self, path: Path) -> None:
        script = f"""
import os, sys
k = os.open(sys.argv[1], {CREATE})
os.write(k, b"mine!")
if os.fork():
    os._exit(0)
path, to = sys.argv[1], sys.argv[1][:-1] + "l"
for line in sys.stdin:
    try:
        exec(line)
        print(0, flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""
        self._input, told = os.pipe()
        self._told = os.fdopen(told, "w")
        answers, self._output = os.pipe()
        self._answers = os.fdopen(answers)
        command = [sys.executable, "-I", "-S", "-c", script, str(path)]
        self.parent = subprocess.Popen(command, stdin=self._input, stdout=self._output)
        os.waitid(os.P_PID, self.parent.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        os.close(self._input)
        os.close(self._output)

    def __call__(self, code: str) -> int:
        print(code, file=self._told, flush=True)
        return int(self._answers.readline())

    def end(self) -> None:
        self._told.close()
        assert self._answers.read() == ""
        self._answers.close()
        assert self.parent.wait(SECONDS) == 0


@pytest.fixture(params=["a zombie", "gone"])
def heir(request: pytest.FixtureRequest, pipeline: Path, other: Other) -> Iterator[Heir]:
    """It inherited the key from one who has ended; then another process created it, too."""
    heir = Heir(pipeline / "k")
    if request.param == "gone":
        assert heir.parent.wait(SECONDS) == 0
    create_too(other, pipeline / "k")
    yield heir
    heir.end()


def test_removed(pipeline: Path, opened_by_a_thread: Other, other: Other) -> None:
    opened_by_a_thread("os.unlink(path)")
    other("os.close(k)")
    opened_by_a_thread("os.close(k)")
    assert (pipeline / "k").read_bytes() == b"of another"


def test_renamed(pipeline: Path, opened_by_a_thread: Other, other: Other) -> None:
    opened_by_a_thread("os.rename(path, to)")
    assert (pipeline / "l").read_bytes() == b"mine!"
    other("os.close(k)")
    opened_by_a_thread("os.close(k)")
    assert [(pipeline / name).read_bytes() for name in listed(pipeline)] == [b"of another", b"mine!"]


def test_looked_at(opened_by_a_thread: Other) -> None:
    assert opened_by_a_thread("path.read_bytes()") == b"mine!"
    assert opened_by_a_thread("os.fstat(k).st_size, path.stat().st_size") == (5, 5)


def test_cut(pipeline: Path, opened_by_a_thread: Other, other: Other) -> None:
    opened_by_a_thread("os.truncate(path, 2)")
    assert (opened_by_a_thread("path.read_bytes()"), other("path.read_bytes()")) == (b"mi", b"of another")
    opened_by_a_thread("os.close(k)")
    other("os.close(k)")
    assert (pipeline / "k").read_bytes() == b"of another"


def test_removed_by_who_inherited_it(pipeline: Path, heir: Heir, other: Other) -> None:
    assert heir("os.unlink(path)") == 0
    other("os.close(k)")
    assert heir("os.close(k)") == 0
    assert (pipeline / "k").read_bytes() == b"of another"


def test_renamed_by_who_inherited_it(pipeline: Path, heir: Heir, other: Other) -> None:
    assert heir("os.rename(path, to)") == 0
    assert (pipeline / "l").read_bytes() == b"mine!"
    other("os.close(k)")
    assert heir("os.write(k, b'!'); os.close(k)") == 0
    assert [(pipeline / name).read_bytes() for name in listed(pipeline)] == [b"of another", b"mine!!"]


def test_inherited_by_two(pipeline: Path, heir: Heir, other: Other) -> None:
    """From two processes that are gone: nothing tells which is whose."""
    second = Heir(pipeline / "k")
    try:
        for each in (heir, second):
            assert each("os.unlink(path)") == errno.ENOENT
            assert each("os.rename(path, to)") == errno.ENOENT
            assert each("os.truncate(f'/proc/self/fd/{k}', 1)") == errno.ESTALE
        for each in (heir, second):
            assert each("os.close(k)") == 0
            assert (pipeline / "k").read_bytes() == b"mine!"
    finally:
        second.end()
    other("os.close(k)")
    assert (pipeline / "k").read_bytes() == b"of another"


@pytest.mark.parametrize("code", ["os.unlink(path)", "os.rename(path, path + '.moved')"], ids=["removed", "renamed"])
def test_by_who_was_adopted(pipeline: Path, code: str) -> None:
    """By a process that opened the key after all of them were started: none of that is inherited."""
    script = f"""
import ctypes, os, sys, time
path = sys.argv[1]
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
go, going = os.pipe()
done, doing = os.pipe()
if not (child := os.fork()):
    k = os.open(path, {CREATE})
    os.write(k, b"of the child")
    if not os.fork():
        os.read(go, 1)
        {code}
        os.close(k)
        os.write(doing, b"1")
    os._exit(0)
os.waitpid(child, 0)
time.sleep(0.02)  # starts are known to hundredths of a second
k = os.open(path, {CREATE})
os.write(k, b"of who adopted it")
os.write(going, b"1")
os.close(doing)
assert os.read(done, 1) == b"1", "the heir failed"
os.close(k)
"""
    end([start_python(script, pipeline / "k")])
    values = {name: (pipeline / name).read_bytes() for name in listed(pipeline)}
    assert values.pop("k") == b"of who adopted it"
    assert values == ({} if "unlink" in code else {"k.moved": b"of the child"})


@pytest.fixture
def sent(pipeline: Path, one: Other, tmp_path: Path) -> Iterator[Other]:
    """A process that was sent a descriptor of a key which `one` creates."""
    one(f"k = os.open(path, {CREATE}); os.write(k, b'mine!')", path=pipeline / "k")
    one("import socket; sender = socket.socket(socket.AF_UNIX)")
    with Other() as third:
        third("import socket; server = socket.socket(socket.AF_UNIX)")
        third("server.bind(where); server.listen()", where=str(tmp_path / "socket"))
        one("sender.connect(where); socket.send_fds(sender, [b'k'], [k])", where=str(tmp_path / "socket"))
        third("connection = server.accept()[0]; k = socket.recv_fds(connection, 1, 1)[1][0]")
        third("None", path=pipeline / "k", to=pipeline / "l")
        yield third


def test_who_was_sent_a_descriptor(pipeline: Path, one: Other, sent: Other) -> None:
    """Of the only one who writes there."""
    assert (sent("path.read_bytes()"), sent("os.fstat(k).st_size")) == (b"mine!", 5)
    sent("os.rename(path, to); os.close(k)")
    one("os.close(k)")
    assert (listed(pipeline), (pipeline / "l").read_bytes()) == (["l"], b"mine!")


def test_who_was_sent_a_descriptor_where_several_write(pipeline: Path, one: Other, sent: Other, other: Other) -> None:
    """Nothing tells whose that is, for it opened none itself: it takes nothing along, and is shown nothing."""
    create_too(other, pipeline / "k")
    for code in ("path.read_bytes()", "os.rename(path, to)", "os.unlink(path)"):
        with refused(errno.ENOENT):
            sent(code)
    with refused(errno.ESTALE):
        sent("os.truncate(f'/proc/self/fd/{k}', 1)")
    assert (sent("os.pread(k, 100, 0)"), sent("os.fstat(k).st_size")) == (b"mine!", 0)
    sent("os.close(k)")
    one("os.close(k)")
    assert (pipeline / "k").read_bytes() == b"mine!"
    other("os.close(k)")
    assert (pipeline / "k").read_bytes() == b"of another"
