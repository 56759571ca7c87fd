"""A content engine in four methods: every value is a file in one directory.

A value's file is named "v" and its percent-encoded key. Values are written to files named "t" and something random,
which no key can produce, and get their name when they are whole and on the disk.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from engine.errors import ExistsError, InternalError, InvalidError, NotFoundError, OpenError, OutOfSpaceError
from engine.interface import ObjectEngine, check_key


class DirectoryEngine(ObjectEngine):
    """Keeps values in the directory `options["location"]`, which is made when it is missing."""

    def __init__(self, options: Mapping[str, str]) -> None:
        location = options.get("location")
        if not location:
            raise InvalidError("the engine dirstore needs a location: the directory that keeps the values")
        unknown = sorted(options.keys() - {"location"})
        if unknown:
            raise InvalidError(f"the engine dirstore has no option {unknown[0]!r}: it takes location")
        self._directory = Path(location)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OpenError(f"cannot make the directory {location}: {error.strerror}") from error

    def get_object(self, key: str) -> bytes:
        with _translated(key):
            return self._path(key).read_bytes()

    def put_object(self, key: str, content: bytes, force: bool = False) -> None:
        path = self._path(key)
        with _translated(key):
            written = self._write(content)
            try:
                if force:
                    os.replace(written, path)
                else:
                    os.link(written, path)  # unlike a rename, it fails where the name is taken
            finally:
                written.unlink(missing_ok=True)
            self._sync_directory()

    def list_object_keys(self, prefix: str = "") -> list[str]:
        with _translated(prefix):
            names = os.listdir(self._directory)
        keys = (unquote(name[1:]) for name in names if name.startswith("v"))
        return [key for key in keys if key.startswith(prefix)]

    def delete_object(self, key: str) -> None:
        with _translated(key):
            self._path(key).unlink()
            self._sync_directory()

    def _path(self, key: str) -> Path:
        name = "v" + quote(check_key(key), safe="")
        if len(name) > 255:
            raise InvalidError(f"the key {key!r} is too long for a file name")
        return self._directory / name

    def _write(self, content: bytes) -> Path:
        descriptor, name = tempfile.mkstemp(prefix="t", dir=self._directory)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            os.unlink(name)
            raise
        return Path(name)

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"no value {key!r}") from error
    except FileExistsError as error:
        raise ExistsError(f"the value {key!r} exists") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (OutOfSpaceError if full else InternalError)(f"value {key!r}: {error.strerror}") from error
