"""The data file: where chunks of large values lie, and when their places may be used again."""

import fcntl
import os
import threading

import pytest

from engine import ScopeName, Store, locks
from engine.drafts import Draft
from engine.errors import InternalError, OutOfSpaceError
from engine.sqlite.chunks import ChunkedDraft
from engine.sqlite.slots import SLOT_BYTES, Slots
from tests.support.invariants import check_nothing_left
from tests.support.stores import Stores, directory, new_draft, new_put, node, reclaim_all, run_process, value

APP = ScopeName.pipeline("app")
MIB = 1024 * 1024


@pytest.fixture
def store(stores: Stores) -> Store:
    store = stores.open()
    store.create_pipeline(APP.name, 3)
    return store


def content(seed: int, mib: int = 8, more: int = 12_345) -> bytes:
    block = os.urandom(MIB - 1) + bytes([seed])
    return block * mib + block[:more]


def put(store: Store, key: bytes, value: bytes) -> None:
    store.put_object(APP, key, (value[at : at + MIB] for at in range(0, len(value), MIB)), force=True)


def slots_of(store: Store, key: bytes) -> set[int]:
    rows = store.database.rows(
        "SELECT -1 - chunk FROM extent WHERE content = ? AND chunk < 0",
        (node(store, APP, key).content,),
    )
    return {slot for (slot,) in rows}


def free(store: Store, *, ripe: bool) -> set[int]:
    return {slot for (slot,) in store.database.rows("SELECT number FROM free_slot WHERE ripe = ?", (ripe,))}


def replace(store: Store, key: bytes, value: bytes) -> set[int]:
    """Put another value, and return the slots of the old one, which are given up now."""
    before = slots_of(store, key)
    put(store, key, value)
    reclaim_all(store)
    return before


def test_a_large_value_lies_beside_the_database(store: Store, stores: Stores) -> None:
    wanted = content(1)
    put(store, b"key", wanted)
    assert len(slots_of(store, b"key")) == 32
    assert stores.path.with_name(stores.path.name + "-data").stat().st_mode & 0o777 == 0o600
    assert value(store, APP, b"key") == wanted
    number = node(store, APP, b"key").content
    for offset in (0, 1, SLOT_BYTES - 1, SLOT_BYTES, 3 * SLOT_BYTES + 7, 8 * MIB - 1, 8 * MIB, len(wanted) - 1):
        for length in (1, 5000, SLOT_BYTES + 1, MIB):
            assert store.contents.read(number, offset, length) == wanted[offset : offset + length], (offset, length)
    store = stores.reopen(store)
    assert value(store, APP, b"key") == wanted


def test_a_slot_is_used_again_only_once_it_is_ripe(store: Store) -> None:
    put(store, b"key", content(1))
    old = replace(store, b"key", content(2))
    assert free(store, ripe=False) == old
    again = replace(store, b"key", content(3))
    assert not slots_of(store, b"key") & (old | again)
    assert not store.database.slots.ripen()
    assert free(store, ripe=True) == old | again
    put(store, b"other", content(4))
    assert slots_of(store, b"other") <= old | again
    check_nothing_left(store)


def test_what_is_ripe_holds_no_space(store: Store, stores: Stores) -> None:
    data = stores.path.with_name(stores.path.name + "-data")
    put(store, b"key", content(1, 16))
    before = data.stat().st_blocks
    replace(store, b"key", b"small")
    store.database.slots.ripen()
    assert data.stat().st_blocks < before / 10


def test_nothing_ripens_before_the_log_is_synced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, b"key", content(1))
    replace(store, b"key", b"small")

    def failing() -> None:
        raise InternalError("the disk is gone")

    monkeypatch.setattr(store.database.log, "sync", failing)
    with pytest.raises(InternalError):
        store.database.slots.ripen()
    assert free(store, ripe=True) == set()


