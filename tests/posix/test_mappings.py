"""mmap(2) beyond the plain mapping of a whole object."""

import errno
import mmap
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.posix.twins import Twins, outcome
from tests.support.processes import Other, end, run_sh, start_python
from tests.support.shared_mount import refused

pytestmark = pytest.mark.mount

PAGE = mmap.PAGESIZE
SHARED, PRIVATE = mmap.MAP_SHARED, mmap.MAP_PRIVATE
READ, WRITE = mmap.PROT_READ, mmap.PROT_WRITE


def _value(size: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


@pytest.mark.parametrize("flags", [SHARED, PRIVATE], ids=["shared", "private"])
def test_from_an_offset(twins: Twins, flags: int) -> None:
    """A part in the middle, and the last part with zeros behind the end."""
    size = 200 * PAGE + 1234

    def steps(directory: Path) -> list[bytes]:
        (directory / "k").write_bytes(_value(size))
        found = []
        with (directory / "k").open("rb") as file:
            for offset, length in ((37 * PAGE, 3 * PAGE), (200 * PAGE, 1234), (199 * PAGE, 2000)):
                with mmap.mmap(file.fileno(), length, flags, READ, offset=offset) as mapped:
                    found.append(mapped[:])
        return found

    value = _value(size)
    parts = value[37 * PAGE : 40 * PAGE], value[200 * PAGE :], value[199 * PAGE : 199 * PAGE + 2000]
    assert twins.same(steps) == list(parts)


_READ_MAPPED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
fd = os.open(sys.argv[1], os.O_RDONLY)
address = libc.mmap(None, 3 * 4096, 1, 1, fd, 0)
print(ctypes.string_at(address + int(sys.argv[2]), 1), flush=True)
"""


def test_behind_the_end(twins: Twins) -> None:
    """Behind the end there are zeros up to the end of the page, and SIGBUS beyond."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(b"x" * 4097)
        found: list[object] = []
        for offset in (4096, 4097, 8191, 8192):
            process = start_python(_READ_MAPPED, directory / "k", offset)
            found += [process.communicate()[0], process.returncode]
        return found

    assert twins.same(steps) == ["b'x'\n", 0, "b'\\x00'\n", 0, "b'\\x00'\n", 0, "", -signal.SIGBUS]


def test_what_was_mapped_stays(run: Path) -> None:
    """A mapping is a snapshot like its descriptor: it outlives the descriptor, other Puts and the name."""
    value = _value(300 * PAGE)
    (run / "k").write_bytes(value)
    fd = os.open(run / "k", os.O_RDONLY)
    with mmap.mmap(fd, 0, SHARED, READ) as mapped:
        os.close(fd)
        assert mapped[:PAGE] == value[:PAGE]
        (run / "k").write_bytes(b"new" * PAGE)
        os.truncate(run / "k", 5)
        (run / "k").unlink()
        assert mapped[:] == value
        with (run / "k").open("wb") as file:
            file.write(b"another")
            assert mapped[:] == value


def test_a_mapping_of_what_is_replaced_by_rename(twins: Twins) -> None:
    """The old value stays mapped, and whoever maps the name now gets the new one."""

    def steps(directory: Path) -> list[bytes]:
        (directory / "k").write_bytes(b"old" * PAGE)
        (directory / "new").write_bytes(b"new" * PAGE)
        with (directory / "k").open("rb") as file, mmap.mmap(file.fileno(), 0, SHARED, READ) as mapped:
            os.rename(directory / "new", directory / "k")
            with (directory / "k").open("rb") as now, mmap.mmap(now.fileno(), 0, SHARED, READ) as second:
                return [mapped[:3], mapped[-3:], second[:3], second[-3:]]

    assert twins.same(steps) == [b"old", b"old", b"new", b"new"]


@pytest.mark.parametrize("existing", [True, False])
def test_a_private_mapping_of_a_writer(twins: Twins, existing: bool) -> None:
    """It has what the writer wrote before; what is stored into it stays there."""

    def steps(directory: Path) -> list[bytes]:
        if existing:
            (directory / "k").write_bytes(b"old" * PAGE)
        fd = os.open(directory / "k", os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, 2 * PAGE)
        os.pwrite(fd, b"first", PAGE)
        with mmap.mmap(fd, 2 * PAGE, PRIVATE, READ | WRITE) as mapped:
            found = [mapped[: PAGE + 20]]
            mapped[:4] = b"mine"
            found += [mapped[:5], os.pread(fd, 5, 0)]
        os.pwrite(fd, b"second", PAGE)
        with mmap.mmap(fd, PAGE + 3, PRIVATE, READ) as mapped:
            found.append(mapped[:])
        os.close(fd)
        return [*found, (directory / "k").read_bytes()]

    found = twins.same(steps)
    before = (b"old" * PAGE)[:PAGE] if existing else bytes(PAGE)
    assert isinstance(found, list)
    assert [part[:PAGE] for part in found] == [before, b"mine" + before[4:5], before[:5], before, before]
    assert found[3] == before + b"sec"


def test_a_shared_mapping_of_a_writer(run: Path) -> None:
    """A shared mapping needs a descriptor that is open for reading only: ENODEV, and the Put goes on unharmed."""
    (run / "old").write_bytes(b"0" * PAGE)
    for name in ("old", "new"):
        with (run / name).open("r+b" if name == "old" else "w+b") as file:
            file.write(b"x" * PAGE)
            file.flush()
            for protection in (READ, WRITE, READ | WRITE):
                with refused(errno.ENODEV):
                    mmap.mmap(file.fileno(), PAGE, SHARED, protection)
        assert (run / name).read_bytes() == b"x" * PAGE
    with (run / "mine").open("wb") as file:
        file.write(b"x" * PAGE)
        file.flush()
        with (run / "mine").open("rb") as reader, refused(errno.ENODEV):
            mmap.mmap(reader.fileno(), PAGE, SHARED, READ)


def test_protections_that_the_descriptor_forbids(twins: Twins) -> None:
    """EACCES: storing through a reader, and reading through a descriptor that only writes."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(b"0" * PAGE)
        found: list[object] = []
        for access, flags, protection in (
            (os.O_RDONLY, SHARED, READ | WRITE),
            (os.O_RDONLY, SHARED, WRITE),
            (os.O_WRONLY, PRIVATE, READ),
            (os.O_PATH, PRIVATE, READ),
        ):
            fd = os.open(directory / "k", access)
            found.append(outcome(lambda fd=fd, f=flags, p=protection: mmap.mmap(fd, PAGE, f, p)))
            os.close(fd)
        return found

    assert twins.same(steps) == ["EACCES", "EACCES", "EACCES", "EBADF"]


def test_a_program(twins: Twins) -> None:
    """A program that lies in the mount runs, and so does one that is replaced while it runs."""

    def steps(directory: Path) -> list[object]:
        shutil.copy("/bin/sleep", directory / "program")
        with Other() as other:
            other("child = subprocess.Popen([path, '60'])", path=str(directory / "program"))
            shutil.copy("/bin/true", directory / "next")
            os.rename(directory / "next", directory / "program")
            found = run_sh("./program", directory).returncode
            other("child.terminate()")
            return [found, other("child.wait(30)")]

    assert twins.same(steps) == [0, -signal.SIGTERM]


def test_mappings_of_one_value_in_many_processes(run: Path) -> None:
    """Each maps the same pages, in an order of its own, while the key is overwritten again and again."""
    (run / "k").write_bytes(_value(500 * PAGE))
    reading = """
import mmap, random, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
    first = int.from_bytes(mapped[:4], "big")
    numbers = list(range(len(mapped) // 4))
    random.Random(sys.argv[2]).shuffle(numbers)
    for number in numbers[:20_000]:
        assert int.from_bytes(mapped[4 * number : 4 * number + 4], "big") == number + first, number
"""
    writing = """
import sys
for first in range(1, 30):
    value = b"".join((first + number).to_bytes(4, "big") for number in range(50_000))
    open(sys.argv[1], "wb").write(value)
"""
    end([start_python(reading, run / "k", seed) for seed in range(3)] + [start_python(writing, run / "k")])
