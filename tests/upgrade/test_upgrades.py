"""Stores as every format left them open, migrate and are whole; so they are when the migration is killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from engine import open_store, xattrs
from engine.backup import backup
from engine.checking import Check
from engine.compacting import compact
from engine.config import ObjectStoreSettings
from engine.errors import OpenError, QuotaError
from engine.repairing import repair
from engine.sqlite import migrations
from tests.conftest import MakeMount
from tests.support.stores import ROOT, Stores, keys, values
from tests.upgrade.making import APP, CONTENTS, FULL, LINK, RUNS, TARGET, XATTR

ARCHIVES = Path(__file__).with_name("stores")
VERSIONS = range(1, migrations.VERSION + 1)


@pytest.fixture(params=VERSIONS, ids=lambda version: f"v{version}")
def old(request: pytest.FixtureRequest, stores: Stores) -> Stores:
    """The store of one version, as a process that was killed has left it."""
    with tarfile.open(ARCHIVES / f"v{request.param}.tar.xz") as tar:
        tar.extractall(stores.path.parent, filter="data")
    assert stores.path.exists()
    return stores


def settings(stores: Stores) -> ObjectStoreSettings:
    return ObjectStoreSettings(path=str(stores.path))


def has_everything(stores: Stores) -> None:
    store = stores.open()
    assert {scope: values(store, scope) for scope in CONTENTS} == CONTENTS
    assert keys(store, FULL) == [b"b", b"c", b"d"]
    assert [run.name for run in store.list_runs()] == [run.name for run in RUNS[1:]]
    home = store.tree.child(2, APP.name)
    assert home is not None
    link, small = store.tree.child(home.ino, LINK), store.tree.child(home.ino, b"small")
    assert link is not None
    assert small is not None
    assert (link.target, link.uid) == (TARGET, 1000)
    assert xattrs.get(small.xattrs, XATTR[0]) == XATTR[1]
    stores.close(store)
    assert list(Check(settings(stores)).run()) == []


def test_there_is_a_store_of_every_version() -> None:
    """A new version needs one of its own: `python -m tests.upgrade.making tests/upgrade/stores/vN.tar.xz`."""
    assert {path.name for path in ARCHIVES.iterdir()} == {f"v{version}.tar.xz" for version in VERSIONS}


def test_everything_is_there(old: Stores) -> None:
    has_everything(old)


def test_a_copy_and_a_compaction(old: Stores, tmp_path: Path) -> None:
    """After a compaction it has all that a new store has, its checksums too."""
    old.close(old.open())
    copy = Stores(tmp_path / "copy")
    copy.path.parent.mkdir()
    backup(settings(old), copy.path)
    has_everything(copy)
    compact(settings(old))
    check = Check(settings(old))
    assert list(check.run()) == []
    assert (check.unchecked, check.pages_have_checksums) == (0, True)
    has_everything(old)


OLDER = pytest.mark.parametrize("old", range(1, migrations.VERSION), indirect=True, ids=lambda version: f"v{version}")


@OLDER
def test_reading_changes_nothing(old: Stores) -> None:
    """Who only reads is told what to do, and the files stay what they are."""
    before = {path.name: path.read_bytes() for path in old.path.parent.iterdir()}
    with pytest.raises(OpenError, match="older format"):
        open_store(settings(old), read_only=True)
    assert {name: (old.path.parent / name).read_bytes() for name in before} == before


_KILLED_IN_THE_MIGRATION = """
import os, signal, sys
from engine import open_store
from engine.config import ObjectStoreSettings
from engine.sqlite import migrations

statements = 0

def one_by_one(database, script, run=migrations._run_script):
    global statements
    for statement in filter(str.strip, script.split(";")):
        statements += 1
        if statements == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        database.rows(statement)

migrations._run_script = one_by_one
open_store(ObjectStoreSettings(path=sys.argv[1])).close()
"""


@OLDER
def test_a_migration_that_is_killed(old: Stores) -> None:
    """At any of its statements: what opens the store next begins that step again."""
    killed, statement = 0, 1
    while True:
        command = [sys.executable, "-c", _KILLED_IN_THE_MIGRATION, str(old.path), str(statement)]
        ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
        if ended.returncode != -signal.SIGKILL:
            break
        killed += 1
        statement += 4
    assert ended.returncode == 0, ended.stderr
    assert killed >= 5
    has_everything(old)


@pytest.mark.parametrize("old", [3], indirect=True, ids=["v3"])
def test_more_bytes_than_can_be_counted(old: Stores) -> None:
    """Version 3 let the holes of one pipeline have more together. It is full then, and counted anew by a repair."""
    with closing(sqlite3.connect(old.path)) as database, database:
        for holes in (
            "UPDATE node SET size = 1 << 62 WHERE kind = 1 AND size > 65536",
            "UPDATE content SET size = 1 << 62 WHERE data IS NULL",
        ):
            assert database.execute(holes).rowcount == 2
    store = old.open()
    assert {pipeline.bytes for pipeline in store.list_pipelines()} == {2**63 - 1, 3}
    assert "more than 8 EiB" in "".join(store.database.troubles.news())  # what was acknowledged found no room
    with pytest.raises(QuotaError):
        store.put_object(APP, b"new", b"value")
    store.delete_object(APP, b"large")
    old.close(store)
    repair(settings(old))
    assert list(Check(settings(old)).run()) == []


@pytest.mark.mount
def test_a_mount_of_an_old_store(make_mount: MakeMount, tmp_path: Path) -> None:
    with tarfile.open(ARCHIVES / "v1.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    mounted = make_mount(store=tmp_path / "objects.db")
    assert (mounted.pipeline / "app/large").read_bytes() == CONTENTS[APP][b"large"]
    (mounted.pipeline / "app/new").write_bytes(b"new")
    assert sorted(os.listdir(mounted.pipeline / "full")) == ["b", "c", "d"]
