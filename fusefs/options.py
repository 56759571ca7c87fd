"""How to mount, beside what the store is told."""

from dataclasses import dataclass

from engine.config import DEFAULT_OPEN_WRITERS
from engine.model import ScopeName


@dataclass(frozen=True, slots=True)
class MountOptions:
    """The options of one mount."""

    read_only: bool = False
    allow_other: bool = False
    umask: int | None = None
    """What is created has its owner's permissions for group and others, too, less this, whatever umask the process has.

    None: the umask of the process holds.
    """
    scope: tuple[ScopeName, ...] = ()
    """The pipelines and runs that are shown, and made when they are missing; none: the whole store."""
    request_timeout: float = 60.0
    """The seconds within which a request is answered, if need be by an error."""
    leave_dead: bool = False
    """At SIGTERM leave the mount where it is, dead: for jobs that go on, and for the next daemon to take over."""
    max_open_writers: int = DEFAULT_OPEN_WRITERS
    """Files that are open for writing at once; 0: no limit."""
