"""What the attributes of a file allow whom, where the kernel may have looked at another file than the one it is about.

The kernel checks what it was last shown of an inode. The private inode of a name that is being written may stand for
several files, one after the other or at once, each of which is shown to those who have it open.
"""

import functools
import os
import stat
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from engine.model import Attributes
from fusefs.callers import Caller

READ, WRITE, SEARCH = 0o4, 0o2, 0o1
_LENT = stat.S_ISUID | stat.S_ISGID
_CAP_CHOWN, _CAP_FOWNER = 0, 3
_NOW_NS = 10 * 10**9
"""How far a time may be from now that was to be now: for so long a request may have waited."""


class Attributed(Protocol):
    """A file that is being written, or one that is published."""

    @property
    def mode(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...


class AccessError(Exception):
    """The mode of a file forbids its caller what was asked for (EACCES)."""


class Rights(NamedTuple):
    """Who has opened a file: as the kernel keeps it with a descriptor, whatever becomes of the thread."""

    uid: int
    gid: int
    groups: frozenset[int]

    def may_open(self, file: Attributed, wanted: int) -> bool:
        """Whether these may open a file like that; its owner also where first the mode would have to be changed."""
        return self.uid == file.uid or _allows(file, wanted, self.uid, self._in_group)

    def _in_group(self, gid: int) -> bool:
        return gid == self.gid or gid in self.groups


def rights_of(caller: Caller) -> Rights:
    return Rights(caller.uid, caller.gid, caller.groups())


def require(file: Attributed, wanted: int, caller: Caller) -> None:
    """As access(2) does. Raises AccessError."""
    if not _allows(file, wanted, caller.uid, caller.in_group):
        raise AccessError


def searches(caller: Caller) -> Callable[[Attributed], bool]:
    """Tells of many directories whether the caller may search them; each group is looked for once."""
    in_group = functools.cache(caller.in_group)
    return lambda directory: _allows(directory, SEARCH, caller.uid, in_group)


def _allows(file: Attributed, wanted: int, uid: int, in_group: Callable[[int], bool]) -> bool:
    kind_of_user = 6 if uid == file.uid else 3 if uid and in_group(file.gid) else 0
    return not uid or not wanted & ~(file.mode >> kind_of_user)


def may_change(file: Attributed, attributes: Attributes, caller: Caller) -> bool:
    """Whether chmod(2), chown(2) and utimensat(2) let a caller do this to a file as it is now."""
    if not caller.uid:
        return True
    if caller.uid != file.uid and _takes_owner(file, attributes, caller) and not caller.capable(_CAP_FOWNER, file.uid):
        return False
    return not _gives_away(file, attributes, caller) or caller.capable(_CAP_CHOWN, file.uid, file.gid)


def _takes_owner(file: Attributed, attributes: Attributes, caller: Caller) -> bool:
    """Whether a mode or times are for the owner alone to set.

    Who may write also sets both times to now, and takes the bits away that would lend what is written its owner's
    rights: the kernel asks for that.
    """
    mode, times = attributes.mode, (attributes.atime_ns, attributes.mtime_ns)
    if mode is not None and (mode | _LENT != file.mode | _LENT or mode & ~file.mode):
        return True
    if times == (None, None):
        return False
    now = time.time_ns()
    if any(moment is None or abs(moment - now) > _NOW_NS for moment in times):
        return True
    # Of whom we cannot see, the kernel knows the groups.
    return bool(caller.pid) and not _allows(file, WRITE, caller.uid, caller.in_group)


def _gives_away(file: Attributed, attributes: Attributes, caller: Caller) -> bool:
    """Whether an owner or a group is to be set otherwise than an owner may: to a group of its own."""
    uid, gid = attributes.uid, attributes.gid
    if uid is None and gid is None:
        return False
    if caller.uid != file.uid or uid not in (None, file.uid):
        return True
    return gid not in (None, file.gid) and bool(caller.pid) and not caller.in_group(gid or 0)


def require_to_open(file: Attributed, flags: int, caller: Caller) -> None:
    """As open(2) does. Raises AccessError."""
    wanted = {os.O_RDONLY: READ, os.O_WRONLY: WRITE}.get(flags & os.O_ACCMODE, READ | WRITE)
    require(file, wanted | (WRITE if flags & os.O_TRUNC else 0), caller)
