"""A copy of a store as it is at one moment, while others use it. The copy is a store like any other."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from io import FileIO
from pathlib import Path

import apsw

from engine import disk, journal
from engine.config import ObjectStoreSettings
from engine.errors import DamagedError, ExistsError, InvalidError, OpenError, OutOfSpaceError, StoreError
from engine.registry import EMBEDDED
from engine.sqlite import migrations
from engine.sqlite.connecting import translate
from engine.sqlite.database import Database
from engine.sqlite.extents import CHUNK_BYTES, Extent, read_chunk, slot_of
from engine.sqlite.names import is_of_store, name_for_sqlite
from engine.workplaces import Workplace

_PAGES_AT_ONCE = 1024
_SLOTS_AT_ONCE = 64
_SLOTS = (
    "SELECT chunk, content, hashes FROM extent WHERE chunk < ? GROUP BY chunk ORDER BY chunk DESC LIMIT"
    f" {_SLOTS_AT_ONCE}"
)
_FILLED_S = 2.0
"""Within which time a slot is filled that an extent refers to."""
_ENDINGS = ("", "-data", "-wal", "-shm", "-journal")
"""Of the files that a copy has or will have as a store, beside journals."""

Tell = Callable[[int, int], None]


def backup(settings: ObjectStoreSettings, target: Path, tell: Tell = lambda done, total: None) -> int:
    """Copy a store to `target` and files beside it. Returns how many bytes that took.

    It has every Put whose close() returned before, and whole values only: each is compared with its hashes. `tell` is
    called with how many bytes are done, and how many there are. It gets its name when all of it is on the disk, and
    takes no other file's place: none of the names that it has as a store may be there.

    Raises ExistsError, OpenError, OutOfSpaceError, DamagedError, and InvalidError for a store that keeps its values in
    another engine, and for names of the store's own files. Nothing is left of a copy that failed.
    """
    source = Path(settings.path)
    if settings.engine != EMBEDDED:
        raise InvalidError(f"the engine {settings.engine!r} has the values of this store: copy them by its own means")
    migrations.check_file(source)
    if not source.exists():
        raise OpenError(f"there is no store at {source}")
    name_for_sqlite(target)
    if is_of_store(str(target), settings.path):
        raise InvalidError(f"{target} is a name for the store's own files: give the copy another name")
    _require_free(target)
    try:
        place = Workplace(target.parent)
        try:
            copy = _Copy(source, target, place, tell)
            copy.make()
            copy.put_in_place()
        finally:
            place.remove()
    except OSError as error:
        raise _translated(error, target) from error
    except apsw.Error as error:
        raise translate(error) from error
    return copy.done


def _require_free(target: Path) -> None:
    """Raise ExistsError where the copy or another store has a file already: it would be taken for one of the copy."""
    for path in [*(Path(f"{target}{ending}") for ending in _ENDINGS), *(path for _, path in journal.beside(target))]:
        if os.path.lexists(path):
            raise _taken(path)


def _taken(path: Path) -> ExistsError:
    return ExistsError(f"there is a file {path} already: give the copy another name")


class _Copy:
    """The files of one copy: in a place of their own until all of them are complete."""

    def __init__(self, source: Path, target: Path, place: Workplace, tell: Tell) -> None:
        self._source = source
        self._target = target
        self._place = place
        self._tell = tell
        self._endings: list[str] = []
        """Of the files that were made, after the name of the store."""
        self._total = 0
        self.done = 0

    def make(self) -> None:
        # First the journals, then the catalog: what the catalog has not seen to by then is in them.
        for _, path in journal.beside(self._source):
            self._copy_journal(path)
        with closing(Database(self._source, read_only=True)) as database:
            migrations.prepare(database, EMBEDDED, object_limit=0, run_expiry=0, max_object_size=0)
            with database.slots.reading(), database.snapshot():
                slots = database.value("SELECT count(DISTINCT chunk) FROM extent WHERE chunk < 0")
                pages = database.value("PRAGMA page_count")
                self._total = pages * database.value("PRAGMA page_size") + slots * CHUNK_BYTES
                if slots:
                    self._copy_slots(database)
                self._copy_database(database)

    def _copy_journal(self, path: Path) -> None:
        ending = path.name.removeprefix(self._source.name)
        # Its session may end at any moment.
        with suppress(FileNotFoundError), path.open("rb") as old, self._new(ending) as new:
            shutil.copyfileobj(old, new)
            os.fsync(new.fileno())

    def _copy_slots(self, database: Database) -> None:
        with self._new("-data") as file:
            for number, data in _slots(database):
                os.pwrite(file.fileno(), data, number * CHUNK_BYTES)
                self._advance(CHUNK_BYTES)
            os.fsync(file.fileno())

    def _copy_database(self, database: Database) -> None:
        self._new("").close()
        path = self._place.file("")
        with closing(apsw.Connection(str(path))) as new:
            new.pragma("synchronous", "off")  # synced below, all at once
            # With room for checksums in its header they are made for every page: those from the log have none yet.
            new.reserve_bytes("main", database.checksum_bytes)
            new.execute("CREATE TABLE replaced_by_the_copy (one)")
            page_size = database.value("PRAGMA page_size")
            with database.connection() as old, new.backup("main", old, "main") as copying:
                left = -1
                while not copying.done:
                    copying.step(_PAGES_AT_ONCE)
                    before = copying.page_count if left < 0 else left
                    left = copying.remaining
                    self._advance((before - left) * page_size)
        disk.sync(path)

    def _advance(self, more: int) -> None:
        self.done += more
        self._tell(self.done, self._total)

    def put_in_place(self) -> None:
        """The database last: without it the others are nothing."""
        _require_free(self._target)
        done: list[Path] = []
        try:
            for ending in sorted(self._endings, reverse=True):
                path = Path(f"{self._target}{ending}")
                _give_name(self._place.file(ending), path)
                done.append(path)
            disk.sync(self._target.parent)
        except BaseException:
            for path in done:
                path.unlink(missing_ok=True)
            raise

    def _new(self, ending: str) -> FileIO:
        self._endings.append(ending)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return FileIO(os.open(self._place.file(ending), flags, 0o600), "w")


def _give_name(file: Path, path: Path) -> None:
    """Never in the place of another one, as a rename would. Raises ExistsError and OSError."""
    try:
        os.link(file, path)
    except FileExistsError:
        raise _taken(path) from None
    except OSError:  # a filesystem without links
        if os.path.lexists(path):
            raise _taken(path) from None
        file.rename(path)


def _slots(database: Database) -> Iterator[tuple[int, bytes]]:
    """The slots that values have, with what is in them; not of those that are being written."""
    last = 0
    while rows := database.rows(_SLOTS, (last,)):
        for chunk, content, hashes in rows:
            slot = slot_of(chunk)
            data = _chunk(database, content, (chunk, hashes))
            if slot is not None and data is not None:
                yield slot, data
        last = rows[-1][0]


def _chunk(database: Database, content: int, extent: Extent) -> bytes | None:
    """What is in a slot, None where that is of a value that is being written. Raises DamagedError.

    Extents are committed before their slots are filled, which a value of a descriptor that was closed can have too.
    """
    until = time.monotonic() + _FILLED_S
    while True:
        try:
            return read_chunk(database, content, extent)
        except DamagedError:
            if database.row("SELECT 1 FROM draft WHERE content = ?", (content,)):
                return None
            if time.monotonic() > until:
                raise
        time.sleep(0.01)


def _translated(error: OSError, target: Path) -> StoreError:
    if error.errno in disk.FULL:
        return OutOfSpaceError(f"there is no room for a copy at {target}: {error.strerror}")
    return OpenError(f"cannot write {error.filename or target}: {error.strerror}")
