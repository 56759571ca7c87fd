"""What a killed process has left may have to wait long: meanwhile only its Puts do, and nobody's space."""

import os
import signal
from pathlib import Path

import pytest

from engine import ScopeName, Store
from engine.errors import OutOfSpaceError
from engine.recovering import Recovery
from tests.support.acknowledging import OPEN, journals
from tests.support.disks import small_disk
from tests.support.invariants import check_nothing_left
from tests.support.stores import Stores, keys, reclaim_all, run_process, start_process, values
from tests.support.waiting import wait_until

APP = ScopeName.pipeline("app")
LEAVES = f"""
{OPEN}
store.sessions.ensure()
store.contents.pin(store.find_object(app, b"open").content)
store.delete_object(app, b"deleted")
wait()
store.upkeep.acknowledge(store.upkeep.news())
store.contents.settle(new_draft(store, b"never acknowledged" * 10_000))
intents = [close(name, b"value", number) for number, name in enumerate((b"published", b"waiting"))]
release(*intents[0])
store.publisher.settle()
wait()
"""
RECOVERS_NONE = """
from engine.recovering import Recovered, Recovery
Recovery.recover = lambda self: Recovered([], [])
"""
MIB = 1024 * 1024


def made(stores: Stores) -> Store:
    store = stores.open()
    store.create_pipeline(APP.name, 0)
    return store


def leave(store: Store, stores: Stores) -> None:
    """A process dies that has something of everything, and that others have waited for until then."""
    for key in (b"open", b"deleted"):
        store.put_object(APP, key, b"x" * 100_000)
    store.sessions.ensure()
    with start_process(LEAVES, str(stores.path)) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        store.upkeep.acknowledge(store.upkeep.news())
        store.delete_object(APP, b"open")
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        reclaim_all(store)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)


def test_a_session_that_cannot_be_recovered_keeps_nothing_but_its_puts(stores: Stores) -> None:
    """What it took away or had open goes, by a process that has lived through all of it; and its Puts happen once."""
    store = made(stores)
    leave(store, stores)
    (journal,) = journals(stores)
    content = journal.read_bytes()
    journal.unlink()
    journal.mkdir()  # it cannot be read
    store.publisher.recover()
    (told,) = store.database.troubles.news()
    assert "cannot be published yet" in told
    store.put_object(APP, b"new", b"x" * 100_000)
    store.delete_object(APP, b"new")
    store.delete_object(APP, b"published")
    reclaim_all(store)
    assert store.database.rows("SELECT * FROM change") == []
    assert store.engine.list_object_keys() == []
    assert len(store.sessions.dead()) == 1
    journal.rmdir()
    journal.write_bytes(content)
    wait_until(lambda: bool(store.publisher.recover().nodes))
    assert values(store, APP) == {b"waiting": b"value"}
    assert store.sessions.dead() == []
    check_nothing_left(store)


def test_one_that_there_is_no_room_for_keeps_no_other_back(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    store = made(stores)
    for number in range(3):
        run_process(f'{RECOVERS_NONE}{OPEN}close(b"k{number}", b"value")\ndie()', str(stores.path), expected=-9)
    first, recover = store.sessions.dead()[0], Recovery._recover_session

    def full_at_first(recovery: Recovery, session: int) -> bool:
        if session == first:
            raise OutOfSpaceError("full")
        return recover(recovery, session)

    with monkeypatch.context() as patch:
        patch.setattr(Recovery, "_recover_session", full_at_first)
        with pytest.raises(OutOfSpaceError):
            store.publisher.recover()
    assert keys(store, APP) == [b"k1", b"k2"]
    assert [node.name for node in store.publisher.recover().nodes] == [b"k1", b"k2", b"k0"]
    check_nothing_left(store)


def fill_up(disk: Path, left: int) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler:
        while os.statvfs(disk).f_bavail * 4096 > left:
            filler.write(bytes(4096))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a tmpfs")
@pytest.mark.parametrize("left", [20_000, MIB])
def test_what_is_deleted_makes_room_for_what_the_dead_have_left(left: int) -> None:
    """The disk is too full to publish it, and only what is deleted now can change that."""
    with small_disk(32) as disk:
        stores = Stores(disk)
        store = made(stores)
        for key in (b"a", b"b"):
            store.put_object(APP, key, b"x" * (5 * MIB))
        stores.close(store)
        program = f'{OPEN}for number in range(40):\n    close(b"k%02d" % number, b"v" * 60_000, number)\ndie()'
        run_process(program, str(stores.path), expected=-9)
        fill_up(disk, left)
        store = stores.open()
        store.sessions.ensure()
        (told,) = store.database.troubles.news()
        assert "cannot be published yet" in told
        for key in (b"a", b"b"):
            store.delete_object(APP, key)
        while store.upkeep.work():
            pass
        assert os.statvfs(disk).f_bavail * 4096 > 9 * MIB
        wait_until(lambda: bool(store.publisher.recover().nodes))
        assert keys(store, APP) == [b"k%02d" % number for number in range(40)]
        store.put_object(APP, b"new", b"value")
        check_nothing_left(store)
        stores.finish()
