"""What the kernel says is mounted: /proc/self/mountinfo and fdinfo, read without touching any filesystem."""

import os
import re
from dataclasses import dataclass

FUSE_TYPE = "fuse.fusefs"
"""The type of our mounts: they are made with the option subtype=fusefs."""

_ESCAPE = re.compile(rb"\\([0-7]{3})")
_NUMBER = re.compile("[0-9]{1,10}")
_FDINFO_BYTES = 4096
_MOUNT_NUMBER = re.compile(rb"^mnt_id:\s*([0-9]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table."""

    path: bytes
    type: str
    source: bytes
    options: dict[str, str]
    """Of the filesystem: rw, user_id=0, allow_other. Empty for one without a value."""
    connection: int = 0
    """The minor number of its device, by which the kernel knows a connection of FUSE."""

    @property
    def ours(self) -> bool:
        return self.type == FUSE_TYPE

    @property
    def uid(self) -> int | None:
        """Who mounted it, as FUSE tells."""
        value = self.options.get("user_id", "")
        return int(value) if _NUMBER.fullmatch(value) else None


def mounts() -> list[Mount]:
    """Return all mounts, those that cover others last."""
    with open("/proc/self/mountinfo", "rb") as file:
        return [parse_line(line) for line in file]


def mount_at(path: bytes) -> Mount | None:
    """Return the uppermost mount whose mountpoint is exactly `path`, which is absolute and without symlinks."""
    return next((mount for mount in reversed(mounts()) if mount.path == path), None)


def mount_number(fd: int) -> int | None:
    """By what the kernel knows the mount that a descriptor is in: binds of one filesystem are mounts of their own."""
    found = _MOUNT_NUMBER.search(fdinfo(fd))
    return None if found is None else int(found[1])


def fdinfo(fd: int) -> bytes:
    """What is told of a descriptor of ours, mostly of the inode that it stands for. Raises OSError."""
    info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(info, _FDINFO_BYTES)
    finally:
        os.close(info)


def resolved(mountpoint: str) -> str:
    """The absolute path of a mountpoint without symlinks.

    Asks nothing of what is mounted there, which may be dead or never answer: where a path is that of a mount, its last
    part is no symlink.
    """
    directory, name = os.path.split(os.path.abspath(mountpoint))
    path = os.path.join(os.path.realpath(directory), name)
    return path if mount_at(os.fsencode(path)) is not None else os.path.realpath(path)


def parse_line(line: bytes) -> Mount:
    """Take a line apart: see proc_pid_mountinfo(5). The number of fields before the lone dash varies."""
    before, _, after = line.rstrip(b"\n").partition(b" - ")
    kind, source, options = after.split(b" ", 2)
    pairs = (option.partition("=") for option in options.decode("utf-8", "surrogateescape").split(","))
    fields = before.split(b" ")
    return Mount(
        path=_unescape(fields[4]),
        type=_unescape(kind).decode("utf-8", "surrogateescape"),
        source=_unescape(source),
        options={name: value for name, _, value in pairs},
        connection=int(fields[2].partition(b":")[2]),
    )


def _unescape(field: bytes) -> bytes:
    """Undo the octal escapes of space, tab, newline and backslash."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), field)
