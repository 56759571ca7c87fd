"""Engines that each break one promise of the interface, and the suite for each of them, which must fail.

Collected only when this file is named: it does not match the pattern of test files.
"""

import re
import time
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from engine.conformance import EngineConformance
from engine.errors import ExistsError, InvalidError, NotFoundError
from engine.interface import ObjectEngine
from engine.memory import MemoryEngine


class Broken(MemoryEngine):
    """Whole in itself. What derives from it names the test that must notice."""

    breaks: ClassVar[str]


class IgnoresForce(Broken):
    breaks = "test_without_force_the_old_value_stands"

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        super().put_object(key, content, force=True)


class NeverReplaces(Broken):
    breaks = "test_force_replaces_the_whole_value"

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        if not force or key not in self.list_object_keys():
            super().put_object(key, content)


class TakesEmptyForMissing(Broken):
    breaks = "test_an_empty_value_exists_too"

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        try:
            super().put_object(key, content, force or not self.get_object(key))
        except NotFoundError:
            super().put_object(key, content)


class ReturnsItsBuffer(Broken):
    breaks = "test_what_is_put_is_got"

    def get_object(self, key: str) -> bytes:
        return bytearray(super().get_object(key))  # type: ignore[return-value]


class KeepsTheCallersBuffer(Broken):
    breaks = "test_a_value_is_not_the_callers_buffer"

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        super().put_object(key, b"", force)
        self._values[key] = content


class CollectsChunks(Broken):
    breaks = "test_what_is_put_is_got"

    def put_stream(self, key: str, chunks: Iterable[bytes], force: bool = False) -> None:
        self.put_object(key, b"".join(chunks), force)


class AppendsChunks(Broken):
    breaks = "test_a_broken_stream_stores_nothing"

    def put_stream(self, key: str, chunks: Iterable[bytes], force: bool = False) -> None:
        self.put_object(key, b"", force)
        for chunk in chunks:
            self.put_object(key, self.get_object(key) + chunk, force=True)


class DeletesBeforeStreaming(Broken):
    breaks = "test_a_broken_stream_leaves_the_old_value"

    def put_stream(self, key: str, chunks: Iterable[bytes], force: bool = False) -> None:
        if force and key in self._values:
            self.delete_object(key)
        super().put_stream(key, chunks, force)


class TranslatesTheStreamsError(Broken):
    breaks = "test_a_broken_stream_stores_nothing"

    def put_stream(self, key: str, chunks: Iterable[bytes], force: bool = False) -> None:
        try:
            super().put_stream(key, chunks, force)
        except (ExistsError, InvalidError):
            raise
        except Exception as error:
            raise InvalidError("no stream") from error


class ListsByPattern(Broken):
    breaks = "test_a_prefix_is_literal"

    def list_object_keys(self, prefix: str = "") -> list[str]:
        pattern = re.escape(prefix).replace("%", ".*").replace("_", ".")
        return [key for key in super().list_object_keys() if re.match(pattern, key, re.DOTALL)]


class ListsOnePage(Broken):
    breaks = "test_many_keys_are_listed_once_each"

    def list_object_keys(self, prefix: str = "") -> list[str]:
        return super().list_object_keys(prefix)[:1000]


class RoundsSizesUp(Broken):
    breaks = "test_what_is_put_is_got"

    def object_size(self, key: str) -> int:
        return (super().object_size(key) + 511) // 512 * 512


class JoinsPartsOfKeys(Broken):
    breaks = "test_no_two_keys_collide"

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        super().put_object(key.replace("/", "_"), content, force)

    def get_object(self, key: str) -> bytes:
        return super().get_object(key.replace("/", "_"))


class NormalizesKeys(Broken):
    breaks = "test_no_two_keys_collide"

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        super().put_object(unicodedata.normalize("NFC", key), content, force)


class DeletesWhatLiesBelow(Broken):
    breaks = "test_deleting_a_key_takes_no_other"

    def delete_object(self, key: str) -> None:
        super().delete_object(key)
        for below in self.list_object_keys(f"{key}/"):
            super().delete_object(below)


class DeletesWhatIsMissing(Broken):
    breaks = "test_a_missing_key_is_not_found"

    def delete_object(self, key: str) -> None:
        if key in self._values or not key:
            super().delete_object(key)


class TakesTheEmptyKey(Broken):
    breaks = "test_an_invalid_key_cannot_be_put"

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        super().put_object(key or "empty", content, force)


class ReadsFromTheEnd(Broken):
    breaks = "test_a_negative_range_is_invalid"

    def read_object(self, key: str, offset: int, length: int) -> bytes:
        return self.get_object(key)[offset:][:length]


class ReadsOneByteTooMany(Broken):
    breaks = "test_a_range_is_that_part_of_the_value"

    def read_object(self, key: str, offset: int, length: int) -> bytes:
        return super().read_object(key, offset, length + (length > 1_000_000))


class CopiesOverTheTarget(Broken):
    breaks = "test_a_copy_replaces_nothing"

    def copy_object(self, source: str, target: str) -> None:
        self.put_object(target, self.get_object(source), force=True)


class MovesInsteadOfCopying(Broken):
    breaks = "test_a_copy_is_the_same_value"

    def copy_object(self, source: str, target: str) -> None:
        super().copy_object(source, target)
        self.delete_object(source)


class LooksBeforeItPuts(Broken):
    breaks = "test_without_force_one_thread_wins"

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        if not force and key in self._values:
            raise ExistsError(key)
        time.sleep(0.01)  # what another thread needs to look as well
        super().put_object(key, content, force=True)


class DeletesBeforeItPuts(Broken):
    breaks = "test_with_force_readers_see_whole_values"

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        if force:
            self._values.pop(key, None)
            time.sleep(0.001)
        super().put_object(key, content, force)


class WritesInTwoHalves(Broken):
    breaks = "test_with_force_readers_see_whole_values"

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        super().put_object(key, content[: len(content) // 2], force)
        time.sleep(0.001)
        super().put_object(key, content, force=True)


class ForgetsOnClose(Broken):
    breaks = "test_content_outlives_a_persistent_engine"
    persistent = True


class ClosesOnce(Broken):
    breaks = "test_sync_and_close_can_be_repeated"

    def close(self) -> None:
        del self._values


BROKEN: list[type[Broken]] = Broken.__subclasses__()


def _suite(engine: type[ObjectEngine]) -> type[EngineConformance]:
    def make_engine(self: EngineConformance, directory: Path) -> ObjectEngine:
        return engine({})

    return type(f"Test{engine.__name__}", (EngineConformance,), {"make_engine": make_engine})


TestBroken = _suite(Broken)
globals().update({f"Test{engine.__name__}": _suite(engine) for engine in BROKEN})
