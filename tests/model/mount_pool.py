"""Mounts and workers for the machine: what can be kept or made ahead, so that an example starts at once."""

import atexit
from concurrent.futures import Future, ThreadPoolExecutor

from tests.model.workers import Worker
from tests.support.mounting import MountedStore


class Mount(MountedStore):
    """A store that is told other limits when it is mounted again."""

    def tell_limits(self, limit: int, expiry: int) -> None:
        """For daemons that are started from now on."""
        self._environment |= {"FUSEFS_PIPELINE_OBJECT_LIMIT": str(limit), "FUSEFS_RUN_OBJECT_EXPIRY": str(expiry)}


class Pool:
    """What is kept from one example to the next: idle workers, the process that only looks, and the next mount."""

    def __init__(self) -> None:
        self._idle: list[Worker] = []
        self._making = ThreadPoolExecutor(1)
        self._next: Future[Mount] | None = None
        self.observer = Worker()
        atexit.register(self.close)

    def take(self) -> Worker:
        return self._idle.pop() if self._idle else Worker()

    def give(self, worker: Worker) -> None:
        """Take back a worker whose example is over, whatever state it is in."""
        try:
            worker("drop_all()")
            self._idle.append(worker)
        except (AssertionError, OSError):
            worker.kill()

    def mount(self, limit: int, expiry: int) -> Mount:
        """A new store, mounted; the next is made meanwhile."""
        made = self._next or self._making.submit(_made, limit, expiry)
        self._next = self._making.submit(_made, limit, expiry)
        return made.result()

    def close(self) -> None:
        """Let everything go that nobody took."""
        for worker in [*self._idle, self.observer]:
            worker.stop()
        self._idle.clear()
        if self._next is not None:
            self._next.result().close()
            self._next = None
        self._making.shutdown()
        atexit.unregister(self.close)


def _made(limit: int, expiry: int) -> Mount:
    mount = Mount(pipeline_object_limit=limit, run_object_expiry=expiry)
    mount.mount()
    return mount
