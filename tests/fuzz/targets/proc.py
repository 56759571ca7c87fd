"""What is read in /proc, with everything in it that a user chooses: names of processes, paths, sources, options."""

import os

from fusefs.callers import groups_in
from fusefs.closers import task_in
from fusefs.mountinfo import Mount, parse_line
from fusefs.openers import Life, life_of
from fusefs.openfiles import ino_in
from tests.fuzz.source import Source

WORDS = (
    *(
        b" - ",
        b"\\040",
        b"\\012",
        b"\\134",
        b"\\",
        b"\n",
        b"\r",
        b"Groups:\t0",
        b"\rGroups: 0",
        b"ino:\t1",
        b"flags:\t2",
    ),
    *(b")", b") S 1", b"(", b"user_id=", b"user_id=\xc2\xb2", b",", b"=", b"fuse.fusefs", b"shared:1", b"\xff", b"\0"),
)
SEEDS = (
    b"\0\x04/mnt\x03src\x00\x02rw\x01",
    b"\0\x09/mnt/ - x\x05a b\\c\x06fusefs\x0cuser_id=1000\x01",
    b"\1\x0fx\rGroups:\t27 9\x03\x01\x02",
    b"\2\x0fx) S 1 (x) R 22\x03",
    b"\3\x02\x00ino:\t5",
)


def run(data: bytes) -> None:
    """The first byte says which file, and what follows is what users choose in it."""
    source = Source(data)
    (_mount, _status, _stat, _fdinfo, _statm)[source.below(5)](source)


def _mangled(name: bytes) -> bytes:
    """As the kernel writes a name (seq_escape, mangle)."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in name)


def _mount(source: Source) -> None:
    """A name has no NUL and is not empty where it is a path or a type; a source may be."""
    path, device, kind, options = (source.blob().replace(b"\0", b"") for _ in range(4))
    device = device or b"none"
    kind = b"fuse." + kind if kind else b"ext4"
    options = b"rw," + options.translate(None, b" \n")
    tags = b" shared:1 master:2" if source.flag() else b""
    line = b"36 35 0:%d / %s rw,noatime%s - %s %s %s\n" % (
        *(source.byte(), _mangled(b"/" + path), tags, _mangled(kind), _mangled(device), options),
    )
    mount = parse_line(line)
    assert (mount.path, mount.source, os.fsencode(mount.type)) == (b"/" + path, device, kind)
    assert isinstance(mount, Mount)
    assert mount.uid is None or mount.uid >= 0
    assert "rw" in mount.options
    assert mount.ours == (kind == b"fuse.fusefs")


def _status(source: Source) -> None:
    """proc_task_name escapes newlines and backslashes alone, in a name of 15 bytes at most."""
    name = source.blob(15).replace(b"\0", b"").replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    groups = {source.number() & 2**32 - 1 for _ in range(source.below(8))}
    listed = b"".join(b"%d " % gid for gid in sorted(groups))
    text = b"Name:\t%s\nUmask:\t0022\nTgid:\t1\nGid:\t5\t5\t5\t5\nFDSize:\t64\nGroups:\t%s\nNStgid:\t1\n"
    assert groups_in(text % (name, listed)) == groups


def _stat(source: Source) -> None:
    """The name is not escaped at all there."""
    name, state = (
        source.blob(15).replace(b"\0", b""),
        source.pick((b"R", b"S", b"D", b"Z", b"T", b"t", b"X", b"I", b"P")),
    )
    exiting, signal, status = source.flag(), source.below(65), source.byte()
    numbers = [b"%d" % (source.number() & 2**32 - 1) for _ in range(49)]
    numbers[5] = b"%d" % (0x404000 | 4 * exiting)
    numbers[-1] = b"%d" % (status << 8 | signal)
    task = task_in(b"%d (%s) %s %s\n" % (source.number(), name, state, b" ".join(numbers)))
    assert task.signal == signal
    assert not task.closing or exiting


def _fdinfo(source: Source) -> None:
    flags, ino = source.number(), source.number()
    text = b"pos:\t%d\nflags:\t0%o\nmnt_id:\t28\nino:\t%d\n" % (source.number(), flags, ino)
    assert ino_in(text + source.rest()) == ino


def _statm(source: Source) -> None:
    sizes = [b"%d" % source.number() for _ in range(source.below(9))]
    assert life_of(sizes) in Life
    assert (life_of(sizes) is Life.GONE) == (len(sizes) < 4)
