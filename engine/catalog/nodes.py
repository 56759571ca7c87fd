"""Rows of `node`: reading, adding and removing names."""

import functools
import operator
from collections.abc import Callable

from engine.catalog.transaction import Transaction
from engine.errors import DamagedError, NotFoundError, NotPermittedError
from engine.model import Attributes, Kind, Node, NodeRow, Removed
from engine.sqlite.database import Database, Row

COLUMNS = (
    "ino, parent, name, scope, kind, mode, uid, gid, size, atime_ns, mtime_ns, ctime_ns, put_ns, content, target, "
    "xattrs"
)
WITH_BELOW = (
    "WITH RECURSIVE below(ino, kind) AS (SELECT ino, kind FROM node WHERE ino = ? UNION ALL"
    " SELECT node.ino, node.kind FROM node JOIN below ON node.parent = below.ino WHERE below.kind = 0)"
)
"""Begins a statement that uses the table `below`: a node and, where it is a directory, all that is in it."""

_BY_INO = f"SELECT {COLUMNS} FROM node WHERE ino = ?"
_BY_NAME = f"SELECT {COLUMNS} FROM node WHERE parent = ? AND name = ?"
LISTED_BYTES = 512
"""What a listing has of a target or of attributes: b"" stands for longer ones, as it does for nothing else."""
_LISTED = COLUMNS
for _column in ("target", "xattrs"):
    _LISTED = _LISTED.replace(_column, f"iif(length({_column}) > {LISTED_BYTES}, x'', {_column})")
_AFTER_NAME = f"SELECT {_LISTED} FROM node WHERE parent = ? AND name > ? ORDER BY name LIMIT ?"
PATH_PARTS = 256
"""How many names of a path are told, beside those of the pipeline or run: as many of the longest as `taken` keeps."""
LEFT_OUT = b"..."
"""Stands for the names before these."""
_TOLD_NAMES = 100_000
"""How many of all directories of what is gone at once: a tenth of a second, and 25 MB where none can be longer."""
_ABOVE = (
    "WITH RECURSIVE above(number, parent, name) AS (SELECT 1, parent, name FROM node WHERE ino = ?1 UNION ALL"
    " SELECT number + 1, node.parent, node.name FROM above CROSS JOIN node ON node.ino = above.parent"
    " WHERE number < ?2) SELECT name FROM above"
)
_TOP = (
    "SELECT top.name, home.name FROM node JOIN node AS top ON top.ino = node.scope"
    " JOIN node AS home ON home.ino = top.parent WHERE node.ino = ?"
)
_INSERT = f"INSERT INTO node VALUES ({', '.join('?' * 17)})"

# What Node._make does, without its check of the length: a row has all columns.
_as_node: Callable[[Row], Node] = functools.partial(tuple.__new__, Node)
_content_of = operator.itemgetter(Node._fields.index("content"))


def _sound(rows: list[Row]) -> list[Row]:
    """Raise DamagedError for rows of another table, which are shorter: SQLite does not know a page that is in the place
    of another one, and gives what a row lacks as NULL.
    """
    if None in map(_content_of, rows):
        raise DamagedError("a page of the store's database is damaged: it is not the one that belongs there")
    return rows


def by_ino(database: Database, ino: int) -> Node | None:
    rows = _sound(database.recall(_BY_INO, (ino,)))
    return _as_node(rows[0]) if rows else None


def by_name(database: Database, parent: int, name: bytes) -> Node | None:
    rows = _sound(database.recall(_BY_NAME, (parent, name)))
    return _as_node(rows[0]) if rows else None


def after_name(database: Database, parent: int, name: bytes, limit: int) -> list[Node]:
    """Up to `limit` names of a directory in the order of their bytes, behind `name`; up to LISTED_BYTES of each."""
    return list(map(_as_node, rows_after_name(database, parent, name, limit)))


def rows_after_name(database: Database, parent: int, name: bytes, limit: int) -> list[NodeRow]:
    """The same without making nodes of them."""
    return _sound(database.rows(_AFTER_NAME, (parent, name, limit)))


def is_empty(database: Database, ino: int) -> bool:
    return database.row("SELECT 1 FROM node WHERE parent = ? LIMIT 1", (ino,)) is None


