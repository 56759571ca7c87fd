"""Whether a store is whole: the pages of its file, its catalog, and every value. Changes nothing.

Others may use the store meanwhile: each step sees one moment of it, and what goes between two steps is no damage.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from engine.catalog import invariants, nodes
from engine.config import ObjectStoreSettings
from engine.errors import DamagedError, OpenError, StoreError
from engine.inspecting import what_is_wrong
from engine.interface import ObjectEngine
from engine.model import Node
from engine.registry import EMBEDDED, load_engine
from engine.salvage import leftovers
from engine.sqlite import migrations, sums
from engine.sqlite.content import SqliteEngine
from engine.sqlite.database import Database

_PAGE = 256
_SHOWN = 10
"""How many rows are told of one thing that contradicts another."""

_OBJECTS = (
    f"SELECT {nodes.COLUMNS} FROM (SELECT {nodes.COLUMNS} FROM node WHERE ino > ?1 AND kind = 1"
    f" UNION ALL SELECT {nodes.COLUMNS} FROM evicted WHERE ino > ?1) ORDER BY ino LIMIT ?2"
)
_ACKNOWLEDGED = "SELECT session, parent, name, ino, content, size FROM intent WHERE content <> 0"
_IS_IN_TREE = (
    "SELECT 1 FROM node WHERE ino = ?1 AND content = ?2 UNION ALL SELECT 1 FROM evicted WHERE ino = ?1 AND content = ?2"
)
_IS_WAITING = "SELECT 1 FROM intent WHERE ino = ?1 AND content = ?2"
_UNCHECKED = (
    "SELECT (SELECT count(*) FROM content WHERE data IS NOT NULL AND hash IS NULL)"
    " + (SELECT count(DISTINCT content) FROM extent WHERE hashes IS NULL)"
)


class Finding(NamedTuple):
    """Something that is not as it should be."""

    what: str
    path: bytes | None
    """The object that it concerns, as in pipeline/NAME/KEY; None where it is the store as a whole."""


class _Value(NamedTuple):
    """A value that the catalog refers to."""

    owner: int
    """The inode that has it."""
    content: int
    size: int
    is_there: str
    """Asks whether the owner has it still."""

    @classmethod
    def of(cls, node: Node) -> "_Value":
        return cls(node.ino, node.content, node.size, _IS_IN_TREE)


_CANNOT_BE_OPENED = Finding("the store cannot be opened: what is read first is damaged", None)


class Check:
    """One check of a store, from `run`."""

    def __init__(self, settings: ObjectStoreSettings, tell: Callable[[int, int], None] = lambda done, total: None):
        """`tell` is called with the sizes of the values that were read, and of all."""
        self._settings = settings
        self._tell = tell
        self.objects = 0
        """How many values were read."""
        self.bytes = 0
        self.unchecked = 0
        """How many values were stored without hashes, before there were any: what is wrong in them is not found."""
        self.pages_have_checksums = False

    def run(self) -> Iterator[Finding]:
        """Find what is wrong, as it is found. Raises OpenError for what is no store, and InvalidError."""
        path = Path(self._settings.path)
        migrations.check_file(path)
        if not path.exists():
            raise OpenError(f"there is no store at {path}")
        yield from (Finding(what, None) for what in leftovers.of_log(path))
        try:
            database = Database(path, read_only=True)
        except DamagedError:
            yield _CANNOT_BE_OPENED
            return
        with closing(database):
            try:
                migrations.prepare(database, self._settings.engine, object_limit=0, run_expiry=0, max_object_size=0)
                self.pages_have_checksums = bool(database.value("SELECT checksums FROM store"))
                yield from (Finding(what, None) for what in leftovers.of_journals(database))
            except DamagedError:
                yield _CANNOT_BE_OPENED
                return
            yield from _pages(database)
            yield from _catalog(database)
            yield from self._values(database)

    def _values(self, database: Database) -> Iterator[Finding]:
        embedded = self._settings.engine == EMBEDDED
        options = self._settings.options
        with closing(SqliteEngine({}, database) if embedded else load_engine(self._settings.engine, options)) as engine:
            prefix = f"{database.value('SELECT id FROM store')}/"
            total = _value_or(database, f"SELECT {sums.at_most('size')} FROM node WHERE kind = 1", 0)
            done = 0
            self.unchecked = _value_or(database, _UNCHECKED, 0)
            for node in _objects(database):
                if isinstance(node, Finding):
                    yield node
                    continue
                self._tell(done, total)
                done += node.size
                self.objects += 1
                wrong = self._value(database, engine, prefix, _Value.of(node))
                if wrong is not None:
                    yield Finding(wrong, _path(database, node.parent, node.name))
            yield from self._acknowledged(database, engine, prefix)

    def _acknowledged(self, database: Database, engine: ObjectEngine, prefix: str) -> Iterator[Finding]:
        """What processes that died have put, and nobody has published yet."""
        try:
            rows = database.rows(_ACKNOWLEDGED)
        except DamagedError:
            rows = []  # what SQLite finds is told
        for session, parent, name, ino, content, size in rows:
            if not leftovers.is_alive(database, session):
                wrong = self._value(database, engine, prefix, _Value(ino, content, size, _IS_WAITING))
                if wrong is not None:
                    yield Finding(f"what was put there and is not published: {wrong}", _path(database, parent, name))

    def _value(self, database: Database, engine: ObjectEngine, prefix: str, value: "_Value") -> str | None:
        """Read one value. Returns what is wrong with it."""
        key = f"{prefix}{value.content:016x}" if value.content else ""
        try:
            with database.slots.reading(), database.snapshot():
                if database.row(value.is_there, (value.owner, value.content)) is None:
                    return None
                return what_is_wrong(engine, key, value.size, self._note_read)
        except DamagedError:
            return "the value is damaged"
        except StoreError as error:
            return str(error)

    def _note_read(self, more: int) -> None:
        self.bytes += more


def _value_or(database: Database, sql: str, default: int) -> int:
    try:
        return database.value(sql) or default
    except DamagedError:
        return default


def _pages(database: Database) -> Iterator[Finding]:
    try:
        for (line,) in database.rows("PRAGMA integrity_check"):
            if line != "ok":
                yield Finding(f"the database: {line}", None)
    except DamagedError:
        yield Finding("pages of the database are damaged", None)


def _catalog(database: Database) -> Iterator[Finding]:
    with database.snapshot():
        for what, sql in invariants.NEVER.items():
            try:
                rows = database.rows(sql)
            except DamagedError:
                yield Finding(f"whether there is {what} cannot be read", None)
                continue
            for row in rows[:_SHOWN]:
                yield Finding(f"{what}: {', '.join(map(_cell, row))}", None)
            if len(rows) > _SHOWN:
                yield Finding(f"{what}: {len(rows) - _SHOWN} more", None)


def _cell(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _objects(database: Database) -> Iterator[Node | Finding]:
    """All objects, those too that were evicted and can come back; what cannot be read is told and left out."""
    last = 0
    size = _PAGE
    while True:
        try:
            rows = database.rows(_OBJECTS, (last, size))
        except DamagedError:
            if size > 1:
                size = 1
                continue
            yield Finding("there are objects whose names cannot be read", None)
            behind = _behind_damage(database, last)
            if behind is None:
                return
            last = behind
            continue
        if not rows:
            return
        for row in rows:
            yield Node._make(row)
        last, size = rows[-1][0], _PAGE


def _behind_damage(database: Database, last: int) -> int | None:
    """After which inode the objects can be read again, where those after `last` cannot; None for no more."""

    def can_be_read(after: int) -> bool:
        try:
            return bool(database.rows(_OBJECTS, (after, 1)))
        except DamagedError:
            return False

    step = 1
    while not can_be_read(last + step):
        step *= 2
        if last + step >= 2**62:
            return None
    low, high = last + step // 2, last + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if can_be_read(middle) else (middle, high)
    return high


def _path(database: Database, parent: int, name: bytes) -> bytes:
    try:
        return nodes.path_of(database, parent, name)
    except DamagedError:
        return b"?/" + name
