"""Names and messages for people: a terminal obeys control characters, and a line of a log is not to become two.

A name is any bytes. What is printable is shown as it is, everything else by its bytes: `\\x1b`, and a backslash of the
name as two.
"""

import functools

_START_BYTES = 4096


def shown(name: bytes) -> str:
    """Return `name` as it is safe to show: printable characters, all others as backslash escapes."""
    return printable(name.decode("utf-8", "surrogateescape").replace("\\", "\\\\"))


def start_shown(path: bytes) -> str:
    """The same of the first 4 KiB, for what is written down for every path: one in deep directories has no limit."""
    return shown(path) if len(path) <= _START_BYTES else shown(path[:_START_BYTES]) + "..."


def printable(text: str) -> str:
    """Return a message on one line. Names that it quotes were shown before: backslashes stay as they are."""
    return text if text.isprintable() else "".join(map(_character, text))


@functools.lru_cache(maxsize=1024)  # a name may be nothing else, and everybody waits while it is logged
def _character(character: str) -> str:
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
