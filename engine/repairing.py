"""Saving what can be saved of a damaged store, and saying what was lost.

Where a page of the database is damaged, or pages contradict each other, a new database is made of the rows that can be
read (see salvage). Then every value is read, in the store itself, and a name whose value is damaged goes.
"""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from engine.catalog import nodes, puts
from engine.catalog.invariants import NEVER
from engine.catalog.transaction import Transaction
from engine.config import ObjectStoreSettings
from engine.errors import DamagedError, InternalError, InvalidError, OpenError
from engine.inspecting import what_is_wrong
from engine.model import Effects, Node
from engine.opening import open_store
from engine.salvage import rebuilding, swapping
from engine.salvage.accounting import Outcome
from engine.salvage.pages import Pages
from engine.sqlite import migrations, sums
from engine.sqlite.database import Database
from engine.sqlite.files import PAGE_BYTES
from engine.store import Store

_AT_ONCE = 256
_APPLICATION_ID_AT = 68

Tell = Callable[[str, int, int], None]


class Lost(NamedTuple):
    """A name that is gone."""

    path: bytes
    """From the root of the store, as in pipeline/NAME/KEY; where it was is ? as far as it is not known."""
    why: str
    size: int | None = None
    """Of its value; None where it is not known, or it had none."""


class Repaired(NamedTuple):
    """What a repair did."""

    lost: list[Lost]
    recovered: list[bytes]
    """Directories, pipelines and runs that were made again: under a new name (recovered-N), or without attributes."""
    uncertain: list[bytes]
    """Names whose times, owner, mode or attributes may not be what they were."""
    notes: list[str]
    kept: list[Path]
    """Where the damaged files are now; nothing where only values were damaged."""
    objects: int
    """How many values were read and are whole."""
    effects: list[Effects]
    """What opening the store, and publishing what was in the way, did beside."""


def space_needed(settings: ObjectStoreSettings) -> int:
    """How many bytes a repair may need beside the store."""
    return swapping.space_needed(Path(settings.path))


def repair(settings: ObjectStoreSettings, tell: Tell = lambda what, done, total: None) -> Repaired:
    """Make a damaged store whole again. `tell` is called with what is being done, and how many bytes of how many.

    Needs free space for three more copies of the database where that is damaged. Raises UnavailableError while anybody
    has the store open, OpenError for what is no store, InvalidError for one in memory, OutOfSpaceError; the store is as
    it was then.
    """
    path = Path(settings.path)
    if settings.engine == "memory":
        raise InvalidError("a store in memory has no file")
    if not path.is_file():
        raise OpenError(f"there is no store at {path}")
    with swapping.alone(path):
        swapping.workplace(path)
        outcome, kept = (Outcome(), []) if _pages_are_whole(path, tell) else _rebuild(path, settings, tell)
    if not kept and not _is_consistent(path):
        with swapping.alone(path):
            outcome, kept = _rebuild(path, settings, tell)
    lost = [Lost(name, why) for name, why in outcome.lost]
    with open_store(settings, create=False) as store:
        objects = _read_values(store, lost, tell)
        _read_acknowledged(store, lost)
        effects = store.opening_effects + store.publisher.recover().effects  # what a damaged value was in the way of
        while store.upkeep.sweep() or store.upkeep.reclaim():
            pass
        notes = outcome.notes + store.database.troubles.news()
    return Repaired(lost, outcome.recovered, outcome.uncertain, notes, kept, objects, effects)


def _pages_are_whole(path: Path, tell: Tell) -> bool:
    with Pages(path) as pages:
        free, known = pages.free()
        for number in range(1, pages.count + 1):
            tell("reading pages", number * PAGE_BYTES, pages.count * PAGE_BYTES)
            if number not in free:
                pages.read(number)
        return known and pages.begin_whole and pages.log.is_whole and not pages.damaged and not pages.mended


def _is_consistent(path: Path) -> bool:
    """Whether SQLite can read all of the database, and nothing in the catalog contradicts anything else."""
    try:
        with closing(Database(path, read_only=True)) as database:
            return not migrations.is_current(database) or (
                database.value("PRAGMA integrity_check") == "ok"
                and not any(database.rows(sql) for sql in NEVER.values())
            )
    except (DamagedError, InternalError):
        return False


