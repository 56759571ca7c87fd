"""Large values: written and read in bounded memory, and their space is used again."""

import os

import pytest

from engine import ScopeName, Store
from tests.support.invariants import check_nothing_left
from tests.support.stores import Stores, forget_displaced, reclaim_all, run_process

APP = ScopeName.pipeline("app")
MIB = 2**20
SIZE = 64 * MIB

MEASURED = """
import resource
from hashlib import sha256

size = 64 * 2**20
app = ScopeName.pipeline("app")

def pieces():
    for number in range(size // 2**20):
        yield number.to_bytes(4, "big") * 2**18

def expected():
    digest = sha256()
    for piece in pieces():
        digest.update(piece)
    return digest.digest()

def got():
    digest = sha256()
    for piece in store.read_object(app, b"key"):
        assert len(piece) <= 2**20
        digest.update(piece)
    return digest.digest()

wanted = expected()
store = open_store(ObjectStoreSettings(path=sys.argv[1]))
if sys.argv[2] == "put":
    store.create_pipeline(b"app")
    store.put_object(app, b"warm", b"x" * 10**6)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if sys.argv[2] == "put":
    store.put_object(app, b"key", pieces())
elif sys.argv[2] == "append":
    top = directory(store, app)
    store.publisher.publish(new_put(store, top, b"key", How.APPEND), new_draft(store, b"more"))
    store.publisher.publish(new_put(store, top, b"other", How.APPEND), new_draft(store, b"more"))
elif sys.argv[2] == "delete":
    store.delete_object(app, b"key")
    while store.upkeep.reclaim():
        pass
else:
    assert got() == wanted
store.close()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_64_mib_go_through_a_few(stores: Stores) -> None:
    """What each step adds to the most memory that its process ever had, in MiB: SQLite's cache and some chunks."""
    for step in ("put", "get", "append", "delete"):
        grown = int(run_process(MEASURED, str(stores.path), step))
        assert grown < 40, f"{step} took {grown} MiB"
    store = stores.open()
    assert [info.key for info in store.list_objects(APP)] == [b"other", b"warm"]
    check_nothing_left(store)


def put(store: Store, key: bytes, size: int = 16 * MIB) -> None:
    store.put_object(APP, key, (b"x" * MIB for _ in range(size // MIB)), force=True)


def occupied(stores: Stores) -> int:
    """How many bytes of the disk the store takes."""
    return sum(path.stat().st_blocks * 512 for path in stores.path.parent.glob(f"{stores.path.name}*"))


def give_back(store: Store) -> None:
    reclaim_all(store)
    store.database.log.checkpoint()
    while store.database.slots.ripen():
        pass


def test_space_is_used_again(stores: Stores) -> None:
    """The store is no larger after the fifth value of the same size than after the second, and small after the last."""
    store = stores.open()
    store.create_pipeline(APP.name)
    sizes = []
    for _ in range(5):
        put(store, b"key")
        give_back(store)
        sizes.append(occupied(stores))
    assert sizes[-1] <= sizes[1] + MIB, sizes
    store.delete_object(APP, b"key")
    give_back(store)
    assert occupied(stores) < sizes[0] - 15 * MIB
    check_nothing_left(store)


def test_what_was_evicted_is_space_too(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stores.open()
    store.create_pipeline(APP.name, 1)
    sizes = []
    for number in range(5):
        put(store, b"%d" % number)
        forget_displaced(store)
        give_back(store)
        sizes.append(occupied(stores))
    assert sizes[-1] <= sizes[1] + MIB, sizes
    check_nothing_left(store)


def test_a_large_value_is_the_same_after_a_restart(stores: Stores) -> None:
    store = stores.open()
    store.create_pipeline(APP.name)
    content = os.urandom(3 * MIB + 12345)
    store.put_object(APP, b"key", content)
    store = stores.reopen(store)
    assert b"".join(store.read_object(APP, b"key")) == content
    for offset in (0, 1, 262143, 262144, MIB - 1, 3 * MIB, len(content) - 1, len(content), len(content) + 1):
        number = store.tree.children(16, b"", 1)[0].content
        assert store.contents.read(number, offset, 300_000) == content[offset : offset + 300_000]
