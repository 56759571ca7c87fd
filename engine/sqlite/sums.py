"""Sums of sizes where holes may have more together than SQLite counts to: its own sum() fails there.

Made of two halves of 32 bits, which no number of rows makes too large.
"""


def at_most(column: str) -> str:
    """An expression for the sum of a column of sizes, or the largest integer where it is more."""
    return f"iif({_upper(column)} < 2147483648, {wrapped(column)}, 9223372036854775807)"


def wrapped(column: str) -> str:
    """The same modulo 2**64, as a signed integer."""
    return f"(({_upper(column)} << 32) | ({_lower(column)} & 4294967295))"


def _upper(column: str) -> str:
    return f"(coalesce(sum({column} >> 32), 0) + ({_lower(column)} >> 32))"


def _lower(column: str) -> str:
    return f"coalesce(sum({column} & 4294967295), 0)"