def _rebuild(path: Path, settings: ObjectStoreSettings, tell: Tell) -> tuple[Outcome, list[Path]]:
    swapping.require_space(path)
    new = swapping.workplace(path)
    with Pages(path) as pages:
        _require_ours(path, pages)

        def tell_pages(done: int, total: int) -> None:
            tell("saving names and values", done * PAGE_BYTES, total * PAGE_BYTES)

        outcome = rebuilding.rebuild(pages, new, settings.engine, tell_pages)
        if pages.mended or pages.log.mended:
            bits = len(pages.mended) + pages.log.mended
            outcome.notes.append(f"{bits} pages had one wrong bit each, and are as they were again")
    with closing(Database(new, read_only=True)) as database:
        if not database.value("SELECT (SELECT count(*) FROM node WHERE ino > 3) + (SELECT count(*) FROM content)"):
            raise OpenError(f"nothing of a store can be read in {path}: it is left as it is")
        sessions = {number for (number,) in database.rows("SELECT id FROM session")}
    kept = swapping.keep(path, sessions, [name for name, _ in outcome.lost], tell)
    if any("-puts-" in file.name for file in kept):
        outcome.notes.append("a session is lost: which Puts of its journal were published cannot be told; it was kept")
    swapping.put_in_place(path, new, tell)
    return outcome, kept


def _require_ours(path: Path, pages: Pages) -> None:
    """Raise OpenError for an SQLite database of somebody else, and for a store of a newer version."""
    first = pages.read(1)
    if first is None or not first.sure:
        return
    application, version = (int.from_bytes(first.data[at : at + 4], "big") for at in (_APPLICATION_ID_AT, 60))
    if application != migrations.APPLICATION_ID:
        raise OpenError(f"{path} is not a fusefs store")
    if version > migrations.VERSION:
        raise OpenError(f"{path} was written by a newer fusefs: upgrade fusefs")
    if version < migrations.VERSION:
        raise OpenError(f"{path} has the older format {version}, and a damaged database of that cannot be repaired")


def _read_values(store: Store, lost: list[Lost], tell: Tell) -> int:
    """Read every value; take away the names of those that are damaged. Returns how many are whole."""
    database = store.database
    total = database.value(
        f"SELECT {sums.at_most('size')} FROM (SELECT size FROM node UNION ALL SELECT size FROM evicted)"
    )
    whole = done = 0
    # Those first that may come back when an object goes.
    for table, take_away in (("evicted", _give_up), ("node", _take_away)):
        last = 0
        while rows := database.rows(
            f"SELECT {nodes.COLUMNS} FROM {table} WHERE ino > ? AND kind = 1 ORDER BY ino LIMIT ?", (last, _AT_ONCE)
        ):
            for node in map(Node._make, rows):
                tell("reading values", done, total)
                wrong = _what_is_wrong(store, node.content, node.size)
                if wrong is not None:
                    path = nodes.path_of(database, node.parent, node.name)
                    take_away(store, node)
                    lost.append(Lost(path, wrong, node.size))
                done += node.size
                whole += wrong is None and table == "node"
            last = rows[-1][0]
    return whole


def _read_acknowledged(store: Store, lost: list[Lost]) -> None:
    """Give up what was acknowledged and waits to be published, where its own value is damaged."""
    database = store.database
    for ino, handle, parent, name, content, size in database.rows(
        "SELECT ino, handle, parent, name, content, size FROM intent"
    ):
        wrong = _what_is_wrong(store, content, size)
        if wrong is not None:
            with database.write():
                tx = Transaction(database, store.sessions.own)
                tx.rows("DELETE FROM intent WHERE ino = ? AND handle = ?", (ino, handle))
                tx.drop_content(content)
            path = nodes.path_of(database, parent, name)
            lost.append(Lost(path, f"it was put there and not published: {wrong}", size))


def _what_is_wrong(store: Store, content: int, size: int) -> str | None:
    try:
        key = store.contents.key(content) if content else ""
        return what_is_wrong(store.engine, key, size, lambda more: None)
    except InternalError:
        return "the value is damaged"


def _take_away(store: Store, node: Node) -> None:
    """Before what waits to be put there, maybe for this."""
    with store.database.write():
        puts.remove(Transaction(store.database, store.sessions.own), node)


def _give_up(store: Store, node: Node) -> None:
    with store.database.write():
        tx = Transaction(store.database, store.sessions.own)
        tx.rows("DELETE FROM evicted WHERE ino = ?", (node.ino,))
        tx.drop_content(node.content)
