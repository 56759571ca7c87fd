"""A copy of a store: of one moment, whole, and a store itself."""

import errno
import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from engine import ScopeName, Store, open_store
from engine.backup import backup
from engine.checking import Check
from engine.config import ObjectStoreSettings
from engine.errors import DamagedError, ExistsError, InvalidError, OpenError
from engine.workplaces import Workplace
from tests.support.stores import Stores, directory, new_draft, new_put, node, run_process, values

APP = ScopeName.pipeline("app")
LARGE = os.urandom(5_000_000)


@pytest.fixture
def store(stores: Stores) -> Store:
    store = stores.open()
    store.create_pipeline(APP.name, 0)
    store.put_object(APP, b"small", b"value")
    store.put_object(APP, b"large", LARGE)
    return store


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies/copy.db"


def copy(stores: Stores, target: Path) -> int:
    return backup(ObjectStoreSettings(path=str(stores.path)), target)


def read_copy(target: Path) -> dict[bytes, bytes]:
    settings = ObjectStoreSettings(path=str(target))
    assert list(Check(settings).run()) == []
    with open_store(settings) as opened:
        return values(opened, APP)


def test_a_copy_of_a_store_in_use(store: Store, stores: Stores, target: Path) -> None:
    copied = copy(stores, target)
    store.put_object(APP, b"later", b"")
    assert copied >= len(LARGE)
    assert read_copy(target) == {b"small": b"value", b"large": LARGE}
    assert {path.stat().st_mode & 0o777 for path in target.parent.iterdir()} == {0o600}


def test_what_was_acknowledged_and_not_published(store: Store, stores: Stores, target: Path) -> None:
    """A Put is in the copy from its close() on, also while it is in a journal only."""
    draft = new_draft(store, b"acknowledged")
    store.publisher.prepare(new_put(store, directory(store, APP), b"key"), draft, 1)
    copy(stores, target)
    assert read_copy(target)[b"key"] == b"acknowledged"


def set_times(store: Store, number: int) -> None:
    with store.database.write():
        store.database.rows("UPDATE node SET mtime_ns = ? WHERE name IN (?, ?)", (number, b"small", b"large"))


def test_it_is_of_one_moment(store: Store, stores: Stores, target: Path) -> None:
    """Two keys that always change together are as they were at one moment, whatever is put meanwhile."""
    stop = threading.Event()
    set_times(store, 0)

    def write() -> None:
        with open_store(ObjectStoreSettings(path=str(stores.path))) as writer:
            number = 0
            while not stop.is_set():
                number += 1
                set_times(writer, number)
                writer.put_object(APP, b"changing", LARGE[: 3_500_000 + number], True)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for turn in range(4):
            path = target.with_name(f"copy{turn}.db")
            copy(stores, path)
            settings = ObjectStoreSettings(path=str(path))
            assert list(Check(settings).run()) == []
            with open_store(settings) as opened:
                assert node(opened, APP, b"small").mtime_ns == node(opened, APP, b"large").mtime_ns
                changing = values(opened, APP).get(b"changing", b"")
                assert changing == LARGE[: len(changing)]
    finally:
        stop.set()
        thread.join()


def test_a_copy_that_fails_leaves_nothing(store: Store, stores: Stores, target: Path) -> None:
    with Path(f"{stores.path}-data").open("r+b") as file:
        file.seek(300_000)
        file.write(b"?")
    with pytest.raises(DamagedError):
        copy(stores, target)
    assert list(target.parent.iterdir()) == []


def test_a_copy_takes_no_other_files_place(store: Store, stores: Stores, target: Path) -> None:
    target.write_text("precious")
    with pytest.raises(ExistsError):
        copy(stores, target)
    assert target.read_text() == "precious"


@pytest.mark.parametrize("ending", ["", "-data", "-wal", "-shm", "-journal", "-lock", "-puts-7"])
def test_a_copy_takes_no_name_of_the_stores_own(store: Store, stores: Stores, tmp_path: Path, ending: str) -> None:
    """Whether the store has that file now or may make it later; and whatever way leads there."""
    store.delete_object(APP, b"large")
    (tmp_path / "link").symlink_to(stores.path.parent)
    for place in (stores.path.parent, tmp_path / "link"):
        with pytest.raises(InvalidError, match="store's own files"):
            copy(stores, place / f"{stores.path.name}{ending}")


@pytest.mark.parametrize("left", ["-data", "-wal", "-shm", "-journal", "-puts-7"])
def test_nothing_that_would_be_taken_for_a_part_of_the_copy_is_there(
    store: Store, stores: Stores, target: Path, left: str
) -> None:
    """It may be of another store, or a store itself: it is no part of the copy, and is not deleted either."""
    other = target.with_name(target.name + left)
    other.write_bytes(b"of another store")
    with pytest.raises(ExistsError, match=f"{left} already"):
        copy(stores, target)
    assert list(target.parent.iterdir()) == [other]
    assert other.read_bytes() == b"of another store"


