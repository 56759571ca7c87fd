"""Every call of the engine to its disk fails once: `python -m tests.faults.engine_steps JOB ERRNO MODE EVERY OFFSET`.

A short job is run with call 1, 2, 3 ... failing, until a run makes no more calls than that. After each run the fault
goes, and everything acknowledged has to be there, nothing else, in a store that contradicts itself nowhere.
It is started with the environment of tests.support.failing_disk.
"""

import contextlib
import errno
import gc
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from engine import ScopeName, Store, open_store
from engine.catalog.puts import How
from engine.config import ObjectStoreSettings
from engine.errors import StoreError
from fusefs.errnos import errno_of
from tests.support.failing_disk import FOR_EVER, SHORT, FailingDisk, Kind, told
from tests.support.invariants import check_nothing_left, check_store
from tests.support.stores import directory, new_draft, new_put, rename, values

APP = ScopeName.pipeline("app")
LIMIT = 9
LARGE = 12 * 256 * 1024
"""Goes to the data file."""
MIDDLING = 70_000
"""Goes to the database in chunks."""
VICTIMS = (b"victim", b"victim too", b"victim as well")


def value_of(text: str, size: int) -> bytes:
    """A value that no other one is taken for."""
    return (text.encode() + b".") * (size // (len(text) + 1) + 1)


OLD = {
    **{victim: b"one of the oldest" for victim in VICTIMS},
    b"small": b"old",
    b"large": value_of("old", LARGE),
    b"log": value_of("begun", 1000),
    b"edited": value_of("unedited", MIDDLING),
    b"moved": b"moved",
    b"removed": value_of("removed", LARGE),
}


def check_told(error: StoreError, injected: int, disk: FailingDisk) -> None:
    # SQLite does not tell why the memory that processes share could not be made: only who opens a store meets that.
    right = {told(injected), errno.EIO if disk.what.endswith("-shm") else told(injected)}
    assert injected, f"{error!r} without a fault"
    assert errno_of(error) in right, f"{error!r} for {os.strerror(injected)} at {disk.what}"


class Ledger:
    """What may be in the store: for each key the values that are possible, None for no value."""

    def __init__(self, error: int, disk: FailingDisk) -> None:
        self.error = error
        self.disk = disk
        self.possible: dict[bytes, set[bytes | None]] = {key: {value} for key, value in OLD.items()}
        for victim in VICTIMS:
            self.possible[victim].add(None)

    def do(self, step: Callable[[], object], **outcome: bytes | None) -> None:
        """A step that gives these keys these values, or is refused with the right error and changes nothing."""
        keys = {key.replace("_", " ").encode(): value for key, value in outcome.items()}
        try:
            step()
        except StoreError as error:
            check_told(error, self.error, self.disk)
            return
        self.possible |= {key: {value} for key, value in keys.items()}

    def check(self, store: Store) -> None:
        found = values(store, APP)
        wrong = {
            key: (value[:20] if (value := found.get(key)) is not None else None)
            for key in {*self.possible, *found}
            if found.get(key) not in self.possible.get(key, {None})
        }
        assert not wrong, f"what was acknowledged, and what is there: {wrong}"


def close(store: Store, key: bytes, content: bytes, how: How, later: list[Callable[[], object]]) -> None:
    """What a mount does at FLUSH. What it does at RELEASE, when nobody waits any more, goes to `later`."""
    put, draft = new_put(store, directory(store, APP), key, how), new_draft(store, content)
    try:
        store.publisher.prepare(put, draft, 1)
    except StoreError:
        with contextlib.suppress(StoreError):
            store.publisher.abandon(draft)
        raise

    def release() -> None:
        try:
            store.publisher.publish(put, draft, (put.ino, 1), later=True)
        except StoreError:
            store.publisher.publish_later(put, put.ino, 1)

    later.append(release)


def changes(store: Store, ledger: Ledger) -> None:
    """A little of everything that writes."""
    later: list[Callable[[], object]] = []

    def release() -> None:
        while later:
            later.pop(0)()
        with contextlib.suppress(StoreError):
            store.publisher.settle()

    new, large, log = b"new", value_of("new", LARGE), OLD[b"log"] + b"appended"
    ledger.do(lambda: close(store, b"small", new, How.REPLACE, later), small=new)
    ledger.do(lambda: close(store, b"log", b"appended", How.APPEND, later), log=log)
    release()
    ledger.do(lambda: close(store, b"large", large, How.REPLACE, later), large=large)
    release()
    ledger.do(store.sync)
    middling = value_of("middling", MIDDLING)
    ledger.do(lambda: store.put_object(APP, b"middling", middling), middling=middling)
    ledger.do(lambda: store.put_object(APP, b"edited", b"edited", force=True), edited=b"edited")
    ledger.do(lambda: rename(store, APP, b"moved", b"moved on"), moved=None, moved_on=b"moved")
    ledger.do(lambda: store.delete_object(APP, b"removed"), removed=None)
    ledger.do(lambda: store.put_object(APP, b"streamed", [large, large]), streamed=large + large)
    for work in (store.upkeep.sweep, store.upkeep.reclaim, store.upkeep.ripen, store.database.log.checkpoint):
        ledger.do(work)
    ledger.do(lambda: store.put_object(APP, b"again", large), again=large)
    ledger.do(store.sync)


class Stepper:
    """Stores in one directory, each a copy of one that was made without faults."""

    def __init__(self, where: Path, disk: FailingDisk, error: int, last: Callable[[int], int]) -> None:
        self.where = where
        self.disk = disk
        self.error = error
        self.last = last
        self.template = where / "template"

    def settings(self, name: str) -> ObjectStoreSettings:
        return ObjectStoreSettings(path=str(self.where / name / "objects.db"), pipeline_object_limit=LIMIT)

    def make_template(self, *, killed: bool) -> None:
        self.template.mkdir()
        child = os.fork()
        if not child:
            store = open_store(self.settings("template"))
            store.create_pipeline(APP.name)
            for key, value in OLD.items():
                store.put_object(APP, key, value)
            if killed:
                leave_intents(store)
                os._exit(0)  # as a kill does: nothing is closed
            store.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

    @contextlib.contextmanager
    def copy(self, number: int) -> Iterator[str]:
        name = f"step{number}"
        shutil.copytree(self.template, self.where / name)
        yield name
        shutil.rmtree(self.where / name)

    def arm(self, number: int) -> None:
        # SQLite does not tell why a sync or an open failed: of a full disk it has to be told when it writes.
        kinds = Kind.WRITE | Kind.CUT if told(self.error) == errno.ENOSPC else Kind.CHANGING
        self.disk.fail(self.error, first=number, last=self.last(number), kinds=kinds)

    def step_changes(self, number: int) -> None:
        with self.copy(number) as name:
            store = open_store(self.settings(name))
            ledger = Ledger(self.error, self.disk)
            self.arm(number)
            changes(store, ledger)
            self.disk.mend()
            store.publisher.publish_again()
            ledger.check(store)
            check_store(store)
            store.close()
            self.check_again(name, ledger)

    def step_recovery(self, number: int) -> None:
        with self.copy(number) as name:
            self.arm(number)
            try:
                open_store(self.settings(name)).close()
            except StoreError as error:
                check_told(error, self.error, self.disk)
            self.disk.mend()
            ledger = Ledger(self.error, self.disk)
            ledger.possible |= RECOVERED
            self.check_again(name, ledger)

    def check_again(self, name: str, ledger: Ledger) -> None:
        store = open_store(self.settings(name))
        ledger.check(store)
        check_nothing_left(store)
        store.close()


RECOVERED: dict[bytes, set[bytes | None]] = {
    b"small": {b"in the journal"},
    b"large": {value_of("in the table", LARGE)},
    b"log": {OLD[b"log"] + b"appended"},
    b"new": {b"named for itself alone"},
    b"victim": {None},
}


def leave_intents(store: Store) -> None:
    """What close() has acknowledged and RELEASE has not published: entries of the journal and rows of the table."""
    for key, content, how in (
        (b"small", b"in the journal", How.REPLACE),
        (b"large", value_of("in the table", LARGE), How.REPLACE),
        (b"log", b"appended", How.APPEND),
        (b"new", b"named for itself alone", How.CREATE),
    ):
        close(store, key, content, how, [])
    new_draft(store, value_of("never closed", LARGE))


def open_files() -> list[str]:
    with os.scandir("/proc/self/fd") as entries:
        return [os.readlink(entry.path) for entry in entries]


def run(job: str, error: int, mode: str, every: int, offset: int) -> int:
    """Run the steps; returns how many there were."""
    disk = FailingDisk(os.environ["FAILING_DISK_CONTROL"])
    last = (lambda number: FOR_EVER) if mode == "for-ever" else (lambda number: number)
    stepper = Stepper(Path(os.environ["FAILING_DISK_DIRECTORY"]), disk, error, last)
    stepper.make_template(killed=job == "recovery")
    step = stepper.step_recovery if job == "recovery" else stepper.step_changes
    step(2**62)  # without a fault, to have everything open that stays open
    gc.collect()
    descriptors, threads = len(open_files()), threading.active_count()
    number, steps = 1 + offset, 0
    while True:
        try:
            step(number)
        except BaseException:
            print(f"{job}, {mode}, call {number} failed with errno {error}: {disk.what}", file=sys.stderr)
            raise
        if not disk.failed:
            break
        steps += 1
        number += every
    gc.collect()  # what an exception held
    assert len(open_files()) <= descriptors, open_files()
    assert threading.active_count() == threads
    return steps


if __name__ == "__main__":
    job, name, mode, every, offset = sys.argv[1:]
    error = SHORT if name == "SHORT" else getattr(errno, name)
    print(run(job, error, mode, int(every), int(offset)))
