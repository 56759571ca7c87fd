"""Names of pipelines, runs and keys: what is accepted, and how a key is taken apart."""

import re

from engine.errors import InvalidError, NameTooLongError

PART_MAX_BYTES = 255
"""The longest part of a key, as NAME_MAX of every Linux filesystem."""

_QUOTED = 300

_SCOPE_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_scope_name(kind: str, name: bytes) -> bytes:
    """Return `name` when a pipeline or run may have it. Raises InvalidError."""
    if _SCOPE_NAME.fullmatch(name) is None:
        raise InvalidError(
            f"invalid {kind} name {quoted(name)}: it takes 1 to 128 of A-Z a-z 0-9 . _ - and starts with a letter or"
            " digit"
        )
    return name


def check_part(part: bytes) -> bytes:
    """Return `part` when it may stand between the slashes of a key.

    Raises InvalidError, and NameTooLongError for more than 255 bytes.
    """
    if part in (b"", b".", b"..") or b"/" in part or b"\0" in part:
        raise InvalidError(f"invalid part {quoted(part)} of a key: not empty, not . or .., no slash and no NUL")
    if len(part) > PART_MAX_BYTES:
        raise NameTooLongError(f"a part of the key has {len(part)} bytes, and {PART_MAX_BYTES} is the most")
    return part


def split_key(key: bytes) -> list[bytes]:
    """Take `key` apart at its slashes. Raises InvalidError and NameTooLongError."""
    if not key:
        raise InvalidError("the key is empty")
    return [check_part(part) for part in key.split(b"/")]


def quoted(name: bytes) -> str:
    """A name or key as messages have it: in quotes, on one line, and only the beginning where it is long."""
    text = repr(name.decode("utf-8", "backslashreplace"))
    return text if len(text) <= _QUOTED else f"{text[: _QUOTED - 4]}...{text[-1]}"
