"""One of the processes that write: `python -m tests.crash.campaign.load MOUNT LEDGER WORKER SEED SYNCING`.

It waits for a line on its standard input that says what is there of its own, works until the mount fails under it, says
"stopped", and waits for the next line. Each thing that it does is a step in its ledger.
"""

import ctypes
import errno
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.crash.campaign import layout
from tests.crash.campaign.edited import Edited, temporary_name
from tests.crash.campaign.ledger import Ledger, Step, edited_of, value_of
from tests.crash.campaign.values import LARGEST, Record, Value, encode
from tests.support.disks import sync

_PUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_WRITE_BYTES = 1024 * 1024
_LONGEST = 12
"""How many records are appended to a key before it is put anew."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2

_libc = ctypes.CDLL(None, use_errno=True)


class Worker:
    """One process of the load."""

    def __init__(self, mount: str, ledger: str, worker: int, seed: str, syncing: float) -> None:
        self._mount = mount
        self._ledger = Ledger(ledger)
        self._worker = worker
        self._chance = random.Random(f"{seed} {worker}")
        self._syncing = syncing
        """How many Puts of all call fsync."""
        self._number = 0
        self._keys: dict[str, Value] = {}
        """By path, what is in its own directory and its runs."""
        self._edited = Edited()
        self._runs: list[str] = []
        self._what: dict[Callable[[], None], int] = {
            self.put: 30,
            self.append: 15,
            self.put_in_stages: 3,
            self.rename: 8,
            self.exchange: 3,
            self.delete: 8,
            self.log: 15,
            self.limited: 20,
            self.edit: 15,
            self.start_run: 3,
            self.put_in_run: 8,
            self.take_from_run: 4,
            self.sync: 2,
        }

    def serve(self) -> None:
        for line in sys.stdin:
            self._know(json.loads(line))
            try:
                while True:
                    (step,) = self._chance.choices(list(self._what), list(self._what.values()))
                    step()
            except OSError as error:
                self._ledger.died(error.errno or 0)
            print("stopped", flush=True)

    def _know(self, told: dict[str, Any]) -> None:
        self._keys = {path: value_of(value) for path, value in told["keys"].items()}
        self._edited = edited_of(told["edited"])
        self._runs = told["runs"]

    # Steps

    def _begin(
        self, what: str, path: str, changes: dict[str, Value | None] | None = None, edited: Edited | None = None
    ) -> int:
        """Write down what is going to be done."""
        self._ledger.begin(Step(self._number, what, path, changes or {}, edited))
        return self._number

    def _done(self, changes: dict[str, Value | None]) -> None:
        for path, value in changes.items():
            if value is None:
                self._keys.pop(path, None)
            else:
                self._keys[path] = value

    def _record(self, largest: int = LARGEST) -> Record:
        """What the next step is going to write."""
        ((least, most),) = self._chance.choices(*zip(*layout.SIZES, strict=True))
        self._number += 1
        return Record(self._worker, self._number, min(largest, self._chance.randint(least, most)))

    def _write(self, path: str, flags: int, record: Record | None, then: Callable[[int], None] | None = None) -> None:
        """A Put or an append of a record, in the step that has begun."""
        number = self._number
        fd = os.open(f"{self._mount}/{path}", flags, 0o600)
        try:
            if record is not None:
                _write_all(fd, encode(record))
            if self._chance.random() < self._syncing or then is not None:
                os.fsync(fd)
                self._ledger.acknowledged(number, synced=True)
            if then is not None:
                then(fd)
        except BaseException:
            with suppress(OSError):
                os.close(fd)
            raise
        os.close(fd)
        self._ledger.acknowledged(self._number)

    def _own(self, *, there: bool) -> str | None:
        """One of its own keys, one that exists or any."""
        keys = layout.own_keys(self._worker)
        keys = [key for key in keys if key in self._keys] if there else keys
        return self._chance.choice(keys) if keys else None

    def put(self) -> None:
        path = self._own(there=False)
        assert path is not None
        record = None if self._chance.random() < 0.03 else self._record()
        self._number += record is None
        changes: dict[str, Value | None] = {path: () if record is None else (record,)}
        self._begin("put", path, changes)
        self._write(path, _PUT, record)
        self._done(changes)

    def append(self) -> None:
        path = self._own(there=False)
        assert path is not None
        old = self._keys.get(path, ())
        if len(old) >= _LONGEST:
            return
        record = self._record(100_000)
        changes: dict[str, Value | None] = {path: (*old, record)}
        self._begin("append", path, changes)
        self._write(path, _APPEND, record)
        self._done(changes)

    def put_in_stages(self) -> None:
        """fsync publishes what is written so far, and close what comes after it: two steps through one descriptor."""
        path = self._own(there=False)
        assert path is not None
        first = self._record()
        changes: dict[str, Value | None] = {path: (first,)}
        self._begin("put", path, changes)

        def go_on(fd: int) -> None:
            second = self._record()
            changes[path] = (first, second)
            self._begin("write on", path, changes)
            _write_all(fd, encode(second))

        self._write(path, _PUT, first, go_on)
        self._done(changes)

    def rename(self) -> None:
        old, new = self._own(there=True), self._own(there=False)
        if old is not None and new is not None and old != new:
            self._rename(old, new)

    def _rename(self, old: str, new: str) -> None:
        changes = {old: None, new: self._keys[old]}
        self._number += 1
        self._begin(f"rename {old} to", new, changes)
        os.rename(f"{self._mount}/{old}", f"{self._mount}/{new}")
        self._ledger.acknowledged(self._number)
        self._done(changes)

    def exchange(self) -> None:
        first, second = self._own(there=True), self._own(there=True)
        if first is None or second is None or first == second:
            return
        changes: dict[str, Value | None] = {first: self._keys[second], second: self._keys[first]}
        self._number += 1
        self._begin(f"exchange {first} with", second, changes)
        paths = [os.fsencode(f"{self._mount}/{path}") for path in (first, second)]
        if _libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE):
            raise OSError(ctypes.get_errno(), "renameat2")
        self._ledger.acknowledged(self._number)
        self._done(changes)

    def delete(self) -> None:
        path = self._own(there=True)
        if path is None:
            return
        self._number += 1
        self._begin("delete", path, {path: None})
        os.unlink(f"{self._mount}/{path}")
        self._ledger.acknowledged(self._number)
        self._done({path: None})

    def sync(self) -> None:
        """fsync of a directory: everything closed before survives."""
        self._number += 1
        path = layout.own_directory(self._worker)
        self._begin("sync", path)
        sync(Path(self._mount, path))
        self._ledger.acknowledged(self._number, synced=True)

    def log(self) -> None:
        path = self._chance.choice(layout.LOGS)
        record = self._record(8000)
        self._begin("log", path, {path: (record,)})
        self._write(path, _APPEND, record)

    def limited(self) -> None:
        path = f"{layout.LIMITED}/{self._chance.choice(layout.limited_names(self._worker))}"
        record = self._record()
        self._begin("put", path, {path: (record,)})
        self._write(path, _PUT, record)

    # Its own full pipeline

    def edit(self) -> None:
        """Put a key, or a temporary name that displaces the oldest key, or see to the one that is there."""
        directory = layout.edited_pipeline(self._worker)
        temporary = self._edited.temporary
        if temporary is None:
            name = self._chance.choice(layout.edited_names())
            record = self._record()
            if self._chance.random() < 0.5:
                name = temporary_name(self._number)
            after = self._edited.put(name, (record,))
            self._begin("put", f"{directory}/{name}", edited=after)
            self._write(f"{directory}/{name}", _PUT, record)
        elif self._chance.random() < 0.3 or not self._edited.replaceable:
            self._number += 1
            after = self._edited.give_up()
            self._begin("delete", f"{directory}/{temporary}", edited=after)
            os.unlink(f"{self._mount}/{directory}/{temporary}")
            self._ledger.acknowledged(self._number)
        else:
            self._number += 1
            name = self._chance.choice(self._edited.replaceable)
            after = self._edited.replace(name)
            self._begin(f"rename {directory}/{temporary} to", f"{directory}/{name}", edited=after)
            os.rename(f"{self._mount}/{directory}/{temporary}", f"{self._mount}/{directory}/{name}")
            self._ledger.acknowledged(self._number)
        self._edited = after

    # Runs, which may expire at any moment

    def start_run(self) -> None:
        self._number += 1
        run = f"{self._worker}.{self._number}"
        self._begin("start", f"{layout.RUNS}/{run}")
        os.mkdir(f"{self._mount}/{layout.RUNS}/{run}")
        self._ledger.acknowledged(self._number)
        self._runs.append(run)

    def put_in_run(self) -> None:
        if not self._runs:
            return
        run = self._chance.choice(self._runs)
        path = f"{layout.RUNS}/{run}/k{self._chance.randrange(3)}"
        record = self._record()
        changes: dict[str, Value | None] = {path: (record,)}
        self._begin("put", path, changes)
        with self._unless_expired(run):
            self._write(path, _PUT, record)
            self._done(changes)

    def take_from_run(self) -> None:
        paths = [path for path in self._keys if layout.run_of(path) is not None]
        new = self._own(there=False)
        if paths and new is not None:
            old = self._chance.choice(paths)
            with self._unless_expired(str(layout.run_of(old))):
                self._rename(old, new)

    @contextmanager
    def _unless_expired(self, run: str) -> Iterator[None]:
        """What is inside may be refused because the run is gone."""
        try:
            yield
        except FileNotFoundError:
            self._ledger.refused(self._number, errno.ENOENT)
            self._runs.remove(run)
            self._keys = {path: value for path, value in self._keys.items() if layout.run_of(path) != run}


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:_WRITE_BYTES]) :]


if __name__ == "__main__":
    Worker(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5])).serve()