def test_what_another_process_used_again_does_not_ripen(
    store: Store, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one was quicker just before this one has the lock: its new value is not punched out of the file."""
    other = stores.open()
    put(store, b"old", content(1))
    old = replace(store, b"old", b"small")
    wanted = content(2)
    take = locks.take

    def overtaken(fd: int, kind: int) -> None:
        monkeypatch.setattr(locks, "take", take)
        other.database.slots.ripen()
        put(other, b"new", wanted)
        other.sync()
        take(fd, kind)

    monkeypatch.setattr(locks, "take", overtaken)
    assert not store.database.slots.ripen()
    assert locks.take is take
    assert slots_of(store, b"new") <= old
    assert value(store, APP, b"new") == wanted
    assert free(store, ripe=True) == old - slots_of(store, b"new")


def test_a_value_is_synced_before_anything_refers_to_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync = Slots.sync

    def noted(self: Slots, written: int) -> None:
        sync(self, written)
        events.append("synced")

    monkeypatch.setattr(Slots, "sync", noted)
    put_, draft = new_put(store, directory(store, APP), b"key"), new_draft(store, b"")
    for offset in range(0, 8 * MIB, MIB):
        draft.write(offset, b"x" * MIB)
    store.publisher.prepare(put_, draft, 1)
    events.append("acknowledged")
    store.publisher.publish(put_, draft, (put_.ino, 1))
    assert events == ["synced", "acknowledged"]
    draft.write(0, b"y" * MIB)
    for offset in range(0, 8 * MIB, MIB):
        draft.write(offset, b"z" * MIB)
    store.publisher.publish(new_put(store, directory(store, APP), b"key"), draft)
    assert events == ["synced", "acknowledged", "synced"]
    assert value(store, APP, b"key") == b"z" * 8 * MIB


@pytest.mark.parametrize("made_by_another", [False, True])
def test_its_name_is_synced_before_anything_refers_to_it(
    store: Store, stores: Stores, monkeypatch: pytest.MonkeyPatch, made_by_another: bool
) -> None:
    """On a disk that keeps no name but those that were there when their directory was last synced."""
    name = f"{stores.path.name}-data"
    kept: set[str] = set()
    at_the_commit: list[bool] = []
    fsync, seal = os.fsync, ChunkedDraft.seal

    def sync_names(fd: int) -> None:
        fsync(fd)
        if os.path.samestat(os.fstat(fd), stores.path.parent.stat()):
            kept.update(os.listdir(stores.path.parent))

    def note(self: ChunkedDraft) -> None:
        at_the_commit.append(name in kept)
        seal(self)

    monkeypatch.setattr(os, "fsync", sync_names)
    monkeypatch.setattr(ChunkedDraft, "seal", note)
    store.sync()  # which syncs the names that are there for the log's sake
    if made_by_another:
        opened = "store = open_store(ObjectStoreSettings(path=sys.argv[1]))"
        run_process(
            f"{opened}; store.database.slots.write([(0, bytes({SLOT_BYTES}))]); die()", str(stores.path), expected=-9
        )
        assert (stores.path.parent / name).exists()
    put(store, b"key", content(1))
    assert at_the_commit == [True]


def test_a_sync_beside_a_write_is_not_taken_for_its_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another value's sync that begins before this one's bytes are written: they are synced all the same."""
    slots, synced = store.database.slots, []
    fdatasync, write_run = os.fdatasync, Slots._write_run

    def write_after_another_sync(self: Slots, offset: int, buffers: list[bytes]) -> None:
        self.sync(first)
        write_run(self, offset, buffers)  # type: ignore[arg-type]

    first = slots.write([(0, bytes(MIB // 4))])
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(fd), fdatasync(fd)))
    monkeypatch.setattr(Slots, "_write_run", write_after_another_sync)
    written = slots.write([(1, bytes(MIB // 4))])
    before = len(synced)
    slots.sync(written)
    assert len(synced) == before + 1


def test_who_reads_keeps_what_is_read(store: Store) -> None:
    """A Get that began before: the value is replaced, its space reclaimed, and others write meanwhile."""
    wanted = content(1)
    put(store, b"key", wanted)
    pieces = store.read_object(APP, b"key")
    read = next(pieces)
    for seed in range(2, 5):
        replace(store, b"key", content(seed))
        assert not store.database.slots.ripen()
    assert free(store, ripe=True) == set()
    assert read + b"".join(pieces) == wanted
    store.database.slots.ripen()
    assert free(store, ripe=False) == set()


def test_who_reads_waits_while_slots_ripen(store: Store, stores: Stores) -> None:
    wanted = content(1)
    put(store, b"key", wanted)
    fd = os.open(stores.path.with_name(stores.path.name + "-data"), os.O_RDWR)
    locks.take(fd, fcntl.F_WRLCK)
    release = threading.Timer(0.2, os.close, (fd,))
    release.start()
    assert value(store, APP, b"key") == wanted
    release.join()


def test_two_copies_share_their_slots(store: Store) -> None:
    wanted = content(1)
    put(store, b"key", wanted)
    found = node(store, APP, b"key")
    draft = new_draft(store, b"", found.content, found.size)
    draft.write(5, b"changed")
    store.publisher.publish(new_put(store, directory(store, APP), b"copy"), draft)
    assert len(slots_of(store, b"copy") & slots_of(store, b"key")) == 31
    store.delete_object(APP, b"key")
    reclaim_all(store)
    store.database.slots.ripen()
    assert value(store, APP, b"copy") == wanted[:5] + b"changed" + wanted[12:]
    check_nothing_left(store)


def test_a_slot_is_never_written_twice(store: Store) -> None:
    """What an intent refers to may come back with a power cut, so the bytes below it stay."""
    put_, draft = new_put(store, directory(store, APP), b"key"), new_draft(store, b"")
    for seed in (b"a", b"b"):
        for offset in range(0, 8 * MIB, MIB):
            draft.write(offset, seed * MIB)
        store.contents.settle(draft)
    assert store.database.value("SELECT count(DISTINCT chunk) FROM extent") == 32
    assert len(free(store, ripe=False)) == 32
    store.publisher.publish(put_, draft)
    assert value(store, APP, b"key") == b"b" * 8 * MIB


def test_several_threads_write_at_once(store: Store) -> None:
    drafts = [new_draft(store, b"") for _ in range(4)]

    def fill(own: Draft, seed: int) -> None:
        for offset in range(0, 12 * MIB, MIB):
            own.write(offset, bytes([seed]) * MIB)
            if own.large is not None and own.large.unstored_bytes >= 4 * MIB:
                own.large.store(own.large.take(whole=True))
        store.contents.settle(own)

    threads = [threading.Thread(target=fill, args=(draft, seed)) for seed, draft in enumerate(drafts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, draft in enumerate(drafts[:3]):
        store.publisher.publish(new_put(store, directory(store, APP), b"%d" % seed), draft)
        assert value(store, APP, b"%d" % seed) == bytes([seed]) * 12 * MIB
    store.publisher.abandon(drafts[3])
    check_nothing_left(store)


def test_a_draft_sees_what_another_thread_has_stored(store: Store) -> None:
    """Also in a turn that began before: an edit that found a hole there would publish zeros."""
    draft = new_draft(store, b"")
    for offset in range(0, 8 * MIB, MIB):
        draft.write(offset, b"x" * MIB)
    large = draft.large
    assert large is not None
    store.database.writes.begin_turn()
    store.tree.node(1)
    thread = threading.Thread(target=lambda: large.store(large.take()))
    thread.start()
    thread.join()
    draft.write(5, b"edited")
    assert draft.read(0, 20) == b"xxxxxedited" + b"x" * 9
    assert draft.read(8 * MIB - 3, 3) == b"xxx"
    store.database.writes.settle()
    store.publisher.publish(new_put(store, directory(store, APP), b"key"), draft)
    assert value(store, APP, b"key") == b"xxxxxedited" + b"x" * (8 * MIB - 11)


def test_a_full_disk_leaves_the_old_value(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = content(1)
    put(store, b"key", wanted)

    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", full)
        with pytest.raises(OutOfSpaceError):
            put(store, b"key", content(2))
    assert value(store, APP, b"key") == wanted
    check_nothing_left(store)
    put(store, b"key", content(3))


def test_a_data_file_that_is_gone(store: Store, stores: Stores) -> None:
    put(store, b"key", content(1))
    stores.close(store)
    stores.path.with_name(stores.path.name + "-data").unlink()
    store = stores.open()
    with pytest.raises(InternalError, match="data file"):
        value(store, APP, b"key")


def test_what_a_deleted_store_left_behind(store: Store, stores: Stores) -> None:
    """A new store of the same name has nothing of it, neither values nor Puts that were not published."""
    put(store, b"key", content(1))
    put_, draft = new_put(store, directory(store, APP), b"closed"), new_draft(store, b"value")
    store.publisher.prepare(put_, draft, 1)
    left = stores.path.with_name(stores.path.name + "-puts-1").read_bytes()
    stores.close(store)
    stores.path.unlink()
    stores.path.with_name(stores.path.name + "-puts-1").write_bytes(left)
    store = stores.open()
    store.create_pipeline(APP.name)
    assert [path.name for path in stores.path.parent.glob("*-data")] == []
    assert [path.name for path in stores.path.parent.glob("*-puts-*")] == []
    put(store, b"key", content(2))
    check_nothing_left(store)
