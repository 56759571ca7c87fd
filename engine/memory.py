"""A content engine in the memory of the process: for tests, and for stores that nobody needs tomorrow.

The lock protects `_values`. A value is an immutable bytes object and is shared with callers, never copied, which
makes most of the interface's defaults as good as anything written for this engine.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from engine.errors import ExistsError, InvalidError, NotFoundError, OutOfSpaceError
from engine.interface import ObjectEngine, check_key


class MemoryEngine(ObjectEngine):
    """Keeps values until it is closed or the process ends. Two of them share nothing."""

    persistent: ClassVar[bool] = False
    waits: ClassVar[bool] = False

    def __init__(self, options: Mapping[str, str]) -> None:
        """Make an empty engine. It has no options: InvalidError for any but an empty "location"."""
        for name, value in options.items():
            if name != "location" or value:
                raise InvalidError(f"the memory engine takes no option, and got {name} = {value!r}")
        self._lock = threading.Lock()
        self._values: dict[str, bytes] = {}

    def get_object(self, key: str) -> bytes:
        check_key(key)
        # No lock: one look-up in a dict is atomic, and the value never changes.
        value = self._values.get(key)
        if value is None:
            raise NotFoundError(f"no object {key!r}")
        return value

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        check_key(key)
        value = bytes(content)  # the same object where it is bytes already, a copy where it could change
        with self._lock:
            if not force and key in self._values:
                raise ExistsError(f"object {key!r} exists")
            self._values[key] = value

    def put_stream(self, key: str, chunks: Iterable[bytes], force: bool = False) -> None:
        """As always. Raises OutOfSpaceError for more than half of the memory that the machine has left."""
        super().put_stream(key, _up_to(_available_memory() // 2, chunks), force)

    def list_object_keys(self, prefix: str = "") -> list[str]:
        with self._lock:
            return [key for key in self._values if key.startswith(prefix)]

    def delete_object(self, key: str) -> None:
        check_key(key)
        with self._lock:
            if self._values.pop(key, None) is None:
                raise NotFoundError(f"no object {key!r}")

    def close(self) -> None:
        with self._lock:
            self._values.clear()


def _up_to(most: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks, or OutOfSpaceError where they have more than so many bytes."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise OutOfSpaceError("the value is too large for the memory that is left")
        yield chunk


def _available_memory() -> int:
    """In bytes, as the kernel sees it (proc_meminfo(5), MemAvailable)."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
