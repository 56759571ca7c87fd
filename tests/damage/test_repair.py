"""`repair`: what can be read of a damaged store is saved, what is lost is named, and a death leaves either store."""

import os
from pathlib import Path
from unittest import mock

import pytest

from engine import ScopeName, open_store
from engine.checking import Check
from engine.config import ObjectStoreSettings
from engine.errors import OpenError, OutOfSpaceError, UnavailableError
from engine.repairing import Repaired, repair
from engine.salvage import swapping
from tests.damage.campaign import Scene
from tests.damage.making import KEEP, copy
from tests.damage.mending import Mended, mend
from tests.damage.pages import INTERIOR, LEAF_TABLE, PAGE, pages_of, ruin, turn_bit
from tests.support.stores import reclaim_all, start_process


def clean(mended: Mended) -> Repaired:
    """Nothing is wrong, came back, or is gone without a word."""
    assert mended.repaired is not None
    assert (mended.wrong, mended.unreported, mended.back) == ([], [], [])
    return mended.repaired


def settings(path: Path) -> ObjectStoreSettings:
    return ObjectStoreSettings(path=str(path))


def names_beside(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()}


def test_a_whole_store_is_left_as_it_is(closed: Scene, place: Path) -> None:
    path = copy(closed.made, place)
    mended = mend(closed.truth, path)
    assert clean(mended).kept == []
    assert mended.kept == len(closed.truth.seen.facts)
    assert not [name for name in names_beside(path) if "damaged" in name or "repairing" in name]


def test_one_bit_in_any_page_costs_nothing(closed: Scene, place: Path) -> None:
    """The checksum says which bit it is, where it is none of the upper ones of a word."""
    path = copy(closed.made, place)
    pages = path.stat().st_size // PAGE
    for number in range(pages):
        turn_bit(path, number * PAGE + 512)
    mended = mend(closed.truth, path)
    assert clean(mended).lost == []
    assert mended.kept == len(closed.truth.seen.facts)
    assert "one wrong bit each" in " ".join(mended.repaired.notes if mended.repaired else [])


def test_names_on_a_lost_page_are_told_and_nothing_else_is_lost(closed: Scene, place: Path) -> None:
    path = copy(closed.made, place)
    ruin(path, pages_of(path, "node", LEAF_TABLE)[1])
    mended = mend(closed.truth, path)
    repaired = clean(mended)
    assert mended.lost
    assert sorted(lost.path for lost in repaired.lost) == sorted(mended.lost)
    assert mended.kept == len(closed.truth.seen.facts) - len(mended.lost)


def test_what_is_below_a_lost_interior_page_is_found(closed: Scene, place: Path) -> None:
    for table in ("node", "content", "chunk"):
        path = copy(closed.made, place)
        ruin(path, *pages_of(path, table, INTERIOR))
        mended = mend(closed.truth, path)
        assert clean(mended).lost == [], table
        assert mended.kept == len(closed.truth.seen.facts)


def test_indexes_are_made_again(closed: Scene, place: Path) -> None:
    path = copy(closed.made, place)
    for index in ("dentry", "eviction_order", "extent_chunk", "run_order", "evicted_order"):
        ruin(path, *pages_of(path, index))
    mended = mend(closed.truth, path)
    assert clean(mended).lost == []
    assert mended.kept == len(closed.truth.seen.facts)


def test_the_first_page_and_what_it_leads_to(closed: Scene, place: Path) -> None:
    """Where the tables begin and which pages are free is lost. Their rows tell what they are."""
    path = copy(closed.made, place)
    ruin(path, 1)
    mended = mend(closed.truth, path)
    assert mended.repaired is not None
    assert (mended.wrong, mended.lost, mended.unreported) == ([], [], [])


def test_pipelines_and_runs_without_their_rows(closed: Scene, place: Path) -> None:
    """Their directories are there. A limit that is not known takes nothing away."""
    path = copy(closed.made, place)
    ruin(path, *pages_of(path, "scope"), *pages_of(path, "store"))
    mended = mend(closed.truth, path)
    repaired = clean(mended)
    assert repaired.lost == []
    assert any("limits are lost" in note for note in repaired.notes)
    with open_store(settings(path)) as store:
        assert [pipeline.name for pipeline in store.list_pipelines()] == [b"full", b"keep"]
        assert [run.name for run in store.list_runs()] == [b"42"]
        store.put_object(KEEP, b"new", b"value")


def test_directories_that_are_lost_are_made_again(closed: Scene, place: Path) -> None:
    """All names are gone but those on the last page: what is there is put where the index says, or under new names."""
    path = copy(closed.made, place)
    ruin(path, *pages_of(path, "node", LEAF_TABLE)[:-1], *pages_of(path, "scope"))
    mended = mend(closed.truth, path)
    assert clean(mended).lost
    assert mended.kept

    path = copy(closed.made, place)
    ruin(path, *pages_of(path, "node", LEAF_TABLE)[:-1], *pages_of(path, "scope"), *pages_of(path, "dentry"))
    repaired = repair(settings(path))
    assert any(b"recovered-" in name for name in repaired.recovered)
    assert list(Check(settings(path)).run()) == []


