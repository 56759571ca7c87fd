"""A Put of a killed process whose own value cannot be read: it waits for the repair, and nothing else does."""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from engine import ScopeName, Store, withheld
from engine.checking import Check
from engine.compacting import compact
from engine.config import ObjectStoreSettings
from engine.contents import Contents
from engine.errors import DamagedError, InternalError, OutOfSpaceError, StoreError, UnavailableError
from engine.recovering import Recovery
from engine.repairing import repair
from tests.support.acknowledging import OPEN, after_death, journals
from tests.support.invariants import check_nothing_left
from tests.support.stores import Stores, forget_displaced, reclaim_all, run_process, value, values
from tests.support.waiting import wait_until

APP = ScopeName.pipeline("app")
APPEND = """
def append(name, content, number):
    put, draft = new_put(store, top, name, How.APPEND), new_draft(store, content)
    store.publisher.prepare(put, draft, number)
    return put
"""
DAMAGED = """
with store.database.write():
    store.database.rows("UPDATE chunk SET data = CAST(substr(data, 1, 20) || x'00' || substr(data, 22) AS BLOB)")
"""
LOST = """
with store.database.write():
    store.database.rows("DELETE FROM extent WHERE content = ?", (put.content,))
    store.database.rows("DELETE FROM content WHERE number = ?", (put.content,))
"""
OTHERS = """
store.delete_object(app, b"deleted")
for number in range(3):
    close(b"good %d" % number, b"good", 10 + number)
close(b"log", b"put later", 20)
"""

Leave = Callable[[str], None]


@pytest.fixture
def leave(stores: Stores) -> Leave:
    """Have a process acknowledge an append to `log`, do something to its value, acknowledge others, and die."""

    def leave(damage: str, others: str = OTHERS) -> None:
        store = stores.open()
        store.create_pipeline(APP.name)
        store.put_object(APP, b"log", b"old")
        store.put_object(APP, b"deleted", b"x" * 5000)
        stores.close(store)
        program = OPEN + APPEND + 'put = append(b"log", b"v" * 100_000, 1)\n' + damage + others + "\ndie()"
        run_process(program, str(stores.path), expected=-9)

    return leave


def waiting_to_be_deleted(store: Store) -> int:
    reclaim_all(store)
    return int(store.database.value("SELECT count(*) FROM change"))


@pytest.mark.parametrize("damage", [DAMAGED, LOST], ids=["damaged", "lost"])
def test_the_others_are_published_and_nothing_is_held_up(stores: Stores, leave: Leave, damage: str) -> None:
    leave(damage)
    store = stores.open()
    assert values(store, APP) == {b"log": b"old", **{b"good %d" % number: b"good" for number in range(3)}}
    (told,) = store.database.troubles.news()
    assert "what was put to pipeline/app/log cannot be published yet" in told
    assert journals(stores) == []
    store.put_object(APP, b"new", b"x" * 70_000)
    store.delete_object(APP, b"new")
    forget_displaced(store)
    assert waiting_to_be_deleted(store) == 0
    store = stores.reopen(store)
    assert value(store, APP, b"log") == b"old"
    forget_what_is_wrong(stores, store)


def forget_what_is_wrong(stores: Stores, store: Store) -> None:
    """What the fixture would find at the end, which is damage."""
    stores.close(store)
    repair(ObjectStoreSettings(path=str(stores.path)))


@pytest.mark.parametrize("damage", [DAMAGED, LOST], ids=["damaged", "lost"])
def test_a_repair_gives_it_up_and_publishes_the_rest(stores: Stores, leave: Leave, damage: str) -> None:
    leave(damage)
    settings = ObjectStoreSettings(path=str(stores.path))
    assert b"pipeline/app/log" in [finding.path for finding in Check(settings).run()]
    repaired = repair(settings)
    assert [(lost.path, lost.size) for lost in repaired.lost] == [(b"pipeline/app/log", 100_000)]
    assert not any("cannot be published" in note for note in repaired.notes)
    assert list(Check(settings).run()) == []
    store = stores.open()
    assert store.database.troubles.news() == []
    assert value(store, APP, b"log") == b"put later"
    check_nothing_left(store)


def test_a_compaction_says_what_is_in_its_way(stores: Stores, leave: Leave) -> None:
    leave(DAMAGED)
    settings = ObjectStoreSettings(path=str(stores.path))
    with pytest.raises(UnavailableError, match="check --repair"):
        compact(settings)
    repair(settings)
    compact(settings)


def test_an_append_to_a_value_behind_what_waits(stores: Stores, leave: Leave) -> None:
    """Those of one name stay in their order, over every attempt."""
    leave(DAMAGED, 'append(b"log", b", more", 2)\nclose(b"other", b"1", 3)\nappend(b"other", b"2", 4)\n')
    for _ in range(3):
        store = stores.open()
        assert values(store, APP)[b"log"] == b"old"
        assert values(store, APP)[b"other"] == b"12"
        stores.close(store)
    repair(ObjectStoreSettings(path=str(stores.path)))
    assert value(stores.open(), APP, b"log") == b"old, more"


