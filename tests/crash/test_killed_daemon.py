"""What close() acknowledged survives the kill -9 of the daemon, and nothing half does."""

import errno
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine import open_store
from engine.config import ObjectStoreSettings
from tests.conftest import MakeMount
from tests.support.invariants import check_nothing_left, check_store
from tests.support.mounting import MountedStore
from tests.support.processes import Other, end, start_python
from tests.support.shared_mount import by_age, listed, refused

pytestmark = pytest.mark.mount

KILLS = 10
WORKERS = 4
LIMIT = 5
SIZES = [0, 1, 100, 65_535, 65_537, 300_000]
DIED = (errno.ENOTCONN, errno.ECONNABORTED)

PUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def settings(store: MountedStore) -> ObjectStoreSettings:
    return ObjectStoreSettings(path=store.store)


def check(store: MountedStore, *, clean: bool) -> None:
    """Check the store beside its mount; with `clean`, there is no mount and nothing superfluous may be left."""
    with open_store(settings(store)) as opened:
        if clean:
            check_nothing_left(opened)
        else:
            check_store(opened)


# Under load

WORKER = """
import hashlib, json, os, random, sys
top, ledger_path, number, seed = sys.argv[1:]
chance = random.Random(f"{seed}-{number}")
ledger = os.open(ledger_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

def note(*entry):
    os.write(ledger, json.dumps(entry).encode() + b"\\n")

def digest(value):
    return None if value is None else hashlib.sha256(value).hexdigest()

def write(path, flags, value):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags)
    try:
        for start in range(0, len(value), 100_000):
            os.write(fd, value[start : start + 100_000])
    finally:
        os.close(fd)

def proven(size):
    value = chance.randbytes(size)
    return hashlib.sha256(value).hexdigest().encode() + value

own = f"{top}/own/w{number}"
os.makedirs(own, exist_ok=True)
known = {}
for name in os.listdir(own):
    with open(f"{own}/{name}", "rb") as file:
        known[name] = file.read()
note("start", {name: digest(value) for name, value in known.items()})
print("ready", flush=True)
line = 0
try:
    while True:
        name, other = (f"k{chance.randrange(8)}" for _ in range(2))
        size = chance.choice([0, 10, 100, 1000, 5000, 5000, 70_000, 300_000])
        what = chance.choice(["put"] * 4 + ["append"] * 3 + ["rename", "delete"] + ["limited"] * 2 + ["log"] * 2)
        if what == "limited":
            # A key that all of them overwrite, in a pipeline that evicts: only whole values may be found there.
            note("begin", {})
            write(f"{top}/limited/k{chance.randrange(12)}", os.O_TRUNC, proven(size))
        elif what == "log":
            line += 1
            text = f"{seed}.{number}.{line}"
            note("begin", {"log": text})
            write(f"{top}/own/log", os.O_APPEND, text.encode() + b"\\n")
        else:
            if what == "put":
                after = {name: chance.randbytes(size)}
            elif what == "append":
                after = {name: known.get(name, b"") + chance.randbytes(min(size, 5000))}
            elif name not in known or name == other:
                continue
            elif what == "rename":
                after = {name: None, other: known[name]}
            else:
                after = {name: None}
            note("begin", {key: digest(value) for key, value in after.items()})
            if what == "put":
                write(f"{own}/{name}", os.O_TRUNC, after[name])
            elif what == "append":
                write(f"{own}/{name}", os.O_APPEND, after[name][len(known.get(name, b"")) :])
            elif what == "rename":
                os.rename(f"{own}/{name}", f"{own}/{other}")
            else:
                os.unlink(f"{own}/{name}")
            known.update(after)
            known = {key: value for key, value in known.items() if value is not None}
        note("done")
except OSError as error:
    note("died", error.errno)
"""


def ledger_of(path: Path) -> list[list[Any]]:
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert entries[-1][0] == "died"
    assert entries[-1][1] in DIED, f"a worker ended with {errno.errorcode.get(entries[-1][1])}, at {entries[-2]}"
    return entries[:-1]


def outcomes(entries: list[list[Any]]) -> list[dict[str, str]]:
    """The values, by digest, that a worker's keys may have: everything acknowledged, the last step or not."""
    keys: dict[str, str | None] = {}
    pending: dict[str, str | None] = {}
    for what, *rest in entries:
        if what == "start":
            keys = dict(rest[0])
        elif what == "begin":
            pending = {} if "log" in rest[0] else rest[0]
        else:
            keys |= pending
            pending = {}
    return [{key: value for key, value in state.items() if value is not None} for state in (keys, keys | pending)]


