"""Reading damaged files without SQLite: checksums, the log, records, and what opening a store tells of damage."""

import random
import shutil
from pathlib import Path

import pytest

from engine import journal, open_store
from engine.checking import Check
from engine.config import ObjectStoreSettings
from engine.salvage import checksums, log, records
from engine.salvage.checksums import Checker
from engine.salvage.log import FRAME, HEADER, PAGE_BYTES
from engine.salvage.pages import Pages
from engine.salvage.tables import COLUMNS
from tests.damage.campaign import Scene
from tests.damage.making import copy
from tests.damage.pages import pages_of, ruin, turn_bit
from tests.damage.reading import judge
from tests.support.stores import run_process

WHOLE_FRAME = FRAME.size + PAGE_BYTES


MADE_AGAIN = {"sqlite_schema", "free_slot"}
"""Tables that follow from the others."""
GIVEN_UP = {"moved", "taken", "draft", "change", "pin"}
"""What is of use for moments, or for people to read."""


def test_every_table_of_the_schema_is_known(closed: Scene, place: Path) -> None:
    """With all its columns: who adds one has to say how it is saved."""
    path = copy(closed.made, place)
    with open_store(ObjectStoreSettings(path=str(path)), read_only=True) as store:
        names = {name for (name,) in store.database.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert names - MADE_AGAIN - GIVEN_UP == COLUMNS.keys() - {"dentry", "sqlite_schema"}
        for name in names & COLUMNS.keys():
            assert store.database.value(f"SELECT count(*) FROM pragma_table_info('{name}')") == COLUMNS[name], name


def log_of(path: Path) -> log.Log:
    return log.read(path, PAGE_BYTES, Checker())


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_bit_is_mended_or_given_up_and_never_made_worse(order: str) -> None:
    chance = random.Random(5)
    state = 12345, 67890
    mended = 0
    for _ in range(300):
        data = chance.randbytes(4104)
        sums = checksums.add(state, data, order)
        at = chance.randrange(len(data) * 8)
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        found = checksums.mend(state, bytes(damaged), sums, order)
        assert found in (None, (data, sums))
        mended += found is not None
    assert mended > 200


def test_damage_to_the_sums_themselves_is_known() -> None:
    data = random.Random(5).randbytes(4104)
    one, two = checksums.add(checksums.ZERO, data)
    assert checksums.mend(checksums.ZERO, data, (one ^ 8, two)) == (data, (one, two))


def test_the_checker_agrees_with_the_sums() -> None:
    checker, chance = Checker(), random.Random(5)
    for order in "<>":
        data, state = chance.randbytes(4104), (chance.getrandbits(32), chance.getrandbits(32))
        sums = checksums.add(state, data, order)
        assert checker.follows(state, data, sums, order)
        assert not checker.follows(state, data, (sums[0] ^ 1, sums[1]), order)


def test_what_is_behind_a_damaged_frame_is_known(killed: Scene, place: Path) -> None:
    path = copy(killed.made, place)
    whole = log_of(path)
    assert whole.is_whole
    with log.path_of(path).open("r+b") as file:
        file.seek(HEADER.size + 5 * WHOLE_FRAME + FRAME.size)
        file.write(bytes(3000))
    found = log_of(path)
    assert (found.damaged, found.mended) == (1, 0)
    assert found.hidden > 5
    assert found.size == whole.size
    assert set(whole.pages) - set(found.pages) <= found.lost
    assert {page: at for page, at in found.pages.items() if page not in found.lost}.items() <= whole.pages.items()


def test_frames_of_a_generation_before_count_nothing(killed: Scene, place: Path) -> None:
    """The log began again, and what comes behind its end is from before."""
    path = copy(killed.made, place)
    old = log.path_of(path).read_bytes()
    with Pages(path) as pages:
        new = place / "new-wal"
        log.write(new, pages.raw_pages(), 20, PAGE_BYTES, lambda done: None)
    begun = new.read_bytes()[: HEADER.size + 20 * WHOLE_FRAME]
    log.path_of(path).write_bytes(begun + old[len(begun) :])
    found = log_of(path)
    assert found.is_whole
    assert (found.size, len(found.pages)) == (20, 20)


def test_a_log_that_hides_changes_is_kept_and_told(killed: Scene, place: Path) -> None:
    """Once, before SQLite writes over it; `fusefs check` finds it as long as nobody has."""
    path = copy(killed.made, place)
    settings = ObjectStoreSettings(path=str(path))
    ruined = log.path_of(path)
    with ruined.open("r+b") as file:
        file.seek(HEADER.size + 5 * WHOLE_FRAME)
        file.write(bytes(3000))
    before = ruined.read_bytes()
    assert any("the log is damaged" in finding.what for finding in Check(settings).run())
    assert not list(place.glob("*.damaged-*"))
    with open_store(settings) as store:
        (told,) = store.database.troubles.news()
        (kept,) = place.glob("*-wal.damaged-*")
        assert str(kept) in told
        assert kept.read_bytes() == before
        assert kept.stat().st_mode & 0o777 == 0o600
    with open_store(settings) as store:
        assert store.database.troubles.news() == []


def test_what_was_acknowledged_waits_for_the_repair_of_what_is_in_its_way(killed: Scene, place: Path) -> None:
    """A page that a Put needs is damaged: its journal and intents stay, and everything else goes on."""
    path = copy(killed.made, place)
    log.path_of(path).unlink()  # back to what the database has: the journal is of a session that is in it
    undamaged = judge(killed.truth, path)
    assert undamaged.failed == []
    path = copy(killed.made, place)
    log.path_of(path).unlink()
    ruin(path, pages_of(path, "dentry")[-1])
    journals = sorted(place.glob("*-puts-*"))
    with open_store(ObjectStoreSettings(path=str(path))) as store:
        (told,) = store.database.troubles.news()
        assert "cannot be published yet" in told
        assert store.database.value("SELECT count(*) FROM session") >= 1
    assert sorted(place.glob("*-puts-*")) == journals


def test_a_damaged_journal_is_kept_and_told(killed: Scene, place: Path) -> None:
    path = copy(killed.made, place)
    (written,) = place.glob("*-puts-*")
    turn_bit(written, 20)
    turn_bit(written, 30)
    settings = ObjectStoreSettings(path=str(path))
    assert any("is damaged" in finding.what for finding in Check(settings).run())
    with open_store(settings) as store:
        (told,) = store.database.troubles.news()
    (kept,) = place.glob("*-puts-*.damaged-*")
    assert str(kept) in told
    with open_store(settings) as store:
        assert store.database.troubles.news() == []
    assert kept.exists()


def test_a_damaged_journal_is_kept_and_told_when_its_recovery_was_interrupted(killed: Scene, place: Path) -> None:
    """By a kill between the commit and the deletion of the journal."""
    path = copy(killed.made, place)
    (written,) = place.glob("*-puts-*")
    turn_bit(written, 20)
    turn_bit(written, 30)
    damaged = written.read_bytes()
    program = "Transaction.effects = lambda transaction: die()\nopen_store(ObjectStoreSettings(path=sys.argv[1]))"
    run_process(program, str(path), expected=-9)
    assert written.exists()
    with open_store(ObjectStoreSettings(path=str(path))) as store:
        (told,) = store.database.troubles.news()
    (kept,) = place.glob("*-puts-*")
    assert str(kept) in told
    assert kept.read_bytes() == damaged


def test_entries_inside_of_values_are_not_taken_for_entries(tmp_path: Path) -> None:
    """Whoever writes a value must not be able to have something published by it, whatever is damaged."""
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    hostile = journal.Journal(inner)
    hostile.append(journal.Entry(9, 9, 9, None, b""))
    writing = journal.Journal(outer)
    writing.append(journal.Entry(1, 1, 1, None, b"before" + inner.read_bytes() * 3))
    data = bytearray(outer.read_bytes())
    data[:12] = bytes(12)
    outer.write_bytes(data)
    found = journal.examine(outer, 0)
    assert found.entries == []
    assert found.damaged


@pytest.mark.parametrize("seed", range(20))
def test_pages_of_anything_are_no_trouble(seed: int) -> None:
    """What is no page has no rows, or fewer; nothing is raised."""
    chance = random.Random(seed)
    page = bytearray(chance.randbytes(PAGE_BYTES))
    page[0] = chance.choice((2, 5, 10, 13))
    page[3:5] = chance.randrange(600).to_bytes(2, "big")
    for cell in records.cells(bytes(page), 2, 4088):
        try:
            records.decode(records.whole(cell, 4088, lambda number: None))
        except records.Malformed:
            continue
    list(records.children(bytes(page), 2))


def test_a_copy_of_a_store_is_read_as_sqlite_reads_it(closed: Scene, place: Path) -> None:
    path = copy(closed.made, place)
    with Pages(path) as pages:
        free, known = pages.free()
        assert known
        in_tables = {number for table in ("node", "content", "chunk", "extent") for number in pages_of(path, table)}
        assert in_tables
        assert not in_tables & free
        assert all(page is not None and page.sure for page in map(pages.read, range(1, pages.count + 1)))
    shutil.rmtree(place)
