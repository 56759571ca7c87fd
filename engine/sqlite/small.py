"""A small value by its name in one statement, where catalog and contents share the file: it needs no snapshot."""

from functools import cache

from engine.model import Kind
from engine.sqlite.database import Database
from engine.sqlite.hashing import HASH_BYTES, check_small

_DEEPEST = 16


@cache
def _statement(depth: int) -> str:
    """For a key of so many parts."""
    directory = "(SELECT ino FROM node WHERE parent = ? AND name = ?)"
    for _ in range(depth - 1):
        directory = f"(SELECT ino FROM node WHERE parent = {directory} AND name = ?)"
    # A join in place of the inner query takes two and a half times as long.
    return (
        "SELECT kind, size, content, (SELECT CAST(hash || data AS BLOB) FROM content WHERE number = node.content)"
        f" FROM node WHERE parent = {directory} AND name = ?"
    )


def read_small(database: Database, home: int, scope: bytes, parts: list[bytes]) -> bytes | None:
    """The value of a key; None where there is none, or it is not a small one.

    Raises DamagedError.
    """
    if len(parts) > _DEEPEST:
        return None
    row = database.row(_statement(len(parts)), (home, scope, *parts))
    if row is None or row[0] != Kind.OBJECT:
        return None
    _, size, content, hash_and_data = row
    if not size or hash_and_data is None:
        return b"" if not size else None
    value: bytes = hash_and_data[HASH_BYTES:]
    check_small(content, value, hash_and_data[:HASH_BYTES])
    return value
