"""Puts that were acknowledged and wait to be published, in this process and in one that dies."""

from pathlib import Path

from engine import ScopeName, Store
from tests.support.invariants import check_nothing_left
from tests.support.stores import Stores, directory, new_draft, new_put, run_process, values

APP = ScopeName.pipeline("app")
OPEN = """
store = open_store(ObjectStoreSettings(path=sys.argv[1]))
app = ScopeName.pipeline("app")
top = directory(store, app)

def close(name, content, number=1):
    put, draft = new_put(store, top, name), new_draft(store, content)
    store.publisher.prepare(put, draft, number)
    return put, draft, (put.ino, number)

def release(put, draft, intent):
    store.publisher.publish(put, draft, intent, later=True)
"""

REFUSING = """
from engine.errors import OutOfSpaceError
from engine.sqlite.database import Database
rows, refused = Database.rows, [False]

def refusing(self, sql, arguments=()):
    if refused[0] and sql == "COMMIT" and self.in_transaction:
        raise OutOfSpaceError("full")
    return rows(self, sql, arguments)

Database.rows = refusing
"""


def refused(change: str) -> str:
    """For a program that begins with REFUSING: a change for which the disk is full, and then is not any more."""
    return f"""
refused[0] = True
try:
    {change}
    raise AssertionError("it was full")
except OutOfSpaceError:
    refused[0] = False
"""


ON_THE_DISK = """
import shutil

def on_the_disk():
    store.sync()
    for ending in ("", "-wal"):
        shutil.copyfile(sys.argv[1] + ending, sys.argv[1] + ending + ".synced")
"""


def after_death(store: Store, stores: Stores, program: str) -> Store:
    """Run `program`, which ends by SIGKILL, with the store open as `store`; then open the store again."""
    stores.close(store)
    run_process(OPEN + program + "\ndie()", str(stores.path), expected=-9)
    return stores.open()


def check_after_death(store: Store, stores: Stores, program: str, expected: dict[bytes, bytes]) -> None:
    """As `after_death`: then these are the values of the pipeline, and nothing else is left."""
    store = after_death(store, stores, program)
    assert values(store, APP) == expected
    check_nothing_left(store)


def journals(stores: Stores) -> list[Path]:
    return sorted(stores.path.parent.glob(f"{stores.path.name}-puts-*"))


def put_later(store: Store, name: bytes, content: bytes) -> None:
    put, draft = new_put(store, directory(store, APP), name), new_draft(store, content)
    store.publisher.prepare(put, draft, 1)
    store.publisher.publish(put, draft, (put.ino, 1), later=True)
