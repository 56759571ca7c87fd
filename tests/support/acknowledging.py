"""Puts that were acknowledged and wait to be published, in this process and in one that dies."""

from pathlib import Path

from engine import ScopeName, Store
from tests.support.stores import Stores, directory, new_draft, new_put, run_process

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


def journals(stores: Stores) -> list[Path]:
    return sorted(stores.path.parent.glob(f"{stores.path.name}-puts-*"))


def put_later(store: Store, name: bytes, content: bytes) -> None:
    put, draft = new_put(store, directory(store, APP), name), new_draft(store, content)
    store.publisher.prepare(put, draft, 1)
    store.publisher.publish(put, draft, (put.ino, 1), later=True)
