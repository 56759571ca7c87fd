"""An append of a killed process to a value that is damaged: joined where that needs no reading, else it waits."""

import os
from pathlib import Path

import pytest

from engine import Store
from engine.checking import Check
from engine.config import ObjectStoreSettings
from engine.errors import DamagedError
from engine.repairing import repair
from tests.support.acknowledging import APP, OPEN
from tests.support.invariants import check_nothing_left
from tests.support.stores import Stores, keys, node, run_process, value, values

APPENDS = f"""
{OPEN}
for number, line in enumerate((b"1", b"2")):
    put, draft = new_put(store, top, b"log", How.APPEND), new_draft(store, line)
    store.publisher.prepare(put, draft, number)
close(b"other", b"value", 9)
"""
LOST = """
content = store.find_object(app, b"log").content
with store.database.write():
    for table, column in (("extent", "content"), ("content", "number")):
        store.database.rows(f"DELETE FROM {table} WHERE {column} = ?", (content,))
"""
MISSING = """
content = store.find_object(app, b"log").content
with store.database.write():
    store.database.rows("DELETE FROM extent WHERE content = ? AND position = 0", (content,))
"""
CHUNK = 256 * 1024
SMALL, IN_ROWS, IN_SLOTS = 5000, 2 * CHUNK + 5000, 16 * CHUNK + 5000

sizes = pytest.mark.parametrize("size", [SMALL, IN_ROWS, IN_SLOTS])


def put_log(store: Store, stores: Stores, size: int) -> bytes:
    old = os.urandom(size)
    store.put_object(APP, b"log", old)
    stores.close(store)
    return old


def after_appends(stores: Stores, more: str = "") -> Store:
    run_process(f"{APPENDS}{more}\ndie()", str(stores.path), expected=-9)
    return stores.open()


def flip(stores: Stores, part: bytes) -> None:
    """Damage what is before this part of a value, in whichever file has it; or mend it again."""
    for path in (stores.path, stores.path.with_name(f"{stores.path.name}-data")):
        content = path.read_bytes()
        if (at := content.find(part)) >= 0:
            write(path, at - 1, bytes([content[at - 1] ^ 0xFF]))
            return
    raise AssertionError("it is in no file")


def write(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def set_end(stores: Stores, end: bytes) -> None:
    """Let the end of the value, or all of a small one, be other bytes than its hash is of; or the same again."""
    store = stores.open()
    content = node(store, APP, b"log").content
    last = "SELECT chunk FROM extent WHERE content = ? ORDER BY position DESC LIMIT 1"
    with store.database.write():
        store.database.rows("UPDATE content SET data = ? WHERE number = ? AND data IS NOT NULL", (end, content))
        store.database.rows(f"UPDATE chunk SET data = ? WHERE id = ({last})", (end, content))
    stores.close(store)


def end_of(old: bytes, *, damaged: bool) -> bytes:
    end = old[-(len(old) % CHUNK) :]
    return end[:-2000] + bytes([end[-2000] ^ damaged]) + end[-1999:]


@pytest.mark.parametrize("size", [IN_ROWS, IN_SLOTS])
def test_what_a_join_does_not_read_may_be_damaged(store: Store, stores: Stores, size: int) -> None:
    old = put_log(store, stores, size)
    flip(stores, old[50_000:50_100])
    store = after_appends(stores)
    assert store.database.troubles.news() == []
    found = node(store, APP, b"log")
    assert store.contents.read(found.content, CHUNK, found.size) == old[CHUNK:] + b"12"
    stores.close(store)
    flip(stores, old[50_000:50_100])
    assert value(stores.open(), APP, b"log") == old + b"12"


@sizes
def test_it_waits_until_it_can_be_joined(store: Store, stores: Stores, size: int) -> None:
    """And holds up nothing else."""
    old = put_log(store, stores, size)
    set_end(stores, end_of(old, damaged=True))
    store = after_appends(stores)
    (told,) = store.database.troubles.news()
    assert "what was put to pipeline/app/log cannot be published yet" in told
    assert node(store, APP, b"log").size == size
    assert value(store, APP, b"other") == b"value"
    stores.close(store)
    set_end(stores, end_of(old, damaged=False))
    store = stores.open()
    assert value(store, APP, b"log") == old + b"12"
    check_nothing_left(store)


@pytest.mark.parametrize("size", [IN_ROWS, IN_SLOTS])
def test_what_is_missing_does_not_become_a_hole(store: Store, stores: Stores, size: int) -> None:
    put_log(store, stores, size)
    store = after_appends(stores, MISSING)
    (told,) = store.database.troubles.news()
    assert "what was put to pipeline/app/log cannot be published yet" in told
    with pytest.raises(DamagedError):
        value(store, APP, b"log")
    stores.close(store)
    repair(ObjectStoreSettings(path=str(stores.path)))
    assert values(stores.open(), APP) == {b"log": b"12", b"other": b"value"}


@pytest.mark.parametrize("what", ["page", "value", "lost"])
@sizes
def test_a_repair_publishes_it_without_what_was_damaged(store: Store, stores: Stores, size: int, what: str) -> None:
    """Where a page is damaged, all that its session has left waits for that."""
    old = put_log(store, stores, size)
    if what == "page":
        flip(stores, old[-200:-100])
    elif what == "value":
        set_end(stores, end_of(old, damaged=True))
    store = after_appends(stores, LOST if what == "lost" else "")
    (told,) = store.database.troubles.news()
    assert "cannot be published yet" in told
    assert node(store, APP, b"log").size == size
    assert keys(store, APP) == ([b"log"] if what == "page" else [b"log", b"other"])
    stores.close(store)
    settings = ObjectStoreSettings(path=str(stores.path))
    repaired = repair(settings)
    assert [(lost.path, lost.size) for lost in repaired.lost] == [(b"pipeline/app/log", size)]
    assert not any("cannot be published" in note for note in repaired.notes)
    assert list(Check(settings).run()) == []
    store = stores.open()
    assert store.database.troubles.news() == []
    assert values(store, APP) == {b"log": b"12", b"other": b"value"}
    assert store.sessions.dead() == []
    check_nothing_left(store)
