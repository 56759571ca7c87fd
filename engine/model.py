"""The values that the store hands out. None of them changes once it is made.

`Node` and `Attributes` are named tuples, where the rest are frozen dataclasses: one is made of every row
that is read, and a named tuple costs a fifth of a frozen dataclass.
"""

import enum
from dataclasses import dataclass
from typing import NamedTuple

ROOT_INO = 1
PIPELINES_INO = 2
RUNS_INO = 3
FIRST_FREE_ID = 16
"""Numbers below are kept for the fixed directories; inode and content numbers start here."""


class Kind(enum.IntEnum):
    """What a name stands for. The numbers are stored."""

    DIRECTORY = 0
    OBJECT = 1
    SYMLINK = 2


class ScopeKind(enum.IntEnum):
    """The two lifetimes. The numbers are stored."""

    PIPELINE = 1
    RUN = 2


class Node(NamedTuple):
    """A name in the tree and what it stands for: directory entry and inode in one, for there are no hard links."""

    ino: int
    """Unique in the store for all time. An object gets a new one with every Put."""
    parent: int
    name: bytes
    scope: int
    """The inode of the pipeline's or run's directory that this is in; 0 for the three fixed directories."""
    kind: int
    """A `Kind`."""
    mode: int
    """Permission bits only, no file type."""
    uid: int
    gid: int
    size: int
    """Bytes of an object's value or a symlink's target; 0 for directories."""
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    put_ns: int
    """When the value was put, in a clock of the store that never repeats: the order of eviction. 0: no object."""
    content: int
    """The number under which the content engine keeps the value; 0 when the value is empty."""
    target: bytes | None
    """A symlink's target."""
    xattrs: bytes | None
    """The user.* attributes, packed (see engine.xattrs); None when there are none."""


NodeRow = tuple[int, int, bytes, int, int, int, int, int, int, int, int, int, int, int, bytes | None, bytes | None]
"""What a `Node` has, as it was read: a long listing makes no more of it."""


class Attributes(NamedTuple):
    """Attributes to set; None leaves one as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class ScopeName:
    """A pipeline or a run, by name."""

    kind: ScopeKind
    name: bytes

    @classmethod
    def pipeline(cls, name: str | bytes) -> "ScopeName":
        return cls(ScopeKind.PIPELINE, name if isinstance(name, bytes) else name.encode())

    @classmethod
    def run(cls, name: str | bytes) -> "ScopeName":
        return cls(ScopeKind.RUN, name if isinstance(name, bytes) else name.encode())

    def __str__(self) -> str:
        return f"{self.kind.name.lower()} {self.name.decode('utf-8', 'backslashreplace')}"


@dataclass(frozen=True, slots=True)
class Removed:
    """A name that a change took away although nobody asked for that name: evicted, expired or replaced."""

    ino: int
    parent: int
    name: bytes
    directory: bytes
    """The path of the directory, from the root of the store: b"pipeline/app/a/", b"run/". Many have one in common."""
    node: Node | None = None
    """All that was known of an object; None for runs, where another process took it away, and of many at once."""

    @property
    def path(self) -> bytes:
        """From the root of the store: b"pipeline/app/a/b", b"run/5"."""
        return self.directory + self.name


@dataclass(frozen=True, slots=True)
class Effects:
    """What a change did beside what it was asked to do."""

    evicted: tuple[Removed, ...] = ()
    """Objects that made way for newer ones, oldest first."""
    expired: tuple[Removed, ...] = ()
    """Runs that enough newer ones have followed, oldest first."""
    restored: tuple[Removed, ...] = ()
    """Objects that had been evicted and came back, because the place that they had lost became free again."""


NO_EFFECTS = Effects()


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object in a listing."""

    key: bytes
    size: int
    mtime_ns: int
    put_ns: int


@dataclass(frozen=True, slots=True)
class PipelineInfo:
    """A pipeline in a listing."""

    name: bytes
    objects: int
    object_limit: int | None
    """The pipeline's own limit, None where the store's holds. 0 means no limit."""
    effective_limit: int
    bytes: int = 0
    """The sum of the sizes of its objects."""
    max_bytes: int | None = None
    """The most that this may be, as for `object_limit`."""
    effective_max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run in a listing."""

    name: bytes
    pipeline: bytes | None
    objects: int
    started_ns: int
    finished: bool
    """False only for a run of `run start` that `run finish` has not named yet: it does not expire."""
    bytes: int = 0
    """The sum of the sizes of its objects."""


@dataclass(frozen=True, slots=True)
class Space:
    """How full the store is, in bytes and numbers of names."""

    total_bytes: int
    free_bytes: int
    available_bytes: int
    """Of the free bytes, what others than root may use."""
    names: int
