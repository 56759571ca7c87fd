"""A damaged store behind a real mount: what readers and a writer get, and whether the daemon lives."""

import errno
import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from types import TracebackType
from typing import Self

from engine.model import Kind
from tests.damage.making import Made
from tests.damage.reading import Truth
from tests.support.mounting import MountedStore

_WRITTEN = 5
_KIND = 0


class Damaged:
    """A copy of a store, to be damaged and then used through a mount."""

    def __init__(self, made: Made, truth: Truth) -> None:
        self._truth = truth
        self._mounted = MountedStore()
        self.directory = self._mounted.directory
        self.findings: list[str] = []
        for file in made.files():
            shutil.copyfile(file, self.directory / file.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._mounted.expect_log("ERROR|Traceback")  # each is looked at by `use`
        try:
            self._mounted.close()
        except AssertionError as ended:
            # To close a damaged store can fail as well; then the daemon says so when it is unmounted, and ends with 1.
            if "the daemon ended with 1" not in str(ended) or "Traceback" in str(ended):
                raise

    def use(self) -> Iterator[str]:
        """Mount, read everything, write, and see that the daemon is there. Yields a word for each thing."""
        try:
            self._mounted.mount()
        except AssertionError:
            if "Traceback" in self._mounted.log():
                self.findings.append(f"not an error that is known: {self._mounted.log()[-600:]}")
            yield "refused to mount"
            return
        for path, facts in self._truth.seen.facts.items():
            if facts[_KIND] == Kind.OBJECT:
                yield f"read: {self._read(path)}"
        for number in range(_WRITTEN):
            yield f"written: {self._write(b'pipeline/keep/written %d' % number)}"
        daemon = self._mounted.daemon
        if daemon is None or daemon.poll() is not None:
            self.findings.append(f"the daemon died: {self._mounted.log()[-600:]}")
        if "Traceback" in self._mounted.log():
            self.findings.append(f"not an error that is known: {self._mounted.log()[-600:]}")

    def _read(self, path: bytes) -> str:
        try:
            value = (self._mounted.path / os.fsdecode(path)).read_bytes()
        except OSError as error:
            return self._word(path, error)
        digest = sha256(value).digest()
        if digest == self._truth.values[path]:
            return "right"
        if digest in self._truth.older.get(path, ()):
            return "older"
        self.findings.append(f"{path!r} is wrong")
        return "wrong"

    def _write(self, path: bytes) -> str:
        try:
            (self._mounted.path / os.fsdecode(path)).write_bytes(path)
        except OSError as error:
            return self._word(path, error)
        try:
            found = (self._mounted.path / os.fsdecode(path)).read_bytes()
        except OSError as error:
            return self._word(path, error)
        if found != path:
            self.findings.append(f"{path!r} was written, and {found[:40]!r} is there")
        return "right"

    def _word(self, path: bytes, error: OSError) -> str:
        if error.errno not in (errno.EIO, errno.ENOENT):
            self.findings.append(f"{path!r}: {error}")
        return errno.errorcode[error.errno or 0]
