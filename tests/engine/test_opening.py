"""Opening a store: what is made where there is none, what is refused, and that a refusal changes nothing."""

import gc
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

from engine import ScopeName, Store, open_store
from engine.config import ObjectStoreSettings
from engine.errors import InvalidError, OpenError, OutOfSpaceError, ReadOnlyError, StoreError
from engine.model import NO_EFFECTS, PIPELINES_INO
from engine.registry import BUILT_IN
from engine.sqlite import migrations
from engine.sqlite.database import Database
from engine.sqlite.writing import Operation
from tests.support.disks import small_disk
from tests.support.stores import ROOT, Stores, keys, new_draft, new_put, run_process, value, values
from tests.support.third_party.fusefs_dirstore import DirectoryEngine

APP = ScopeName.pipeline("app")


def refused(path: Path, *, read_only: bool = False, create: bool = True, engine: str = "sqlite") -> str:
    """Open what cannot be opened, and return the message. Nothing may have changed in its directory."""
    before = content_of(path.parent)
    with pytest.raises(OpenError) as error:
        open_store(ObjectStoreSettings(path=str(path), engine=engine), read_only=read_only, create=create)
    assert content_of(path.parent) == before
    message = str(error.value)
    assert "\n" not in message
    return message


def content_of(directory: Path) -> dict[str, bytes | None]:
    """Every file with its bytes, but for the two that SQLite makes to read a database in WAL mode."""
    if not directory.is_dir():
        return {}
    content = {str(path): path.read_bytes() if path.is_file() else None for path in sorted(directory.rglob("*"))}
    return {
        path: data
        for path, data in content.items()
        if not path.endswith("-shm") and not (path.endswith("-wal") and data == b"")
    }


# Making


def test_a_missing_store_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "objects.db"
    open_store(ObjectStoreSettings(path=str(path))).close()
    with open_store(ObjectStoreSettings(path=str(path)), create=False) as store:
        assert store.list_pipelines() == []


def test_a_new_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = tmp_path / "state" / "objects.db"
        with open_store(ObjectStoreSettings(path=str(path))) as store:
            store.create_pipeline(b"app")
            store.sessions.ensure()
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("objects.db", "objects.db-wal", "objects.db-shm", "objects.db-lock"), 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_missing_store_is_not_made_unasked(tmp_path: Path) -> None:
    for read_only, create in ((False, False), (True, True), (True, False)):
        message = refused(tmp_path / "a" / "objects.db", read_only=read_only, create=create)
        assert "no store" in message
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_becomes_a_store(stores: Stores) -> None:
    """As mktemp makes one."""
    stores.path.touch()
    refused(stores.path, read_only=True)
    assert stores.open().list_pipelines() == []


