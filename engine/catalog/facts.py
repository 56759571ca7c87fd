"""What the store knows of a pipeline, a run or an object beside its attributes, as short texts by name.

A mount shows them as extended attributes that are never listed: `fusefs.limit` and so on.
"""

from collections.abc import Callable

from engine.catalog import eviction, lifetimes, nodes, taken
from engine.errors import NoAttributeError
from engine.model import PIPELINES_INO, ROOT_INO, RUNS_INO, Kind, Node
from engine.sqlite.database import Database

Searches = Callable[[Node], bool]
"""Whether who asks may search a directory (POSIX: the right to execute it)."""
_Fact = Callable[[Database, Node, Searches | None], str | bytes | None]

_LOOKED_AT = 1000
"""How many directories are looked at for an answer, for which everybody waits: a few milliseconds."""


def get(database: Database, node: Node, name: str, searches: Searches | None = None) -> bytes:
    """One of the facts of a node. Raises NoAttributeError where there is none of this name.

    `searches`: keys are told as far as who asks may search the directories that they are in; None: all of them.
    """
    fact = _facts_of(node).get(name)
    text = None if fact is None else fact(database, node, searches)
    if text is None:
        raise NoAttributeError(f"there is nothing called {name!r} here")
    return text.encode() if isinstance(text, str) else text


def _facts_of(node: Node) -> dict[str, _Fact]:
    if node.kind == Kind.OBJECT:
        return _OBJECT
    if node.ino in _HOMES:
        return _HOMES[node.ino]
    return {PIPELINES_INO: _PIPELINE, RUNS_INO: _RUN}.get(node.parent, {})


def _scope(column: str) -> _Fact:
    def fact(database: Database, node: Node, _: Searches | None) -> str | bytes | None:
        row = database.row(f"SELECT {column} FROM scope, store WHERE ino = ?", (node.ino,))
        found: str | int | None = None if row is None else row[0]
        return str(found) if isinstance(found, int) else found or None

    return fact


def _store(column: str) -> _Fact:
    return lambda database, *_: str(database.value(f"SELECT {column} FROM store"))


def _taken(database: Database, node: Node, searches: Searches | None) -> bytes:
    return _lines(_told(database, node.ino, taken.names(database, node.ino), searches))


def _displaced(database: Database, node: Node, searches: Searches | None) -> bytes:
    """The keys that can still come back when this object goes."""
    return _lines(_told(database, node.scope, eviction.keys_waiting_for(database, node.ino), searches))


def _told(database: Database, scope: int, keys: list[bytes], searches: Searches | None) -> list[bytes]:
    """Those of the keys of a pipeline that are told: not those in directories where who asks could not have seen them.

    A key goes by the names of its directories, as they are now. Of a longer one than is known (nodes.PATH_PARTS), and
    behind many others, nobody knows.
    """
    if searches is None:
        return keys
    looked_at: dict[tuple[int, bytes], Node | None] = {}

    def look(parent: int, name: bytes) -> Node | None:
        if (parent, name) not in looked_at and len(looked_at) < _LOOKED_AT:
            found = nodes.by_name(database, parent, name) if name else nodes.by_ino(database, parent)
            searched = found is not None and found.kind == Kind.DIRECTORY and searches(found)
            looked_at[parent, name] = found if searched else None
        return looked_at.get((parent, name))

    def may_see(key: bytes) -> bool:
        *directories, _ = key.split(b"/")
        if not directories:
            return True
        directory = look(scope, b"") if directories[0] != nodes.LEFT_OUT else None
        for name in directories:
            directory = None if directory is None else look(directory.ino, name)
        return directory is not None

    return [key for key in keys if may_see(key)]


def _starts_left(database: Database, node: Node, _: Searches | None) -> str | None:
    left = lifetimes.starts_left(database, node.ino)
    return None if left is None else str(left)


def _lines(names: list[bytes]) -> bytes:
    """Names, one a line, as many as fit. A backslash and a line feed in a name are written \\\\ and \\n."""
    text = b""
    for name in names:
        line = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n") + b"\n"
        if len(text) + len(line) > taken.TEXT_MAX_BYTES:
            break
        text += line
    return text


_PIPELINE: dict[str, _Fact] = {
    "limit": _scope("coalesce(scope.object_limit, store.object_limit)"),
    "limit_of": _scope("iif(scope.object_limit IS NULL, 'store', 'pipeline')"),
    "objects": _scope("objects"),
    "bytes": _scope("scope.bytes"),
    "max_bytes": _scope("coalesce(scope.max_bytes, store.max_pipeline_bytes)"),
    "max_bytes_of": _scope("iif(scope.max_bytes IS NULL, 'store', 'pipeline')"),
    "order": _scope("started_ns"),
    "evictions": _scope("evictions"),
    "evicted": _taken,
}
_RUN: dict[str, _Fact] = {
    "objects": _scope("objects"),
    "bytes": _scope("scope.bytes"),
    "order": _scope("started_ns"),
    "pipeline": _scope("CAST(pipeline AS TEXT)"),
    "protected": _scope("protected"),
    "starts_left": _starts_left,
}
_OBJECT: dict[str, _Fact] = {
    "order": lambda _, node, __: str(node.put_ns),
    "evicted": _displaced,
}
_HOMES: dict[int, dict[str, _Fact]] = {
    ROOT_INO: {"bytes": _store("bytes"), "max_bytes": _store("max_bytes")},
    PIPELINES_INO: {"limit": _store("object_limit"), "max_bytes": _store("max_pipeline_bytes")},
    RUNS_INO: {"expiry": _store("run_expiry"), "expirations": _store("expirations"), "expired": _taken},
}