@pytest.mark.parametrize(
    ("name", "target"), [("a-data", "a"), ("a-wal", "a"), ("a-journal", "a"), ("a-puts-3", "a"), ("a.partial", "a")]
)
def test_a_store_whose_name_looks_like_a_part_of_its_copy(tmp_path: Path, name: str, target: str) -> None:
    """The copy is refused or made; the store stays."""
    settings = ObjectStoreSettings(path=str(tmp_path / name))
    with open_store(settings) as store:
        store.create_pipeline(APP.name)
        store.put_object(APP, b"large", LARGE)
    with suppress(ExistsError):
        backup(settings, tmp_path / target)
    assert (tmp_path / target).exists() == (name == "a.partial")
    assert read_copy(tmp_path / name) == {b"large": LARGE}


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("ending", ["", "-data"])
def test_a_file_that_appears_while_it_is_copied(
    store: Store, stores: Stores, target: Path, ending: str, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last moment: it stays, and nothing is left of the copy."""
    other = target.with_name(target.name + ending)
    link = os.link

    def appears(source: Path, path: Path) -> None:
        if path == other:
            other.write_text("precious")
        if not links:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        link(source, path)

    monkeypatch.setattr(os, "link", appears)
    with pytest.raises(ExistsError):
        copy(stores, target)
    assert list(target.parent.iterdir()) == [other]
    assert other.read_text() == "precious"


def test_a_copy_where_there_are_no_links(
    store: Store, stores: Stores, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, path: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    copy(stores, target)
    assert read_copy(target) == {b"small": b"value", b"large": LARGE}


def test_a_copy_that_was_killed(store: Store, stores: Stores, target: Path) -> None:
    """Nothing has the copy's name until it is complete; and the next copy goes well."""
    run_process(
        """
from engine import backup
backup._Copy.put_in_place = lambda copy: die()
backup.backup(ObjectStoreSettings(path=sys.argv[1]), Path(sys.argv[2]))
""",
        str(stores.path),
        str(target),
        expected=-signal.SIGKILL,
    )
    assert not target.exists()
    assert list(target.parent.iterdir())
    copy(stores, target)
    assert read_copy(target)[b"large"] == LARGE
    assert not [path for path in target.parent.iterdir() if "partial" in path.name]


def test_what_looks_like_a_copy_that_was_killed_and_is_not(store: Store, stores: Stores, target: Path) -> None:
    """Nothing is deleted that is not left by a copy for certain: other files, and copies that are being made."""
    theirs = target.with_name("backup.partial-12345678")
    theirs.mkdir()
    (theirs / "copy of a thesis").write_text("precious")
    target.with_name("backup.partial").write_text("precious")
    with closing_workplace(target.parent) as other:
        copy(stores, target)
        assert other.file("").read_text() == "under way"
    assert {path.name for path in theirs.iterdir()} == {"copy of a thesis"}
    assert target.with_name("backup.partial").read_text() == "precious"


@contextmanager
def closing_workplace(beside: Path) -> Iterator[Workplace]:
    place = Workplace(beside)
    place.file("").write_text("under way")
    try:
        yield place
    finally:
        place.remove()


@pytest.mark.parametrize("when", [0, 1], ids=["before it is opened", "before it is held"])
def test_two_that_begin_at_once(target: Path, monkeypatch: pytest.MonkeyPatch, when: int) -> None:
    """The place of one, not held yet, looks to the other like one that was left."""
    made, opened = [], os.open

    def removed_meanwhile(path: Path, *arguments: int, **options: int) -> int:
        made.append(path)
        if len(made) > 1:
            return opened(path, *arguments, **options)
        fd = opened(path, *arguments, **options) if when else -1
        path.rmdir()
        return fd if when else opened(path, *arguments, **options)

    monkeypatch.setattr("engine.workplaces.os.open", removed_meanwhile)
    place = Workplace(target.parent)
    assert len(made) == 2
    place.file("").touch()
    place.remove()
    assert list(target.parent.glob("backup*")) == []


def test_one_that_begins_while_another_looks(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks whether a place was left holds it for that time. It may be of another user, and then stay."""
    looking, opened = [], os.open

    def looked_at_meanwhile(path: Path, *arguments: int, **options: int) -> int:
        fd = opened(path, *arguments, **options)
        if not looking:
            looking.append(opened(path, *arguments, **options))
            fcntl.flock(looking[0], fcntl.LOCK_EX)
        return fd

    monkeypatch.setattr("engine.workplaces.os.open", looked_at_meanwhile)
    with closing_workplace(target.parent) as place:
        os.close(looking[0])
        assert len(list(target.parent.glob("backup*"))) == 1
        Workplace(target.parent).remove()
        assert place.file("").read_text() == "under way"
    assert list(target.parent.glob("backup*")) == []


def test_what_cannot_be_copied(stores: Stores, target: Path) -> None:
    with pytest.raises(OpenError):
        copy(stores, target)
    with pytest.raises(InvalidError):
        backup(ObjectStoreSettings(path=str(stores.path), engine="memory"), target)