def test_a_session_whose_journal_cannot_be_read_keeps_nobody_out(stores: Stores) -> None:
    """By the disk, as far as anybody can tell: it stays for another time."""
    store = stores.open()
    store.create_pipeline(APP.name)
    store = after_death(store, stores, 'close(b"key", b"value")')
    assert value(store, APP, b"key") == b"value"
    stores.close(store)
    run_process(OPEN + 'close(b"key", b"new")\ndie()', str(stores.path), expected=-9)
    (journal,) = journals(stores)
    content = journal.read_bytes()
    journal.unlink()
    journal.mkdir()
    store = stores.open()
    (told,) = store.database.troubles.news()
    assert "cannot be published yet" in told
    assert value(store, APP, b"key") == b"value"
    store.delete_object(APP, b"key")
    journal.rmdir()
    journal.write_bytes(content)
    wait_until(lambda: bool(store.publisher.recover().nodes))
    assert value(store, APP, b"key") == b"new"
    check_nothing_left(store)


@pytest.mark.parametrize("error", [None, DamagedError, OutOfSpaceError], ids=["a value", "a session", "a full disk"])
def test_what_waits_is_tried_ever_less_often(
    stores: Stores, leave: Leave, monkeypatch: pytest.MonkeyPatch, error: type[StoreError] | None
) -> None:
    """A mount looks twice a second; each attempt takes the lock of the store, and reads all that was left."""
    leave("" if error else DAMAGED)
    clock, attempts = [1000.0], []
    recover = Recovery._recover_session

    def fail(recovery: Recovery, session: int) -> bool:
        attempts.append(clock[0])
        if error:
            raise error("a page is damaged, or there is no room for one")
        return recover(recovery, session)

    with monkeypatch.context() as patch:
        patch.setattr(withheld.time, "monotonic", lambda: clock[0])
        patch.setattr(Recovery, "_recover_session", fail)
        store = stores.open()
        for _ in range(2 * 600):
            with suppress(OutOfSpaceError):
                store.publisher.recover()
            clock[0] += 0.5
        assert len(attempts) < 20
        assert attempts[:2] == [1000, 1000]
        assert max(after - before for before, after in pairwise(attempts)) <= 60
    forget_what_is_wrong(stores, store)


def test_an_append_to_a_value_that_cannot_be_read_now(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not lost: the next one may read it."""
    store = stores.open()
    store.create_pipeline(APP.name)
    store.put_object(APP, b"log", b"old")
    stores.close(store)
    program = OPEN + APPEND + 'append(b"log", b", more", 1)\nclose(b"other", b"value", 2)\ndie()'
    run_process(program, str(stores.path), expected=-9)

    def fail(contents: Contents, content: int, offset: int, length: int) -> bytes:
        raise InternalError("the disk failed") from OSError()

    with monkeypatch.context() as patch:
        patch.setattr(Contents, "read", fail)
        store = stores.open()
    assert values(store, APP) == {b"log": b"old", b"other": b"value"}
    (told,) = store.database.troubles.news()
    assert "cannot be published yet" in told
    store.publisher.recover()
    assert value(store, APP, b"log") == b"old, more"
    check_nothing_left(store)


def leave_damaged_journal(stores: Stores) -> bytes:
    store = stores.open()
    store.create_pipeline(APP.name)
    stores.close(store)
    program = OPEN + 'for number in range(5):\n    close(b"key %d" % number, b"value" * 100, number)\ndie()'
    run_process(program, str(stores.path), expected=-9)
    (journal,) = journals(stores)
    damaged = bytearray(journal.read_bytes())
    damaged[300:340] = b"\xff" * 40
    journal.write_bytes(damaged)
    return bytes(damaged)


def refuse_links(source: Path, target: Path) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def kept_beside(stores: Stores) -> list[Path]:
    return list(stores.path.parent.glob("*-puts-*.damaged-*"))


def test_a_damaged_journal_is_kept_where_there_are_no_links(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = leave_damaged_journal(stores)
    monkeypatch.setattr(os, "link", refuse_links)
    store = stores.open()
    (kept,) = kept_beside(stores)
    (told,) = store.database.troubles.news()
    assert f"It was kept as {kept}" in told
    assert kept.read_bytes() == damaged
    assert kept.stat().st_mode & 0o777 == 0o600
    assert journals(stores) == [kept]
    assert len(values(store, APP)) == 4


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_damaged_journal_that_cannot_be_kept_stays(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """It is the only one, so nothing is deleted, nor published: the next time it may be kept."""
    damaged = leave_damaged_journal(stores)

    def fail(source: Path, target: Path) -> None:
        target.write_bytes(damaged[:100])
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse_links)
        patch.setattr(shutil, "copyfile", fail)
        store = stores.open()
        (told,) = store.database.troubles.news()
        assert "cannot be kept" in told
        (journal,) = journals(stores)
        assert journal.read_bytes() == damaged
        assert values(store, APP) == {}
        store = stores.reopen(store)
        assert journals(stores) == [journal]
    store = stores.reopen(store)
    assert [kept.read_bytes() for kept in kept_beside(stores)] == [damaged]
    assert len(values(store, APP)) == 4
