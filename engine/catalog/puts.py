"""The Put itself: a new value takes a name, in the caller's transaction."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from engine.catalog import eviction, lifetimes, nodes
from engine.catalog.eviction import Waits
from engine.catalog.transaction import Transaction
from engine.errors import ExistsError, IsDirectoryError, ReplacedError, TooLargeError
from engine.model import Kind, Node
from engine.sqlite.database import Database


class How(IntEnum):
    """What a Put does where the name has a value already. The numbers are stored."""

    REPLACE = 1
    IF_ABSENT = 2
    """O_CREAT of one that wrote nothing: a value that appeared meanwhile stands."""
    APPEND = 3
    CREATE = 4
    """O_EXCL, or a Put without force: ExistsError where the name is taken."""


@dataclass(slots=True)
class Put:
    """A value and the name that it is to have."""

    ino: int
    """The inode number that the object will have."""
    parent: int
    name: bytes
    mode: int
    uid: int
    gid: int
    content: int = 0
    """Its number in the content engine; 0 when it is empty."""
    size: int = 0
    how: How = How.REPLACE
    atime_ns: int | None = None
    """None: the time of the Put."""
    mtime_ns: int | None = None
    xattrs: bytes | None = None
    keeps_attributes: bool = False
    """Where it replaces an object, the new one has the old one's mode, owner and attributes."""
    may_join: Callable[[Node], bool] | None = None
    """Whether an append may go to an object; None: to any. One that was acknowledged and is recovered goes to any."""


Join = Callable[[Node, Put], tuple[int, int]]
"""Makes the value of a node with that of an append behind it: its content's number and its size."""


def put(tx: Transaction, put: Put, join: Join) -> tuple[Node, Node | None]:
    """Publish a value under its name, evicting what must go. Returns what the name is then, and was before.

    Raises NotFoundError when the directory is gone, IsDirectoryError, ExistsError, NotPermittedError, ReplacedError and
    TooLargeError.
    """
    old = nodes.by_name(tx.database, put.parent, put.name)
    if old is None and put.how in (How.IF_ABSENT, How.APPEND):
        # What a temporary name displaced for a moment is still what its name stands for to who adds to it.
        old = eviction.come_back(tx, put.parent, put.name)
    content, size = put.content, put.size
    mode, uid, gid, xattrs = put.mode, put.uid, put.gid, put.xattrs
    if old is not None:
        if old.kind == Kind.DIRECTORY:
            raise IsDirectoryError("a directory has this name")
        if put.how is How.CREATE:
            raise ExistsError("the name is taken")
        if put.how is How.IF_ABSENT:
            tx.drop_content(content)
            return old, None
        if put.how is How.APPEND and old.kind == Kind.OBJECT:
            if put.may_join is not None and not put.may_join(old):
                raise ReplacedError("the name is that of another object, which whoever appends may not write")
            content, size = join(old, put)
        if (put.keeps_attributes or put.how is How.APPEND) and old.kind == Kind.OBJECT:
            mode, uid, gid, xattrs = old.mode, old.uid, old.gid, old.xattrs
    if tx.max_object_size and size > tx.max_object_size:
        raise TooLargeError(f"the value has {size} bytes, and max_object_size is {tx.max_object_size}")
    replaces = old is not None and old.kind == Kind.OBJECT
    scope = nodes.scope_of_directory(tx, put.parent) if replaces else nodes.touch_directory(tx, put.parent)
    now = tx.tick()
    kept_atime = old.atime_ns if old is not None and replaces else now
    atime = kept_atime if put.atime_ns is None else put.atime_ns
    mtime = now if put.mtime_ns is None else put.mtime_ns
    times = (atime, mtime, now, now)
    new = Node(put.ino, put.parent, put.name, scope, Kind.OBJECT, mode, uid, gid, size, *times, content, None, xattrs)
    if old is not None:
        nodes.delete(tx, old)
    before = old.size if old is not None and replaces else 0
    home = lifetimes.count(tx, scope, 0 if replaces else 1, size - before)
    nodes.insert(tx, new, evictable=home.is_pipeline)
    if home.evictions or home.too_many > 0:
        _make_way(tx, new, old, home.too_many)
    return new, old


def remove(tx: Transaction, node: Node) -> None:
    """Remove an object. What it had displaced comes back."""
    nodes.touch_directory(tx, node.parent)
    nodes.delete(tx, node)
    lifetimes.count(tx, node.scope, -1, -node.size)
    eviction.restore(tx, node.ino)


def _make_way(tx: Transaction, new: Node, old: Node | None, too_many: int) -> None:
    """An object was put into a pipeline that is full, or was."""
    waits = Waits(new.ino)
    if old is not None:
        eviction.inherit(tx, old.ino, new.ino)
    elif (superseded := eviction.supersede(tx, new.scope, new.parent, new.name)) is not None:
        waits = superseded._replace(freed_by=new.ino)
    elif too_many > 0:
        waits = Waits(new.ino, eviction.backup_of(tx, new.scope, new.parent, new.name, new.ino))
    eviction.enforce(tx, new.scope, too_many, new.ino, waits)


_TAKEN = (
    "SELECT 1 FROM node WHERE parent = ?1 AND name = ?2"
    " UNION ALL SELECT 1 FROM intent WHERE parent = ?1 AND name = ?2 AND session <> ?3 LIMIT 1"
)
_INTENT_COLUMNS = (
    "ino, handle, session, prepared, how, parent, name, mode, uid, gid, size, atime_ns, mtime_ns, content, xattrs"
)
_KEEP = f"INSERT OR REPLACE INTO intent ({_INTENT_COLUMNS}) VALUES ({', '.join('?' * 15)})"


def keep_intent(database: Database, handle: int, session: int, prepared: int, put: Put) -> None:
    """Write down that a Put is to be published although its process may die before it is.

    One that must not replace anything has its name from here on: it is to be published as one that replaces. Raises
    ExistsError.
    """
    how = put.how
    if how is How.CREATE:
        how = How.REPLACE
        if database.row(_TAKEN, (put.parent, put.name, session)) is not None:
            raise ExistsError("the name is taken, or somebody else has just closed it")
    note_intent(database, handle, session, prepared, put, how)


def note_intent(database: Database, handle: int, session: int, prepared: int, put: Put, how: How) -> None:
    """The same for a Put that has been acknowledged: unchecked."""
    database.rows(
        _KEEP,
        (
            *(put.ino, handle, session, prepared, how, put.parent, put.name, put.mode, put.uid, put.gid, put.size),
            *(put.atime_ns, put.mtime_ns, put.content, put.xattrs),
        ),
    )


def all_intents(database: Database) -> dict[tuple[int, int], Put]:
    """The Puts that anybody wrote down and did not publish, by inode and handle: their names and sizes alone."""
    rows = database.rows("SELECT ino, handle, parent, name, size, how FROM intent")
    return {
        (ino, handle): Put(ino, parent, name, 0, 0, 0, size=size, how=How(how))
        for ino, handle, parent, name, size, how in rows
    }


def intents_of(tx: Transaction, session: int) -> list[tuple[int, int, Put]]:
    """The Puts that a session wrote down and did not publish, in the order of their closes, with number and handle."""
    rows = tx.rows(f"SELECT {_INTENT_COLUMNS} FROM intent WHERE session = ? ORDER BY prepared", (session,))
    return [
        (prepared, handle, Put(ino, parent, name, mode, uid, gid, content, size, How(how), atime, mtime, xattrs))
        for ino, handle, _, prepared, how, parent, name, mode, uid, gid, size, atime, mtime, content, xattrs in rows
    ]