def log_lines(entries: list[list[Any]]) -> tuple[list[str], list[str]]:
    """The lines that a worker was told were appended, and those that it was not told of."""
    lines = [
        (entry[1]["log"], after[0])
        for entry, after in zip(entries, [*entries[1:], ["end"]], strict=True)
        if entry[0] == "begin" and "log" in entry[1]
    ]
    return [text for text, then in lines if then == "done"], [text for text, then in lines if then != "done"]


def found_in(directory: Path) -> dict[str, str]:
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in os.listdir(directory)}


class Load:
    """Several processes that write until the daemon is gone, and keep a ledger of what they were told."""

    def __init__(self, store: MountedStore, seed: str) -> None:
        self.store = store
        self.seed = seed
        self.processes: list[subprocess.Popen[str]] = []
        self.lines: list[str] = []
        self.perhaps: list[str] = []

    def ledger(self, number: int) -> Path:
        return self.store.directory / f"ledger-{number}"

    def start(self, kill: int) -> None:
        arguments = [
            (self.store.pipeline, self.ledger(number), number, f"{self.seed}.{kill}") for number in range(WORKERS)
        ]
        self.processes = [start_python(WORKER, *given) for given in arguments]
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate(timeout=20)

    def finish(self) -> None:
        """Wait until all have noticed that the mount is dead."""
        end(self.processes, 20)
        self.processes = []

    def verify(self) -> None:
        """All that was acknowledged is there, byte for byte, and nothing else."""
        for number in range(WORKERS):
            entries = ledger_of(self.ledger(number))
            assert found_in(self.store.pipeline / "own" / f"w{number}") in outcomes(entries), f"worker {number}"
            certain, perhaps = log_lines(entries)
            self.lines += certain
            self.perhaps += perhaps
        self._verify_log()
        self._verify_limited()

    def _verify_log(self) -> None:
        path = self.store.pipeline / "own/log"
        found = Counter(path.read_text().splitlines() if path.exists() else [])
        missing = Counter(self.lines) - found
        surplus = found - Counter(self.lines) - Counter(self.perhaps)
        assert not missing, f"acknowledged appends are lost: {missing}"
        assert not surplus, f"appended twice, or in halves: {surplus}"

    def _verify_limited(self) -> None:
        directory = self.store.pipeline / "limited"
        names = os.listdir(directory)
        assert len(names) <= LIMIT
        for name in names:
            value = (directory / name).read_bytes()
            assert hashlib.sha256(value[64:]).hexdigest().encode() == value[:64], f"half a value in {name}"

    def kill_all(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate(timeout=20)


def test_kills_under_load(make_mount: MakeMount) -> None:
    """A Put whose close() returned survives; one that did not is there whole or not at all; the limits hold."""
    seed = os.environ.get("SEED") or str(random.SystemRandom().randrange(1_000_000))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    store = make_mount()
    store.cli("pipeline", "create", "own", exit_code=0)
    store.cli("pipeline", "set-limit", "own", "0", exit_code=0)
    store.cli("pipeline", "create", "limited", exit_code=0)
    store.cli("pipeline", "set-limit", "limited", str(LIMIT), exit_code=0)
    load = Load(store, seed)
    try:
        for kill in range(KILLS):
            load.start(kill)
            time.sleep(chance.uniform(0.02, 0.8))
            store.kill()
            load.finish()
            if kill % 2:
                check(store, clean=True)
            store.remount()
            load.verify()
            check(store, clean=False)
    finally:
        load.kill_all()
    assert len(os.listdir(store.pipeline / "limited")) == LIMIT
    assert len(load.lines) > KILLS
    store.unmount()
    check(store, clean=True)


# Between the close and its RELEASE


def hold_back_release(fd: int) -> socket.socket:
    """Close the last descriptor of a file, but keep the file open: it is on its way through a socket.

    The kernel sends FLUSH, close() returns, and RELEASE does not come before the socket is closed.
    """
    here, there = socket.socketpair()
    socket.send_fds(here, [b"f"], [fd])
    os.close(fd)
    here.close()
    return there


def write_all(fd: int, value: bytes) -> None:
    view = memoryview(value)
    while view:
        view = view[os.write(fd, view) :]


@pytest.mark.parametrize("size", SIZES)
def test_a_close_whose_release_was_never_served(make_mount: MakeMount, size: int) -> None:
    """A Put whose close() had returned survives the kill -9 of the daemon although its RELEASE was never served."""
    store = make_mount()
    directory = store.pipeline / "p"
    directory.mkdir()
    (directory / "old").write_bytes(b"old")
    (directory / "log").write_bytes(b"first,")
    (directory / "edited").write_bytes(b"." * size)
    value = random.Random(size).randbytes(size)
    sockets = []
    for name, flags in [
        ("new", PUT | os.O_EXCL),
        ("old", PUT),
        ("log", os.O_WRONLY | os.O_APPEND),
        ("edited", os.O_RDWR),
    ]:
        fd = os.open(directory / name, flags)
        write_all(fd, value)
        sockets.append(hold_back_release(fd))
    store.kill()
    for held in sockets:
        held.close()
    store.remount()
    assert listed(directory) == ["edited", "log", "new", "old"]
    assert (directory / "new").read_bytes() == value
    assert (directory / "old").read_bytes() == value
    assert (directory / "log").read_bytes() == b"first," + value
    assert (directory / "edited").read_bytes() == value
    store.unmount()
    check(store, clean=True)


def test_a_killed_put_evicts_what_it_would_have_evicted(make_mount: MakeMount) -> None:
    """The limit is enforced in the same transaction as the Put, also in the one that a restart makes up for."""
    store = make_mount(pipeline_object_limit=3)
    directory = store.pipeline / "p"
    directory.mkdir()
    for name in "abc":
        (directory / name).write_text(name)
    held = []
    for name in "de":
        fd = os.open(directory / name, PUT)
        os.write(fd, name.encode())
        held.append(hold_back_release(fd))
    store.kill()
    for each in held:
        each.close()
    store.remount()
    assert {name: (directory / name).read_text() for name in listed(directory)} == {"c": "c", "d": "d", "e": "e"}
    store.unmount()
    check(store, clean=True)


def test_the_last_to_close_wins_after_a_kill_too(make_mount: MakeMount) -> None:
    """Two Puts of one key at once: the last to close wins, and Puts have the order of their closes."""
    store = make_mount(pipeline_object_limit=4)
    directory = store.pipeline / "p"
    directory.mkdir()
    held = []
    with Other() as other:
        fds = [os.open(directory / name, PUT) for name in ("twice", "c", "b", "a")]
        other("fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)", path=str(directory / "twice"))
        for fd in fds:
            os.write(fd, b"mine")
        other("import socket; here, there = socket.socketpair(); os.write(fd, b'theirs')")
        other("socket.send_fds(here, [b'f'], [fd]); os.close(fd)")
        for fd in fds:
            held.append(hold_back_release(fd))
        store.kill()
        for each in held:
            each.close()
    store.remount()
    assert (directory / "twice").read_bytes() == b"mine"
    assert by_age(directory) == ["twice", "c", "b", "a"]
    (directory / "new").write_text("n")
    assert listed(directory) == ["a", "b", "c", "new"]


@pytest.mark.parametrize("size", [10, 300_000])
def test_one_descriptor_closed_and_another_open(make_mount: MakeMount, size: int) -> None:
    """Such a Put may come back as it was at that close; else the old value stands. Never anything in between."""
    store = make_mount()
    directory = store.pipeline / "p"
    directory.mkdir()
    (directory / "old").write_bytes(b"old")
    with Other() as writer:
        for name in ("old", "new"):
            writer(
                "fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC); other = os.dup(fd)",
                path=str(directory / name),
            )
            writer("os.write(fd, b'a' * size); os.close(fd)", size=size)
        # What is written after that close is nowhere yet: it must not be mixed into what was acknowledged.
        writer("os.write(other, b'b' * size)")
        store.kill()
    store.remount()
    assert (directory / "old").read_bytes() in (b"old", b"a" * size)
    if (directory / "new").exists():
        assert (directory / "new").read_bytes() == b"a" * size
    store.unmount()
    check(store, clean=True)


def test_a_write_without_a_close_leaves_nothing(make_mount: MakeMount) -> None:
    """What no close() acknowledged is not there after the kill, and its space is free again."""
    store = make_mount()
    directory = store.pipeline / "p"
    directory.mkdir()
    (directory / "k").write_bytes(b"old")
    fds = [os.open(directory / name, PUT) for name in ("k", "new", "small")]
    for fd, size in zip(fds, (12_000_000, 12_000_000, 10), strict=True):
        write_all(fd, b"x" * size)
    store.kill()
    for fd in fds:
        with refused(*DIED):
            os.close(fd)
    store.remount()
    assert {name: (directory / name).read_bytes() for name in listed(directory)} == {"k": b"old"}
    store.unmount()
    check(store, clean=True)


KILL_AT_ONCE = """
import os, signal, sys
path, daemon = sys.argv[1], int(sys.argv[2])
for number in range(30):
    fd = os.open(f"{path}/k{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, b"value %d" % number)
    os.close(fd)
os.kill(daemon, signal.SIGKILL)
"""


@pytest.mark.parametrize("attempt", range(3))
def test_the_kill_right_after_the_close(make_mount: MakeMount, attempt: int) -> None:
    """Once close() has returned, the Put is committed, and it survives a kill -9 of the daemon."""
    store = make_mount()
    directory = store.run / "1"
    directory.mkdir()
    subprocess.run([sys.executable, "-S", "-c", KILL_AT_ONCE, directory, str(store.pid)], check=True, timeout=60)
    store.kill()
    store.remount()
    found = {name: (directory / name).read_bytes() for name in os.listdir(directory)}
    assert found == {f"k{number}": b"value %d" % number for number in range(30)}


# The mount of a daemon that died


def close_dead(fd: int) -> None:
    """Close a file of a dead mount: close(2) says so and closes it all the same."""
    with refused(*DIED):
        os.close(fd)


def test_a_dead_mount_is_no_empty_directory(make_mount: MakeMount) -> None:
    """A daemon that dies leaves its mount dead (ENOTCONN), never a directory that jobs would fill with success."""
    store = make_mount()
    directory = store.pipeline / "p"
    directory.mkdir()
    (directory / "k").write_text("v")
    reader = os.open(directory / "k", os.O_RDONLY)
    store.kill()
    for path in (store.path, directory):
        with refused(errno.ENOTCONN):
            os.listdir(path)
    with refused(errno.ENOTCONN):
        os.open(directory / "k", PUT)
    with refused(errno.ENOTCONN):
        os.mkdir(store.path / "pipeline2")
    with refused(errno.ENOTCONN):
        os.open(store.path / "k", PUT)
    close_dead(reader)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_mounting_over_a_dead_mount_that_is_in_use(make_mount: MakeMount, signal_number: int) -> None:
    """Mounting again over a dead mount of ours just works, also while somebody still has a file of it open."""
    store = make_mount()
    store.expect_log("Traceback|ERROR|CRITICAL")  # the interpreter's own words at its death, if any
    directory = store.pipeline / "p"
    directory.mkdir()
    (directory / "k").write_text("v")
    reader = os.open(directory / "k", os.O_RDONLY)
    with Other() as inhabitant:
        inhabitant("os.chdir(path)", path=str(directory))
        os.kill(store.pid, signal_number)
        assert store.daemon is not None
        store.daemon.wait(20)
        store.kill()
        store.remount()
        assert (directory / "k").read_text() == "v"
        (directory / "k").write_text("w")
        with refused(*DIED):
            inhabitant("os.listdir('.')")
    close_dead(reader)
    assert (directory / "k").read_text() == "w"


@pytest.mark.parametrize("detached", [False, True])
def test_the_command_gets_what_was_acknowledged_without_a_mount(make_mount: MakeMount, detached: bool) -> None:
    """`fusefs pipeline object get` of an acknowledged Put works after a kill -9, whether RELEASE was served or not."""
    store = make_mount()
    directory = store.pipeline / "p"
    directory.mkdir()
    (directory / "served").write_text("one")
    fd = os.open(directory / "never served", PUT)
    os.write(fd, b"two")
    held = hold_back_release(fd)
    store.kill()
    held.close()
    if detached:
        store.detach()
    assert store.cli("pipeline", "object", "get", "p", "never served", exit_code=0).stdout == b"two"
    assert store.cli("pipeline", "object", "get", "p", "served", exit_code=0).stdout == b"one"
    assert store.cli("pipeline", "object", "list", "p", exit_code=0).stdout == b"never served\nserved\n"
    store.detach()
    check(store, clean=True)