def path_of(database: Database, parent: int, name: bytes, most: int = PATH_PARTS) -> bytes:
    """The path from the root of the store to the name `name` in `parent`, for people to read.

    Directories can be made one in the other without end, and everybody waits meanwhile. So of more than `most`,
    there are the last ones and the pipeline or run: b"pipeline/app/.../d/d/k".
    """
    above = [found for (found,) in database.rows(_ABOVE, (parent, most + 3))]  # with top, home and root
    if len(above) == most + 3 and above[-1]:
        top = database.row(_TOP, (parent,))
        above[most:] = [LEFT_OUT, *(top or ())]
    return b"/".join(reversed([name, *filter(None, above)]))


class Paths:
    """The paths of the directories of what is gone at once: each is looked at once, and all that was in it shares it.

    Of so many deep ones that it would take long, or much memory, those asked for last are b"pipeline/app/.../".
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[int, bytes] = {}
        self._left = _TOLD_NAMES

    def of(self, directory: int) -> bytes:
        """The path of a directory, with a slash behind it."""
        path = self._known.get(directory)
        if path is None:
            path = path_of(self._database, directory, b"", PATH_PARTS if self._left > 0 else 0)
            self._known[directory] = path
            self._left -= path.count(b"/")
        return path


def removed(database: Database, node: Node) -> Removed:
    return all_removed(database, [node])[0]


def all_removed(database: Database, gone: list[Node]) -> list[Removed]:
    """The same for many, up to a thousand. The last come first to their paths: of these the keys are kept."""
    paths = Paths(database)
    return [Removed(node.ino, node.parent, node.name, paths.of(node.parent), node) for node in reversed(gone)][::-1]


def touch_directory(tx: Transaction, ino: int) -> int:
    """Give a directory the time of a change of its entries (POSIX rename, open, unlink: st_mtime and st_ctime).

    Returns its scope. Raises NotFoundError when it is gone and NotPermittedError in the fixed part of the tree.
    """
    row = tx.row(
        "UPDATE node SET mtime_ns = ?1, ctime_ns = ?1 WHERE ino = ?2 AND kind = 0 RETURNING scope", (tx.now_ns, ino)
    )
    if row is None:
        raise NotFoundError("the directory is gone")
    if not row[0]:
        raise NotPermittedError("objects and directories live inside a pipeline or a run, not beside it")
    return int(row[0])


def scope_of_directory(tx: Transaction, ino: int) -> int:
    """The scope of a directory in which a name gets another value, which is no change of the directory itself.

    Raises NotFoundError when it is gone.
    """
    row = tx.row("SELECT scope FROM node WHERE ino = ? AND kind = 0", (ino,))
    if row is None:
        raise NotFoundError("the directory is gone")
    return int(row[0])


def insert(tx: Transaction, node: Node, *, evictable: bool = False) -> None:
    tx.rows(_INSERT, (*node, 1 if evictable else 0))


def delete(tx: Transaction, node: Node) -> None:
    """Remove a name; its value is left to be deleted when nobody has it open any more."""
    tx.rows("DELETE FROM node WHERE ino = ?", (node.ino,))
    tx.drop_content(node.content, node.ino, node.parent, node.name)


def set_attributes(tx: Transaction, ino: int, attributes: Attributes, owner: int | None = None) -> Node:
    """Set what `attributes` names, and the time of the change.

    Raises NotFoundError, and NotPermittedError where there is an `owner` whose it has to be and is not.
    """
    row = tx.row(
        "UPDATE node SET mode = coalesce(?, mode), uid = coalesce(?, uid), gid = coalesce(?, gid),"
        " atime_ns = coalesce(?, atime_ns), mtime_ns = coalesce(?, mtime_ns), ctime_ns = ?"
        f" WHERE ino = ? AND uid = coalesce(?, uid) RETURNING {COLUMNS}",
        (*attributes, tx.now_ns, ino, owner),
    )
    if row is None and owner is not None and by_ino(tx.database, ino) is not None:
        raise NotPermittedError("the file is another user's by now")
    if row is None:
        raise NotFoundError("the file is gone")
    tx.tell(ino, 0, b"")
    return Node._make(row)


def new_directory(
    tx: Transaction, ino: int, parent: int, name: bytes, scope: int, mode: int, uid: int, gid: int
) -> Node:
    now = tx.now_ns
    node = Node(ino, parent, name, scope, Kind.DIRECTORY, mode, uid, gid, 0, now, now, now, 0, 0, None, None)
    insert(tx, node)
    return node
