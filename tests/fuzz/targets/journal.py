"""The journal of a session that died: any file, and entries that check and hold anything."""

import os
import struct
import zlib
from pathlib import Path

import msgspec

from engine import journal
from engine.errors import StoreError
from engine.journal import Entry
from engine.model import ScopeName
from engine.store import Store
from tests.fuzz.scratch import directory
from tests.fuzz.source import Source
from tests.fuzz.stores import new_store
from tests.support.invariants import check_store

WORDS = (
    b"\x95\x01\x02\x03\xc0\xc4\x00",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\0\0\0\0\0\0\0",
    b"\xc4\x01x",
)
SEEDS = (
    b"\0" + bytes(16),
    b"\1\0\1\x95\x01\x02\x03\xc0\xc4\x00",
    b"\1\1\1\x95\x01\x02\x03\xc0\xc4\x00",
    b"\2\3\0\0\0\0\0\0\0\0\1x",
    b"\2\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1",
    b"\6\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1",
    b"\3\1\x95\x01\x02\x03\xc0\xc4\x00",
)
_SESSION = 7
KEY = b"\xc1" + bytes(range(15))


def run(data: bytes) -> None:
    """The first byte says what the rest is: the file, payloads that check, or what entries say; and then recovers."""
    source = Source(data)
    kind = source.below(8)
    if kind == 0:
        _read(source.rest())
    elif kind == 1:
        _read(_raw_entries(source, KEY if source.flag() else b""))
    elif kind == 3:
        _recover(_raw_entries(source, KEY), strange=True)
    else:
        _recover(_entries(source, KEY if kind < 6 else b""), strange=False)


def framed(payload: bytes, key: bytes = KEY) -> bytes:
    """An entry that checks; without a key, one of a journal from before there were any."""
    return struct.pack("<II", len(key + payload), zlib.crc32(key + payload)) + key + payload


def _raw_entries(source: Source, key: bytes) -> bytes:
    return b"".join(framed(source.blob(), key) for _ in range(source.below(4) + 1)) + source.rest()


def _read(content: bytes) -> list[Entry]:
    path = Path(directory(), "journal")
    path.write_bytes(content)
    entries = journal.read(path)
    for entry in entries:
        if entry.put is not None:
            put = entry.as_put()
            assert put.name not in (b"", b".", b"..")
            assert not {b"/", b"\0"} & {put.name[at : at + 1] for at in range(len(put.name))}
    numbers = [entry.number for entry in entries]
    assert numbers == sorted(set(numbers))
    return entries


def _entries(source: Source, key: bytes) -> bytes:
    """Entries of the right form, with any values."""
    found = []
    for number in range(source.below(6) + 1):
        times = [None if source.flag() else source.number() for _ in range(2)]
        xattrs = source.blob() if source.flag() else None
        owner = source.number(), source.number(), source.number()
        home = source.pick((0, 1, 2, 3, 4, 5, 6, 7, 8, 2**63 - 1))
        # A content that nothing else has, as whoever wrote it took its number for this alone.
        put = (source.below(6), home, source.name(), *owner, 1000 + number, *times, xattrs)
        entry = (number + source.below(2), 500 + source.below(4), source.below(3), put, source.blob())
        found.append(framed(msgspec.msgpack.encode(entry), key))
    return b"".join(found)


def _recover(content: bytes, *, strange: bool) -> None:
    """Open a store that a session with this journal has left. `strange`: its numbers are of nothing that there was."""
    with new_store(pipeline_object_limit=2) as store:
        for name in (b"app", b"other"):
            store.create_pipeline(name)
        store.put_object(ScopeName.pipeline(b"app"), b"old", b"value", force=False)
        store.database.rows("UPDATE store SET next_id = 2000")
        store.database.rows(
            "INSERT INTO session (id, seen, pid) VALUES (?, (SELECT clock_ns FROM store), 1)", (_SESSION,)
        )
        assert store.database.path is not None
        path = journal.path_of(store.database.path, _SESSION)
        path.write_bytes(content)
        _check_recovery(store, strange=strange)
        assert not os.path.exists(path)


def _check_recovery(store: Store, *, strange: bool) -> None:
    try:
        store.publisher.recover()
    except StoreError:
        assert strange, "what is well formed is recovered, or has nowhere to go"
        return
    if not strange:
        check_store(store)
    assert b"".join(store.read_object(ScopeName.pipeline(b"app"), b"old")) is not None
