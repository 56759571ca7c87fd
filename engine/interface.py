"""The interface of a content engine: what keeps the bytes of the objects, each value under a key.

Names, order, eviction and expiry are the catalog's affair. The store chooses the keys, puts each value once
and never changes it, so an engine needs no more than the four abstract methods of `ObjectEngine`. The other
methods have defaults that are right for every engine and hold a whole value in memory; an engine that can do
better overrides them.

An engine raises nothing but the errors of `engine.errors`: beside those named at each method, OutOfSpaceError
when it is full, UnavailableError when it cannot be reached, InternalError for any other failure. A method that
raises has changed nothing. The store calls an engine from several threads at once.

To be found by name, a distribution registers its class in the entry-point group "fusefs.engines".
`engine.conformance` is the test suite to run against it.
"""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from engine.errors import InvalidError

KEY_MAX_BYTES = 80
"""Every engine takes keys of this many bytes of UTF-8, and may refuse longer ones with InvalidError.

Three times as many, what percent-encoding makes of them at worst, still fit into a file name.
"""

RANGE_BYTES = 1024 * 1024
"""The most that `stored_ranges` has in one piece."""


def check_key(key: str) -> str:
    """Return `key` when an engine may have it: not empty, no NUL, text that UTF-8 can express. Raises InvalidError."""
    if not key:
        raise InvalidError("the key is empty")
    if "\0" in key:
        raise InvalidError(f"invalid key {key!r}: it holds a NUL")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise InvalidError(f"invalid key {key!r}: it is not UTF-8") from error
    return key


def check_range(offset: int, length: int) -> None:
    """Raise InvalidError unless `offset` and `length` are both 0 or more."""
    if offset < 0 or length < 0:
        raise InvalidError(f"invalid range: {length} bytes from {offset}")


class ObjectEngine(ABC):
    """Values under keys. Safe to use from several threads at once.

    Keys are text, as `check_key` accepts it, compared character by character: a slash, a dot, a percent sign or a
    capital letter has no meaning of its own. Every method that takes a key raises InvalidError for one that
    `check_key` refuses.
    """

    shares_catalog: ClassVar[bool] = False
    """Its writes take part in the catalog's own transaction. Only the embedded SQLite engine sets it."""

    persistent: ClassVar[bool] = True
    """False: the content is gone with the process."""

    waits: ClassVar[bool] = True
    """Whether reading may wait for a disk or a network: then the mount reads in threads, small values too."""

    # A class without state is complete, hence the three empty methods that are not abstract.
    def __init__(self, options: Mapping[str, str]) -> None:  # noqa: B027
        """Open the engine with what the configuration says; "location" is the part of a --store URL after NAME:.

        Raises InvalidError for an option that it cannot use, OpenError when it cannot be opened.
        """

    @abstractmethod
    def get_object(self, key: str) -> bytes:
        """Return the value under `key`, whole. Raises NotFoundError."""

    @abstractmethod
    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        """Keep `content` under `key`; with `force`, in place of the value that may be there.

        The change happens at once: every reader gets the old value or the new one, whole, and of several puts without
        `force` one wins. On return the value is readable by everybody; it survives a power cut too, unless the engine
        overrides `sync`. Any bytes-like object will do as `content`; what the caller does to it later changes nothing.

        Raises ExistsError when `key` has a value and `force` is false.
        """

    @abstractmethod
    def list_object_keys(self, prefix: str = "") -> list[str]:
        """Return every key that starts with `prefix`, each once, in no particular order.

        The prefix is literal: `%`, `_`, `*` and `?` stand for themselves. The empty prefix gives all keys.
        """

    @abstractmethod
    def delete_object(self, key: str) -> None:
        """Forget `key` and its value. Raises NotFoundError."""

    def object_size(self, key: str) -> int:
        """Return the size in bytes of the value under `key`. Raises NotFoundError."""
        return len(self.get_object(key))

    def read_object(self, key: str, offset: int, length: int) -> bytes:
        """Return `length` bytes of the value under `key`, from the byte `offset` on; fewer, or none, past its end.

        Raises NotFoundError, and InvalidError when `offset` or `length` is negative.
        """
        check_range(offset, length)
        return self.get_object(key)[offset : offset + length]

    def stored_ranges(self, key: str) -> Iterator[tuple[int, int]]:
        """Where the value under `key` has bytes that are kept: offsets and lengths, rising, of at most 1 MiB each.

        What is in none of them reads as zeros and takes no room, so that who reads everything is done in a time that
        does not depend on how large holes are. Raises NotFoundError and DamagedError.
        """
        size = self.object_size(key)
        return ((offset, min(RANGE_BYTES, size - offset)) for offset in range(0, size, RANGE_BYTES))

    def put_stream(self, key: str, chunks: Iterable[bytes], force: bool = False) -> None:
        """Keep the bytes of all `chunks`, one after the other, as one value: `put_object` for what comes in pieces.

        A chunk is valid only until the next one is asked for: the caller may fill one buffer again and again. `chunks`
        may use the engine meanwhile, which still shows the old value or none. An exception that it raises is passed on,
        and then nothing has changed. Before the engine itself raises, it may have taken any number of the chunks.

        Raises ExistsError when `key` has a value and `force` is false.
        """
        # Not bytes.join: it collects all chunks first, and would see a buffer that is filled again only as it was last.
        whole = io.BytesIO()
        for chunk in chunks:
            whole.write(chunk)
        self.put_object(key, whole.getvalue(), force)

    def copy_object(self, source: str, target: str) -> None:
        """Keep the value under `source` under `target` as well. Each can be deleted without harm to the other.

        Raises NotFoundError when there is no `source`, ExistsError when `target` has a value already.
        """
        self.put_object(target, self.get_object(source))

    def sync(self) -> None:  # noqa: B027
        """Return once everything put or deleted before survives a power cut.

        The default does nothing, and is right where `put_object` returns only then.
        """

    def close(self) -> None:  # noqa: B027
        """Give back files, connections and threads. The engine is not used after it, except to close it again."""