def test_a_damaged_value_loses_its_name_and_the_database_is_left_alone(closed: Scene, place: Path) -> None:
    path = copy(closed.made, place)
    turn_bit(path.with_name("objects.db-data"), 1000)
    mended = mend(closed.truth, path)
    repaired = clean(mended)
    assert [lost.path for lost in repaired.lost] == [b"pipeline/keep/large"]
    assert (repaired.lost[0].size, repaired.lost[0].why) == (
        len(closed.made.values[b"pipeline/keep/large"]),
        "the value is damaged",
    )
    assert repaired.kept == []


def test_a_damaged_log_loses_nothing(killed: Scene, place: Path) -> None:
    """SQLite takes a frame that is damaged for the end of the log. What is behind it is saved, and its bit mended."""
    path = copy(killed.made, place)
    log = path.with_name("objects.db-wal")
    turn_bit(log, 32 + 24 + 100)
    mended = mend(killed.truth, path)
    assert clean(mended).lost == []
    assert mended.kept == len(killed.truth.seen.facts)


def test_what_is_behind_a_frame_that_cannot_be_mended(killed: Scene, place: Path) -> None:
    """At most what is on the page of that frame is lost; SQLite would take everything behind it for lost."""
    path = copy(killed.made, place)
    with path.with_name("objects.db-wal").open("r+b") as log:
        log.seek(32 + 5 * (24 + PAGE) + 24)
        log.write(bytes(3000))
    mended = mend(killed.truth, path)
    clean(mended)
    assert mended.kept > len(killed.truth.seen.facts) * 2 // 3
    assert b"pipeline/keep/closed large" not in mended.lost


def test_a_sector_of_a_page_takes_what_is_in_it_and_leaves_the_rest(closed: Scene, place: Path) -> None:
    """Names on the rest of the page are confirmed by the index; that their attributes are right is not certain."""
    path = copy(closed.made, place)
    page = pages_of(path, "node", LEAF_TABLE)[1]
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE + 2560)
        file.write(bytes(512))
    mended = mend(closed.truth, path)
    repaired = clean(mended)
    assert 0 < len(mended.lost) < 15
    assert len(repaired.uncertain) > 15


def test_what_was_deleted_does_not_come_back(closed: Scene, place: Path) -> None:
    """Pages that are free hold the rows that they had."""
    path = copy(closed.made, place)
    with open_store(settings(path)) as store:
        store.create_pipeline(b"new")
        for info in list(store.list_objects(KEEP)):
            store.delete_object(KEEP, info.key)
        reclaim_all(store)
        kept = [info.key for info in store.list_objects(ScopeName.run("42"))]
    for lost in ("scope", "dentry"):
        ruin(path, *pages_of(path, lost))
        assert repair(settings(path)).lost == []
        with open_store(settings(path), read_only=True) as store:
            assert list(store.list_objects(KEEP)) == []
            assert [info.key for info in store.list_objects(ScopeName.run("42"))] == kept


def test_the_damaged_files_are_kept_whole(killed: Scene, place: Path) -> None:
    path = copy(killed.made, place)
    turn_bit(path.with_name("objects.db-wal"), 32 + 24 + 100)
    ruin(path, *pages_of(path, "session"))
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    kept = clean(mend(killed.truth, path)).kept
    assert kept[0].name.startswith("objects.db.damaged-")
    assert kept[0].read_bytes() == before["objects.db"]
    assert kept[0].with_name(f"{kept[0].name}-wal").read_bytes() == before["objects.db-wal"]
    assert kept[0].stat().st_mode & 0o777 == 0o600


def test_it_is_refused_while_somebody_has_the_store_open(closed: Scene, place: Path) -> None:
    path = copy(closed.made, place)
    program = "with open_store(ObjectStoreSettings(path=sys.argv[1]), read_only=True): wait()"
    with start_process(program, str(path)) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        before = {file.name: file.read_bytes() for file in place.iterdir() if file.name != "objects.db-shm"}
        with pytest.raises(UnavailableError, match=f"process {other.pid}: unmount it first"):
            repair(settings(path))
        assert before == {file.name: file.read_bytes() for file in place.iterdir() if file.name != "objects.db-shm"}
        other.communicate("\n", timeout=60)
    assert repair(settings(path)).lost == []


def test_nobody_can_open_the_store_meanwhile(closed: Scene, place: Path) -> None:
    path = copy(closed.made, place)
    with (
        swapping.alone(path),
        mock.patch("engine.sqlite.connecting.BUSY_TIMEOUT_MS", 50),
        pytest.raises(UnavailableError),
    ):
        open_store(settings(path))


def test_too_little_space(closed: Scene, place: Path) -> None:
    path = copy(closed.made, place)
    ruin(path, 1)
    before = path.read_bytes()
    with mock.patch.object(swapping, "_COPIES", 10**9), pytest.raises(OutOfSpaceError, match="the repair needs"):
        repair(settings(path))
    assert path.read_bytes() == before


def test_what_is_no_store_is_left_alone(place: Path) -> None:
    place.mkdir()
    path = place / "objects.db"
    for content in (os.urandom(100_000), bytes(50_000), b"SQLite format 3\0" + bytes(8000)):
        path.write_bytes(content)
        with pytest.raises(OpenError):
            repair(settings(path))
        assert path.read_bytes() == content
    with pytest.raises(OpenError):
        repair(settings(place / "missing"))
