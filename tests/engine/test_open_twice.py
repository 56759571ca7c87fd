"""A store that is open, and whatever else its process does with the file: the locks of it stay.

To close any descriptor of a file lets go of all locks that a process has on it with fcntl(2), and another process could
then take an open store for one that nobody has.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import ScopeName, open_store
from engine.backup import backup
from engine.checking import Check
from engine.compacting import compact
from engine.config import ObjectStoreSettings
from engine.errors import UnavailableError
from engine.repairing import repair
from engine.sqlite.content import SqliteEngine
from tests.support.stores import Stores, run_process, value

APP = ScopeName.pipeline("app")


def open_again(settings: ObjectStoreSettings) -> None:
    open_store(settings).close()


def read_again(settings: ObjectStoreSettings) -> None:
    open_store(settings, read_only=True).close()


def use_its_engine(settings: ObjectStoreSettings) -> None:
    SqliteEngine({"path": settings.path}).close()


def copy_it(settings: ObjectStoreSettings) -> None:
    backup(settings, Path(f"{settings.path}-copy"))


def check_it(settings: ObjectStoreSettings) -> None:
    assert list(Check(settings).run()) == []


def compact_it(settings: ObjectStoreSettings) -> None:
    with pytest.raises(UnavailableError, match="in use"):
        compact(settings)


def repair_it(settings: ObjectStoreSettings) -> None:
    with pytest.raises(UnavailableError, match="in use by this process: close it first"):
        repair(settings)


USES = (open_again, read_again, use_its_engine, copy_it, check_it, compact_it, repair_it)


def who_has_it(path: Path) -> str:
    """What another process is told that wants the store for itself."""
    return run_process(
        "from engine.errors import UnavailableError\n"
        "from engine.salvage import swapping\n"
        "try:\n"
        "    with swapping.alone(Path(sys.argv[1])):\n"
        "        print('nobody')\n"
        "except UnavailableError as error:\n"
        "    print(error)\n",
        str(path),
    )


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("use", USES)
def test_other_processes_see_it_open(
    stores: Stores,
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[ObjectStoreSettings], None],
    read_only: bool,
) -> None:
    monkeypatch.setattr("engine.sqlite.connecting.BUSY_TIMEOUT_MS", 10)
    store = stores.open()
    store.create_pipeline(APP.name)
    store.put_object(APP, b"key", b"value")
    stores.close(store)
    store = stores.open(read_only=read_only)
    use(ObjectStoreSettings(path=str(stores.path)))
    assert f"in use by process {os.getpid()}" in who_has_it(stores.path)
    assert value(store, APP, b"key") == b"value"
    stores.close(store)
    assert who_has_it(stores.path) == "nobody\n"


def test_a_thread_that_opens_a_new_store_first(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread has it open as soon as there is a file, which is before the one that made it goes on."""
    make = os.mknod
    opened = []

    def make_and_open(path: Path, mode: int) -> None:
        monkeypatch.undo()
        make(path, mode)
        opened.append(stores.open())

    monkeypatch.setattr(os, "mknod", make_and_open)
    stores.close(stores.open())
    assert f"in use by process {os.getpid()}" in who_has_it(opened[0].database.path)


def test_no_descriptor_is_left(stores: Stores) -> None:
    settings = ObjectStoreSettings(path=str(stores.path))
    stores.close(stores.open())
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        open_again(settings)
        compact(settings)
        repair(settings)
    assert os.listdir("/proc/self/fd") == before
