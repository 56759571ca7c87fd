"""What can be set, and what each value may be: the table of all settings and the check of one value.

`engine.config` collects the values from the file, the environment and the flags. Every refusal has one form: the
source, the key, the value, and what is allowed.
"""

import os
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from engine.errors import InvalidError
from engine.registry import BUILT_IN, EMBEDDED, engine_names

MAX_COUNT = 2**31 - 1
"""The most objects or runs that a limit can name."""
MAX_BYTES = 2**63 - 1
"""The largest size that a store can keep."""

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
Bytes = Annotated[int, msgspec.Meta(ge=0, le=MAX_BYTES)]
Seconds = Annotated[float, msgspec.Meta(ge=1, le=3600)]
Text = Annotated[str, msgspec.Meta(min_length=1, pattern=r"\A[^\0]+\Z")]
Durability = Literal["normal", "full"]
LogLevel = Literal["debug", "info", "warning", "error"]


class Given(NamedTuple):
    """A value as somebody gave it."""

    source: str
    """For messages: "flag --store", "file /etc/fusefs.toml"."""
    key: str
    """A name in `KEYS`."""
    value: object
    directory: str = ""
    """Where a relative path starts; empty: the current directory."""


class Key(NamedTuple):
    """A setting."""

    type: Any
    """What msgspec converts a value to."""
    allowed: str
    """The same in words."""
    variable: str | None = None
    """The environment variable that sets it."""


STORE = "store"
ENGINE = "object_store.engine"
PATH = "object_store.sqlite.path"
PIPELINE_OBJECT_LIMIT = "object_store.pipeline_object_limit"
RUN_OBJECT_EXPIRY = "object_store.run_object_expiry"
MAX_OBJECT_SIZE = "object_store.max_object_size"
MAX_PIPELINE_BYTES = "object_store.max_pipeline_bytes"
MAX_STORE_BYTES = "object_store.max_bytes"
DURABILITY = "object_store.durability"
LOG_LEVEL = "mount.log_level"
LOG_FILE = "mount.log_file"
REQUEST_TIMEOUT = "mount.request_timeout"
MAX_OPEN_WRITERS = "mount.max_open_writers"

_SIZES = (MAX_OBJECT_SIZE, MAX_PIPELINE_BYTES, MAX_STORE_BYTES)
_A_SIZE = 'a number of bytes or a size like "512MiB", 0 for no limit, below 8 EiB'

KEYS = {
    ENGINE: Key(Text, "sqlite or the name of an installed engine", "FUSEFS_ENGINE"),
    STORE: Key(Text, "a path, sqlite:PATH, memory: or ENGINE:LOCATION, in UTF-8", "FUSEFS_STORE"),
    PATH: Key(Text, "the path of a file, in UTF-8"),
    PIPELINE_OBJECT_LIMIT: Key(
        Count, f"a whole number from 0 (no limit) to {MAX_COUNT}", "FUSEFS_PIPELINE_OBJECT_LIMIT"
    ),
    RUN_OBJECT_EXPIRY: Key(Count, f"a whole number from 0 (never) to {MAX_COUNT}", "FUSEFS_RUN_OBJECT_EXPIRY"),
    MAX_OBJECT_SIZE: Key(Bytes, _A_SIZE, "FUSEFS_MAX_OBJECT_SIZE"),
    MAX_PIPELINE_BYTES: Key(Bytes, _A_SIZE, "FUSEFS_MAX_PIPELINE_BYTES"),
    MAX_STORE_BYTES: Key(Bytes, _A_SIZE, "FUSEFS_MAX_BYTES"),
    DURABILITY: Key(Durability, "normal or full", "FUSEFS_DURABILITY"),
    LOG_LEVEL: Key(LogLevel, "debug, info, warning or error", "FUSEFS_LOG_LEVEL"),
    LOG_FILE: Key(Text, "the path of a file, in UTF-8"),
    REQUEST_TIMEOUT: Key(Seconds, "a number of seconds from 1 to 3600", "FUSEFS_REQUEST_TIMEOUT"),
    MAX_OPEN_WRITERS: Key(Count, f"a whole number from 0 (no limit) to {MAX_COUNT}", "FUSEFS_MAX_OPEN_WRITERS"),
}

_SIZE = re.compile(r"([0-9]{1,19})\s?(?:([kmgt])(i?b)?|b)?", re.IGNORECASE | re.ASCII)


def parse_size(text: str) -> int | None:
    """Return the bytes in "512MiB" or "512M" (1024s, as in dd), "512MB" (1000s) or "512"; None for anything else."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    number, unit, suffix = found.groups()
    base = 1000 if (suffix or "").lower() == "b" else 1024
    size = int(number) * (base ** (1 + "kmgt".index(unit.lower())) if unit else 1)
    return size if size <= MAX_BYTES else None


def checked(given: Given) -> Any:
    """The value in its own type, paths absolute."""
    key = KEYS[given.key]
    value = given.value
    if given.key in _SIZES and isinstance(value, str):
        value = parse_size(value)
    elif given.key == LOG_LEVEL and isinstance(value, str):
        value = value.lower()
    try:
        if isinstance(value, str):
            value.encode()  # SQLite takes no other names of files
        # A file has numbers; an environment variable and a flag are text that stands for one.
        value = msgspec.convert(value, key.type, strict=not isinstance(value, str))
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise refusal(given, key.allowed) from None
    if given.key == ENGINE:
        _check_engine(given, value)
    return absolute(value, given.directory) if given.key in (PATH, LOG_FILE) else value


def refusal(given: Given, allowed: str) -> InvalidError:
    """The error for a value, in the one form that all of them have."""
    return InvalidError(f"{given.source}: {given.key} = {shown(given.value)} is not allowed: it takes {allowed}")


def shown(value: object) -> str:
    """A value for a message, of bounded length."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"  # more than Python converts
    return text if len(text) <= 120 else text[:117] + "..."


def absolute(path: str, directory: str) -> str:
    """Make `path` absolute: a relative one starts in `directory`, or in the current one where that is empty."""
    return os.path.abspath(os.path.join(directory, os.path.expanduser(path)))


def is_engine(name: str) -> bool:
    """Tell whether an engine of that name is installed."""
    # The built-in ones first: reading entry points takes 30 ms, which most stores need not spend.
    return name == EMBEDDED or name in BUILT_IN or name in engine_names()


def _check_engine(given: Given, name: str) -> None:
    if not is_engine(name):
        names = engine_names()
        raise refusal(given, f"one of {', '.join(names)}{nearest(name, names)}")


def nearest(name: str, names: Iterable[str]) -> str:
    """Name the most similar of `names` in brackets, to append to a message; nothing when none is similar."""
    import difflib  # for error messages alone

    found = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {found[0]}?)" if found else ""
