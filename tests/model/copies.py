"""What the reference knows of an open file: how it was opened, the copy that is written, who has it open."""

from dataclasses import dataclass, field
from enum import Enum

from tests.model.tree import File, Object, Place


class How(Enum):
    """What a Put does where the name has a value already."""

    REPLACE = "replace"
    IF_ABSENT = "if absent"
    APPEND = "append"


@dataclass(frozen=True)
class Mode:
    """How a file is opened, as in open(2)."""

    create: bool = False
    truncate: bool = False
    append: bool = False
    exclusive: bool = False
    read_only: bool = False

    @property
    def replaces(self) -> bool:
        return self.truncate or self.exclusive


MODES = {
    "r": Mode(read_only=True),
    "w": Mode(create=True, truncate=True),
    "t": Mode(truncate=True),
    "a": Mode(create=True, append=True),
    "r+": Mode(),
    "c": Mode(create=True),
    "x": Mode(create=True, exclusive=True),
    "rc": Mode(create=True, read_only=True),
}


@dataclass(eq=False)
class Kept:
    """What would come true after the death of the daemon: a Put as it was when one of its descriptors was closed."""

    order: int
    place: Place
    how: How
    value: bytes
    note: bytes


@dataclass(eq=False)
class Copy:
    """A value on its way to a name."""

    number: int
    place: Place | None
    """None: its writers removed the name, so nothing of it is ever published."""
    how: How
    value: bytes
    origin: Object | None
    """What the name stood for; whoever edits the same shares the copy."""
    file: File
    """Whose attributes it will have."""
    attached: bool = True
    """Whether the name has had a value ever since, or nobody has published it yet."""
    creates: bool = False
    """Its name is new, and nobody has published it."""
    overtaken: bool = False
    """Its name was new, and somebody else has given it a value."""
    shared: bool = False
    exclusive: bool = False
    changed: bool = False
    prepared: bool = False
    """Whether `kept` says all that it has to say."""
    kept: Kept | None = None
    refused: int = 0
    finished: bool = False
    """Whether somebody who changed it has closed it."""
    unfinished: bool = False
    """Whether somebody who changed it was killed."""
    before: set[bytes] = field(default_factory=set)
    """What an appending handle may show in front of its own bytes."""


@dataclass(eq=False)
class Handle:
    """An open file description."""

    opener: str
    mode: Mode
    copy: Copy | None = None
    value: bytes = b""
    """Of a reader: the value that it opened."""
    changed: bool = False
    killed: bool = False


@dataclass(eq=False)
class Descriptor:
    process: str
    number: int
    """As in the process: the lowest that is free."""
    handle: Handle
