"""Damage to what is known: the pages of one table."""

import sqlite3
import struct
from pathlib import Path

PAGE = 4096
LEAF_TABLE, INTERIOR = 13, 5


def pages_of(path: Path, table: str, kind: int | None = None) -> list[int]:
    """The pages of a table or an index, by number; of one kind of page where `kind` says so."""
    database = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    try:
        ((root,),) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchall()
    finally:
        database.close()
    data = path.read_bytes()
    found, waiting = [], [root]
    while waiting:
        number = waiting.pop()
        page = data[(number - 1) * PAGE : number * PAGE]
        if kind is None or page[0] == kind:
            found.append(number)
        if page[0] in (2, 5):
            (count,) = struct.unpack_from(">H", page, 3)
            cells = struct.unpack_from(f">{count}H", page, 12)
            waiting += [struct.unpack_from(">I", page, at)[0] for at in (*cells, 8)]
    return sorted(found)


def ruin(path: Path, *numbers: int) -> None:
    """Make pages unreadable: every byte another one."""
    with path.open("r+b") as file:
        for number in numbers:
            file.seek((number - 1) * PAGE)
            page = file.read(PAGE)
            file.seek((number - 1) * PAGE)
            file.write(bytes(byte ^ 0x5A for byte in page))


def turn_bit(path: Path, at: int) -> None:
    """Turn the lowest bit of a byte."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
