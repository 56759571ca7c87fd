"""unlink(2) by who is writing the name, where the store refuses it: what is written is put as before."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import apsw
import pytest
import trio

from engine import ScopeName, Store, open_store
from engine.config import ObjectStoreSettings
from engine.drafts import SMALL_BYTES
from engine.errors import NotFoundError, UnavailableError
from fusefs.callers import Caller
from fusefs.handles import WriteHandle
from fusefs.namespace import Namespace
from fusefs.opening import Opening
from fusefs.publication import Publication
from fusefs.releasing import Releasing
from fusefs.state import StaleError
from tests.support.states import mount_state
from tests.support.stores import directory, node, value

APP = ScopeName.pipeline("app")
CALLER = Caller(os.getpid(), 0, 0)
PUT = os.O_WRONLY | os.O_TRUNC
LARGE = bytes(SMALL_BYTES + 1)


class Mount:
    """A key of a pipeline, written and removed by this process as the kernel has it done."""

    def __init__(self, store: Store, nursery: trio.Nursery) -> None:
        self.store = store
        self.state = mount_state(store, nursery)
        self.parent = directory(store, APP)
        self._publication = Publication(self.state)
        self._opening = Opening(self.state)

    def create(self) -> WriteHandle:
        number, _, _ = self._opening.create(self.parent, b"k", 0o600, PUT, CALLER)
        return self._handle(number)

    def replace(self, ino: int) -> WriteHandle:
        """Open what is published, as the kernel does: it is told to look the name up again."""
        with pytest.raises(StaleError):
            self._opening.open(ino, PUT, CALLER)
        writers = self.state.writers.at(self.parent, b"k")
        assert writers is not None
        return self._handle(self._opening.open(writers.ino, PUT, CALLER))

    def _handle(self, number: int) -> WriteHandle:
        handle = self.state.handles[number]
        assert isinstance(handle, WriteHandle)
        return handle

    async def write(self, handle: WriteHandle, data: bytes) -> None:
        handle.copy.touch()
        await handle.copy.spool.write(0, data)

    async def flush(self, handle: WriteHandle) -> None:
        """One of the descriptors of a file is closed."""
        await self._publication.prepare(handle)

    def unlink(self) -> None:
        Namespace(self.state, self._publication).remove(self.parent, b"k", CALLER)

    async def close(self, handle: WriteHandle) -> None:
        await self.flush(handle)
        Releasing(self.state, self._publication).release(handle)
        self.state.store.publisher.settle()

    def value(self) -> bytes | None:
        with suppress(NotFoundError):
            return value(self.store, APP, b"k")
        return None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "objects.db"


@pytest.fixture
def mount(path: Path, nursery: trio.Nursery) -> Iterator[Mount]:
    with open_store(ObjectStoreSettings(path=path)) as store:
        store.create_pipeline(APP.name)
        store.database.writes.patience_s = 0.1
        yield Mount(store, nursery)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else can write meanwhile."""
    with closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.trio
async def test_of_a_published_key(mount: Mount, path: Path) -> None:
    mount.store.put_object(APP, b"k", b"old")
    handle = mount.replace(node(mount.store, APP, b"k").ino)
    await mount.write(handle, b"new")
    with locked(path), pytest.raises(UnavailableError):
        mount.unlink()
    assert mount.value() == b"old"
    await mount.close(handle)
    assert mount.value() == b"new"


@pytest.mark.trio
async def test_of_a_new_key_that_is_open_often(mount: Mount, path: Path) -> None:
    """All that is open of it goes on, whichever of them could have been taken back."""
    handles = [mount.create() for _ in range(9)]
    for handle in handles:
        await mount.write(handle, LARGE if handle is handles[4] else b"small")
        await mount.flush(handle)
    with locked(path), pytest.raises(UnavailableError):
        mount.unlink()
    assert not [handle for handle in handles if handle.copy.unlinked]
    for handle in handles:
        await mount.flush(handle)
    assert all(handle.copy.has_intent for handle in handles)  # what a kill must not take, as before
    for handle in handles:
        await mount.close(handle)
        assert mount.value() == (LARGE if handle is handles[4] else b"small")


@pytest.mark.trio
async def test_of_one_that_cannot_be_taken_back(mount: Mount, path: Path) -> None:
    """The published value is gone, and what was closed could have the name again: it is put as before."""
    mount.store.put_object(APP, b"k", b"old")
    handle = mount.replace(node(mount.store, APP, b"k").ino)
    await mount.write(handle, LARGE)
    await mount.flush(handle)
    with closing(apsw.Connection(str(path))) as other:
        mount.store.database.writes.after(lambda _: other.execute("BEGIN IMMEDIATE"))  # once the name is removed
        with pytest.raises(UnavailableError):
            mount.unlink()
    assert mount.value() is None
    await mount.close(handle)
    assert mount.value() == LARGE


@pytest.mark.trio
async def test_once_it_succeeds(mount: Mount, path: Path) -> None:
    """After one that failed: nothing is put any more, not by a kill either."""
    handle = mount.create()
    await mount.write(handle, LARGE)
    await mount.flush(handle)
    with locked(path), pytest.raises(UnavailableError):
        mount.unlink()
    mount.unlink()
    assert (handle.copy.unlinked, handle.copy.has_intent) == (True, False)
    await mount.close(handle)
    assert mount.value() is None
