"""How a store's files are called and known, for those who do not open one: SQLite is not loaded here."""

import os

SQLITE_MAGIC = b"SQLite format 3\0"
"""How every database of SQLite begins."""
SUFFIXES = ("", "-wal", "-shm", "-lock", "-data")


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