def test_two_processes_that_make_one_store_at_once(stores: Stores) -> None:
    program = "store = open_store(ObjectStoreSettings(path=sys.argv[1])); store.create_pipeline(sys.argv[2].encode())"
    command = [sys.executable, "-c", f"import sys; from tests.support.stores import *; {program}; store.close()"]
    makers = [
        subprocess.Popen([*command, str(stores.path), name], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for name in "abcd"
    ]
    for maker in makers:
        assert maker.communicate(timeout=60)[1] == ""
        assert maker.returncode == 0
    assert [info.name for info in stores.open().list_pipelines()] == [b"a", b"b", b"c", b"d"]


def test_the_data_file_of_who_made_the_store_first_stays(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that of a store that was deleted goes."""
    content = os.urandom(6_000_000)
    (tmp_path / "value").write_bytes(content)
    program = """
store = open_store(ObjectStoreSettings(path=sys.argv[1]))
store.create_pipeline(b"app")
store.put_object(ScopeName.pipeline("app"), b"key", Path(sys.argv[2]).read_bytes())
store.close()
"""
    make = os.mknod

    def make_and_wait(path: Path, mode: int) -> None:
        monkeypatch.undo()
        make(path, mode)
        run_process(program, str(stores.path), str(tmp_path / "value"))

    monkeypatch.setattr(os, "mknod", make_and_wait)  # the empty file
    store = stores.open()
    assert value(store, APP, b"key") == content


def test_the_memory_engine_needs_no_file(stores: Stores, tmp_path: Path) -> None:
    store = stores.open(engine="memory")
    store.create_pipeline(b"app")
    assert list(tmp_path.iterdir()) == []
    assert stores.open(engine="memory").list_pipelines() == []


# Refusing


def test_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    for read_only in (False, True):
        assert "is a directory" in refused(tmp_path / "directory", read_only=read_only)


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    refused(tmp_path / "file" / "objects.db")


@pytest.mark.parametrize(
    "content",
    [b"x", b"not a store\n" * 1000, b"SQLite format 2\0" * 10, b"SQLite format 3\0", b"SQLite format 3\0" * 500],
    ids=["short", "text", "old-magic", "magic-only", "garbage"],
)
def test_what_is_no_store_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "objects.db"
    path.write_bytes(content)
    for read_only in (False, True):
        refused(path, read_only=read_only)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OpenError, match="not a regular file"):
        open_store(ObjectStoreSettings(path=str(tmp_path / "fifo")))


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_somebody_elses_database_is_refused_and_left_as_it_was(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "theirs.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE theirs (value)")
    connection.commit()
    connection.close()
    for read_only in (False, True):
        assert "not a fusefs store" in refused(path, read_only=read_only)
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == (mode,)


def with_pragmas(stores: Stores, **pragmas: int) -> None:
    stores.close(stores.open())
    connection = apsw.Connection(str(stores.path))
    for name, number in pragmas.items():
        connection.execute(f"PRAGMA {name} = {number}")
    connection.close()


@pytest.mark.parametrize("version", [migrations.VERSION + 1, 2**31 - 1])
def test_a_newer_store_is_refused(stores: Stores, version: int) -> None:
    with_pragmas(stores, user_version=version)
    for read_only in (False, True):
        message = refused(stores.path, read_only=read_only)
        assert "newer fusefs" in message
        assert str(version) in message


@pytest.mark.parametrize("pragmas", [{"application_id": 0}, {"application_id": 7}, {"user_version": 0}], ids=str)
def test_a_store_that_lost_its_marks_is_refused(stores: Stores, pragmas: dict[str, int]) -> None:
    with_pragmas(stores, **pragmas)
    for read_only in (False, True):
        refused(stores.path, read_only=read_only)


def test_a_disk_without_room_is_named_as_such() -> None:
    """SQLite maps a file beside the store, and has no error of its own for one that cannot be made longer."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a tmpfs")
    with small_disk(1) as disk:
        settings = ObjectStoreSettings(path=str(disk / "objects.db"))
        open_store(settings).close()
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        with pytest.raises(OutOfSpaceError, match="No space left on device"):
            open_store(settings)
        (disk / "filler").unlink()
        open_store(settings).close()


def test_a_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(OpenError, match="cannot make a store at /proc/fusefs"):
        open_store(ObjectStoreSettings(path="/proc/fusefs-test/objects.db"))


def test_a_file_that_cannot_be_written_is_refused(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everywhere, so the answer to the question whether it may is made up."""
    stores.close(stores.open())
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))
    assert "not writable" in refused(stores.path)


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="unknown engine 'nosuch'"):
        open_store(ObjectStoreSettings(path=str(tmp_path / "objects.db"), engine="nosuch"))
    assert list(tmp_path.iterdir()) == []


def test_a_store_stays_with_its_engine(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILT_IN, "dirstore", DirectoryEngine)
    options = {"location": str(tmp_path / "values")}
    stores.close(stores.open())
    with pytest.raises(OpenError, match="'sqlite', not in 'dirstore'"):
        open_store(ObjectStoreSettings(path=str(stores.path), engine="dirstore", options=options))
    other = str(tmp_path / "other.db")
    stores.close(stores.open(path=other, engine="dirstore", options=options))
    with pytest.raises(OpenError, match="'dirstore', not in 'sqlite'"):
        open_store(ObjectStoreSettings(path=other))


def test_an_engine_that_cannot_be_opened_leaves_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        open_store(ObjectStoreSettings(path=str(tmp_path / "objects.db"), engine="memory", options={"a": "b"}))
    assert list(tmp_path.iterdir()) == []


# Reading only


def test_a_read_only_store_refuses_every_change(stores: Stores) -> None:
    store = stores.open()
    store.create_pipeline(APP.name)
    store.put_object(APP, b"key", b"value")
    store.start_run(b"42")
    stores.close(store)
    before = stores.path.read_bytes()
    store = stores.open(read_only=True, pipeline_object_limit=1)
    for attempt in (
        lambda: store.create_pipeline(b"other"),
        lambda: store.delete_pipeline(APP.name, force=True),
        lambda: store.set_limit(APP.name, 1),
        lambda: store.start_run(b"43"),
        lambda: store.finish_run(b"42"),
        lambda: store.put_object(APP, b"key", b"new", force=True),
        lambda: store.put_object(APP, b"new", b"x" * 10**5),
        lambda: store.delete_object(APP, b"key"),
        lambda: store.tree.make_directory(PIPELINES_INO, b"other", 0o755, 0, 0),
        lambda: store.publisher.publish(new_put(store, 16, b"new"), new_draft(store, b"")),
    ):
        with pytest.raises(ReadOnlyError):
            attempt()
    assert values(store, APP) == {b"key": b"value"}
    assert store.list_pipelines()[0].effective_limit == 50
    stores.close(store)
    assert stores.path.read_bytes() == before


def test_a_reader_sees_what_a_writer_commits(stores: Stores) -> None:
    writer = stores.open()
    reader = stores.open(read_only=True)
    writer.create_pipeline(APP.name)
    writer.put_object(APP, b"key", b"value" * 10**5)
    assert keys(reader, APP) == [b"key"]
    reading = reader.read_object(APP, b"key")
    writer.delete_object(APP, b"key")
    while writer.upkeep.reclaim():
        pass
    assert b"".join(reading) == b"value" * 10**5
    assert keys(reader, APP) == []


def test_a_read_only_store_can_be_read_whatever_its_engine(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUILT_IN, "dirstore", DirectoryEngine)
    options = {"location": str(tmp_path / "values")}
    store = stores.open(engine="dirstore", options=options)
    store.create_pipeline(APP.name)
    store.put_object(APP, b"key", b"value")
    stores.close(store)
    store = stores.open(engine="dirstore", options=options, read_only=True)
    assert value(store, APP, b"key") == b"value"


# Limits


def limits(store: Store) -> tuple[int, int, int]:
    row = store.database.row("SELECT object_limit, run_expiry, max_object_size FROM store")
    assert row is not None
    return row[0], row[1], row[2]


def test_limits_have_their_defaults(stores: Stores) -> None:
    assert limits(stores.open()) == (50, 50, 0)


def test_limits_told_are_kept(stores: Stores) -> None:
    store = stores.open(pipeline_object_limit=7, run_object_expiry=8, max_object_size=9)
    assert limits(store) == (7, 8, 9)
    assert store.max_object_size == 9
    store = stores.reopen(store)
    assert limits(store) == (7, 8, 9)
    store = stores.reopen(store, run_object_expiry=0)
    assert limits(store) == (7, 0, 9)
    store = stores.reopen(store, pipeline_object_limit=0, max_object_size=0)
    assert limits(stores.reopen(store)) == (0, 0, 0)


def test_limits_told_hold_for_everybody_at_once(stores: Stores) -> None:
    one = stores.open()
    one.create_pipeline(APP.name)
    stores.open(pipeline_object_limit=1, max_object_size=3)
    one.put_object(APP, b"a", b"123")
    assert [gone.name for gone in one.put_object(APP, b"b", b"123").evicted] == [b"a"]
    with pytest.raises(StoreError):
        one.put_object(APP, b"c", b"1234")


# Closing


def test_limits_that_two_processes_are_told_at_once(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sets those that it was told, and keeps what the other has set just before."""
    stores.close(stores.open())
    write = Database.write

    def after_another(database: Database, *, alone: bool = True) -> Operation:
        monkeypatch.undo()
        stores.close(stores.open(max_object_size=9))
        return write(database, alone=alone)

    monkeypatch.setattr(Database, "write", after_another)
    assert limits(stores.open(pipeline_object_limit=7)) == (7, 50, 9)


@pytest.mark.parametrize("read_only", [False, True])
def test_what_opening_a_store_evicts_is_told(stores: Stores, read_only: bool) -> None:
    """By a lower limit, and by what a dead process had acknowledged."""
    store = stores.open()
    store.create_pipeline(APP.name)
    for key in (b"1", b"2"):
        store.put_object(APP, key, b"value")
    assert store.opening_effects == [NO_EFFECTS]
    stores.close(store)
    program = """
store = open_store(ObjectStoreSettings(path=sys.argv[1]))
top = directory(store, ScopeName.pipeline("app"))
store.publisher.prepare(new_put(store, top, b"3"), new_draft(store, b"value"), 1)
die()
"""
    run_process(program, str(stores.path), expected=-9)
    store = stores.open(pipeline_object_limit=1, read_only=read_only)
    assert keys(store, APP) == [b"3"]
    evicted = [gone.path for effects in store.opening_effects for gone in effects.evicted]
    assert evicted == [b"pipeline/app/1", b"pipeline/app/2"]


def test_a_closed_store_leaves_one_file(stores: Stores, tmp_path: Path) -> None:
    store = stores.open()
    store.create_pipeline(APP.name, 1)
    for key in (b"a", b"b"):
        store.put_object(APP, key, b"x" * 10**5)
    stores.close(store)
    assert {path.name for path in tmp_path.iterdir()} <= {"objects.db", "objects.db-lock"}
    assert keys(stores.open(), APP) == [b"b"]


def open_files() -> set[str]:
    """What the process has open, after the collector has closed what nothing refers to (of other tests, too)."""
    gc.collect()
    files = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            files.add(number + " " + os.readlink(f"/proc/self/fd/{number}"))
    return files


def test_no_descriptor_is_left_open(stores: Stores) -> None:
    stores.close(stores.open())
    before = open_files()
    for _ in range(5):
        for read_only in (False, True):
            store = stores.open(read_only=read_only)
            if not read_only:
                store.sessions.ensure()
                store.sync()
                stores.close(stores.open(read_only=True))
            stores.close(store)
        with pytest.raises(OpenError):
            open_store(ObjectStoreSettings(path="/proc"))
    assert open_files() <= before


def test_a_store_that_was_killed_opens_again(stores: Stores) -> None:
    run_process(
        """
store = open_store(ObjectStoreSettings(path=sys.argv[1]))
store.create_pipeline(b"app")
for number in range(10):
    store.put_object(ScopeName.pipeline("app"), b"%d" % number, b"x" * 10 ** number if number < 7 else b"")
die()
""",
        str(stores.path),
        expected=-9,
    )
    store = stores.open()
    assert [(info.key, info.size) for info in store.list_objects(APP)] == [
        (b"%d" % number, 10**number if number < 7 else 0) for number in range(10)
    ]
