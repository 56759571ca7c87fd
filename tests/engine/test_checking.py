"""What the disk returns is compared with what was stored, and a check names what is damaged."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import ScopeName, Store, open_store
from engine.checking import Check
from engine.config import ObjectStoreSettings
from engine.errors import DamagedError, OpenError, StoreError
from engine.repairing import repair
from tests.support.stores import Stores, directory, new_draft, new_put, values
from tests.support.stores import value as read

APP = ScopeName.pipeline("app")
VALUES = {
    b"empty": b"",
    b"small": b"a small value, to be found",
    b"row": b"R" * 60_000,
    b"twin": b"T" * 60_000,
    b"chunks": b"C" * 600_000,
    b"slots": os.urandom(4_000_000),
}
PAGE = 4096


@pytest.fixture
def closed(stores: Stores) -> Stores:
    """A store with a value of every form, closed: all of it is in its files."""
    store = stores.open()
    store.create_pipeline(APP.name)
    for key, value in VALUES.items():
        store.put_object(APP, key, value)
    stores.close(store)
    return stores


def findings(stores: Stores) -> list[tuple[str, bytes | None]]:
    return [tuple(found) for found in Check(ObjectStoreSettings(path=str(stores.path))).run()]


def damage(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def places(path: Path, value: bytes) -> Iterator[int]:
    """Where some of a value is in a file."""
    content, at = path.read_bytes(), -1
    while (at := content.find(value, at + 1)) >= 0:
        yield at


def where(stores: Stores, key: bytes) -> tuple[Path, int]:
    """A file that has a part of a value, and where: in the middle, where no other value is on the same page."""
    path = stores.path.with_name("objects.db-data") if key == b"slots" else stores.path
    found = list(places(path, VALUES[key][:20]))
    return path, found[len(found) // 2]


def leave(stores: Stores, store: Store) -> None:
    """Close a store that is damaged on purpose, without looking whether it is whole."""
    stores._open.remove(store)
    store.close()


def test_a_whole_store(closed: Stores) -> None:
    check = Check(ObjectStoreSettings(path=str(closed.path)))
    assert list(check.run()) == []
    assert (check.objects, check.bytes) == (len(VALUES), sum(map(len, VALUES.values())))
    assert (check.unchecked, check.pages_have_checksums) == (0, True)


@pytest.mark.parametrize("key", [key for key in VALUES if VALUES[key]])
def test_a_flipped_bit_in_a_value(closed: Stores, key: bytes) -> None:
    """It is never returned, the check names the object, and everything else can be read."""
    damage(*where(closed, key))
    with open_store(ObjectStoreSettings(path=str(closed.path)), read_only=True) as store:
        with pytest.raises(DamagedError):
            read(store, APP, key)
        if key != b"small":  # it shares its page with what the others begin with
            assert {other: read(store, APP, other) for other in VALUES if other != key} == {
                other: value for other, value in VALUES.items() if other != key
            }
    assert b"pipeline/app/" + key in [path for _, path in findings(closed)]


def test_values_that_changed_places(closed: Stores) -> None:
    """Each page is whole, but not the one that was asked for. Checksums of pages do not see that."""
    content = closed.path.read_bytes()
    pages = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
    # The first that has nothing else: both values go on with the end of the other, and have the right length.
    one, two = (next(n for n, page in enumerate(pages) if letter * (PAGE - 12) in page) for letter in (b"R", b"T"))
    pages[one], pages[two] = pages[two], pages[one]
    closed.path.write_bytes(b"".join(pages))
    assert {path for _, path in findings(closed)} == {b"pipeline/app/row", b"pipeline/app/twin"}


def test_a_lost_extent_is_no_hole(closed: Stores) -> None:
    store = closed.open()
    store.database.rows("DELETE FROM extent WHERE position = 1 AND chunk > 0")
    with pytest.raises(DamagedError):
        read(store, APP, b"chunks")
    leave(closed, store)
    assert (b"pipeline/app/chunks") in [path for _, path in findings(closed)]


def test_a_hole_is_no_damage(closed: Stores) -> None:
    store = closed.open()
    draft = store.contents.numbers.take()
    large = store.engine.values.large_draft(draft, 0)  # type: ignore[attr-defined]
    large.truncate(1_000_000)
    large.write(900_000, b"end")
    large.store(large.take())
    with store.database.write():
        large.seal()
    assert store.engine.get_object(store.contents.key(draft)) == bytes(900_000) + b"end" + bytes(99_997)
    store.database.rows("DELETE FROM extent WHERE content = ?", (draft,))
    store.database.rows("DELETE FROM content WHERE number = ?", (draft,))
    store.database.rows("DELETE FROM chunk WHERE id NOT IN (SELECT chunk FROM extent)")


def test_holes_of_many_exbibytes(closed: Stores) -> None:
    """What is not stored is not read, by a repair neither; together they have more bytes than SQLite can count."""
    store = closed.open()
    for name in (b"one", b"two", b"three"):
        store.create_pipeline(name)
        draft = new_draft(store, b"begins like this")
        draft.truncate(7 << 60)
        put = new_put(store, directory(store, ScopeName.pipeline(name), b""), b"hole")
        store.publisher.publish(put, draft)
    closed.close(store)
    check = Check(ObjectStoreSettings(path=str(closed.path)))
    assert list(check.run()) == []
    assert check.bytes < 6_000_000
    damage(closed.path, closed.path.read_bytes().index(VALUES[b"small"]))  # the page with it, and so the database
    repaired = repair(ObjectStoreSettings(path=str(closed.path)))
    assert repaired.kept
    assert findings(closed) == []


def test_an_edit_of_a_damaged_value_does_not_make_it_whole(closed: Stores) -> None:
    """What was damaged stays so, instead of getting the hash of the damage."""
    path, offset = where(closed, b"slots")
    damage(path, offset)
    store = closed.open()
    slots = store.find_object(APP, b"slots")
    draft = store.engine.values.large_draft(10**9, slots.content)  # type: ignore[attr-defined]
    with pytest.raises(DamagedError):
        draft.write(10, b"edited")
    leave(closed, store)


def test_a_contradiction_in_the_catalog(closed: Stores) -> None:
    store = closed.open()
    store.database.rows("UPDATE scope SET objects = objects + 1")
    leave(closed, store)
    assert findings(closed) == [("a pipeline or run that counts its objects wrong: app, 7, 6", None)]


def test_a_value_that_is_lost(closed: Stores) -> None:
    store = closed.open()
    store.database.rows("DELETE FROM content WHERE size = ?", (len(VALUES[b"small"]),))
    leave(closed, store)
    assert ("the value is lost", b"pipeline/app/small") in findings(closed)


def test_a_header_without_checksums(closed: Stores) -> None:
    """A flipped bit that would switch the checksums off."""
    damage(closed.path, 20)
    with pytest.raises(StoreError):
        closed.open(read_only=True)
    with pytest.raises(StoreError):
        closed.open()
    assert findings(closed)


def test_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    for name in ("text", "missing"):
        with pytest.raises(OpenError):
            list(Check(ObjectStoreSettings(path=str(tmp_path / name))).run())


def test_a_check_beside_a_writer(closed: Stores) -> None:
    store = closed.open()
    check = Check(ObjectStoreSettings(path=str(closed.path))).run()
    store.put_object(APP, b"new", b"new" * 100)
    assert next(check, None) is None
    assert values(store, APP)[b"small"] == VALUES[b"small"]
