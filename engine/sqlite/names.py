"""How a store's files are called and known, for those who do not open one: SQLite is not loaded here."""

import os
from pathlib import Path

from engine.errors import OpenError

SQLITE_MAGIC = b"SQLite format 3\0"
"""How every database of SQLite begins."""
SUFFIXES = ("", "-wal", "-shm", "-lock", "-data")


def name_for_sqlite(path: Path) -> str:
    """By which name to open a file that is no symlink. Raises OpenError for one that SQLite cannot open."""
    # SQLite takes no symlink on the way either; the directories on the way are those of whoever named the store.
    name = os.path.join(os.path.realpath(path.parent), path.name)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise OpenError(f"{name} is not UTF-8, as the names of stores and the directories above have to be") from None
    return name


def is_of_store(path: str, store: str) -> bool:
    """Whether a path is one of those that a store has for its files, be they there or not, or leads to one of them."""
    path, store = os.path.realpath(path), os.path.realpath(store)
    ending = path.removeprefix(store)
    if path.startswith(store) and (ending in (*SUFFIXES, "-journal") or ending.startswith("-puts-")):
        return True
    try:
        about = os.stat(path)
    except OSError:
        return False
    return any(_is(f"{store}{suffix}", about) for suffix in SUFFIXES)


def _is(path: str, about: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), about)
    except OSError:
        return False
