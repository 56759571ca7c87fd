"""A Put that waits, since the page with its directory is damaged: nothing else is held up by it."""

from collections.abc import Callable

import apsw
import pytest

from engine import ScopeName, Store
from engine.catalog.puts import Put
from engine.errors import DamagedError, StoreError
from engine.model import Attributes
from tests.damage.pages import LEAF_TABLE, PAGE, pages_of, ruin
from tests.support.acknowledging import APP
from tests.support.invariants import check_nothing_left
from tests.support.stores import Stores, directory, new_draft, new_put, node, values

FAR = ScopeName.pipeline("far")


def fill(store: Store, *numbers: int) -> None:
    for number in range(*numbers):
        store.put_object(APP, b"%03d" % number * 40, b"")


def damage_directory_of(stores: Stores, store: Store, scope: ScopeName) -> Callable[[], None]:
    """Ruin the page with the row of a pipeline, in the file and in memory. Returns what undoes that."""
    store.database.log.checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
    before = stores.path.read_bytes()
    leaves = pages_of(stores.path, "node", LEAF_TABLE)
    (page,) = (leaf for leaf in leaves if scope.name in before[(leaf - 1) * PAGE : leaf * PAGE])
    ruin(stores.path, page)

    def mend() -> None:
        with stores.path.open("r+b") as file:
            file.seek((page - 1) * PAGE)
            file.write(before[(page - 1) * PAGE : page * PAGE])
        forget(stores)

    forget(stores)
    return mend


def forget(stores: Stores) -> None:
    """Have what others have of the file in memory go, by a change to it."""
    other = stores.open()
    other.put_object(APP, b"of another", b"", force=True)
    stores.close(other)


def leave_waiting(store: Store) -> Put:
    put, draft = new_put(store, directory(store, FAR), b"k"), new_draft(store, b"acknowledged")
    store.publisher.prepare(put, draft, 1)
    return put


CHANGES: dict[str, Callable[[Store, int], object]] = {
    "put": lambda store, top: store.put_object(APP, b"other", b"new", force=True),
    "remove": lambda store, top: store.tree.remove(top, b"other"),
    "rename": lambda store, top: store.tree.rename(top, b"other", top, b"moved", replace=True),
    "mkdir": lambda store, top: store.tree.make_directory(top, b"directory", 0o755, 0, 0),
    "chmod": lambda store, top: store.tree.set_attributes(node(store, APP, b"other").ino, Attributes(mode=0o600)),
    "set_limit": lambda store, top: store.set_limit(APP.name, 0),
}


def test_other_names_are_changed(stores: Stores) -> None:
    """And its own is not; it is published once the page can be read."""
    store = stores.open(pipeline_object_limit=0)
    store.create_pipeline(APP.name)
    fill(store, 0, 100)
    store.create_pipeline(FAR.name)
    fill(store, 100, 200)
    top = directory(store, APP)
    put = leave_waiting(store)
    mend = damage_directory_of(stores, store, FAR)
    store.publisher.publish_later(put, put.ino, 1)
    refused: dict[str, StoreError] = {}
    for name, change in CHANGES.items():
        store.put_object(APP, b"other", b"old", force=True)
        try:
            change(store, top)
        except StoreError as error:
            refused[name] = error
    assert not refused
    with pytest.raises(DamagedError):
        store.tree.remove(put.parent, put.name)
    mend()
    store.publisher.publish_again()
    assert values(store, FAR) == {b"k": b"acknowledged"}
    check_nothing_left(stores.reopen(store))
