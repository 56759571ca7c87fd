"""The file of the journal: what is read is what was written, whatever is left of it."""

from pathlib import Path

import msgspec
import pytest

from engine import Store, journal
from engine.catalog.puts import How, Put
from engine.errors import InvalidError
from engine.journal import Entry, Journal
from tests.fuzz.targets.journal import framed
from tests.support.acknowledging import APP, put_later
from tests.support.stores import directory, new_draft, new_put, values


def entry(number: int, value: bytes) -> Entry:
    return Entry.of(
        number, 1, Put(number, 16, b"name", 0o644, 1, 2, number, len(value), How.APPEND, 5, None, b"x"), value
    )


@pytest.mark.parametrize("field", ["ino", "parent", "mode", "uid", "gid", "content"])
@pytest.mark.parametrize("number", [2**63, -1])
def test_numbers_that_the_catalog_cannot_keep(store: Store, field: str, number: int) -> None:
    """The writer is told: once it is acknowledged, it would keep all Puts behind it from being published."""
    put = new_put(store, directory(store, APP), b"k")
    setattr(put, field, number)
    with pytest.raises(InvalidError):
        Entry.of(1, 1, put, b"value")


def test_times_that_the_catalog_cannot_keep(store: Store) -> None:
    for time in (2**63, -(2**63) - 1):
        put = new_put(store, directory(store, APP), b"k")
        put.mtime_ns = time
        with pytest.raises(InvalidError):
            store.publisher.prepare(put, new_draft(store, b"value"), 1)
    put_later(store, b"other", b"value")
    store.publisher.settle()
    assert values(store, APP) == {b"other": b"value"}


def test_an_entry_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Journal(tmp_path / "journal")
    wanted = [entry(1, b"value"), Entry(2, 1, 1, None, b""), entry(3, b"")]
    for item in wanted:
        written.append(item)
    assert journal.read(tmp_path / "journal") == wanted
    put = wanted[0].as_put()
    assert (put.ino, put.how, put.size, put.content, put.atime_ns, put.mtime_ns) == (1, How.APPEND, 5, 1, 5, None)
    assert wanted[2].as_put().content == 0
    written.close(remove=True)
    assert journal.read(tmp_path / "journal") == []


def test_a_journal_that_is_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written = Journal(path)
    ends = []
    for number in (1, 2, 3):
        written.append(entry(number, b"value" * number))
        ends.append(written.size)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        assert len(journal.read(path)) == sum(end <= length for end in ends), length


def test_a_journal_with_a_byte_changed(tmp_path: Path) -> None:
    """A bit that is wrong is turned back; of more, the entries that have none are read."""
    path = tmp_path / "journal"
    written = Journal(path)
    for number in (1, 2):
        written.append(entry(number, b"value"))
    whole = path.read_bytes()
    entries = journal.read(path)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert journal.examine(path, 0) == journal.Found(entries, True), at
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :])
        left = journal.read(path)
        length_is_wrong = at % (len(whole) // 2) < 4
        assert left == ([] if length_is_wrong else entries[1:]) if at < len(whole) // 2 else left == entries[:1], at


def test_what_is_left_behind_the_end_does_not_count(tmp_path: Path) -> None:
    """The journal began again, and what comes after its new end is from before, be it whole."""
    path = tmp_path / "journal"
    written = Journal(path)
    for number in (1, 2, 3):
        written.append(entry(number, b"value"))
    written.restart()
    written.append(entry(4, b"other"))
    assert [found.number for found in journal.read(path)] == [4]


@pytest.mark.parametrize("key", [b"", b"\xc1" + bytes(15)], ids=["none", "another"])
def test_what_is_left_of_a_value_is_no_entry(tmp_path: Path, key: bytes) -> None:
    """Whoever chooses the values must not be able to have something published by what is left of them."""
    forged = framed(msgspec.msgpack.encode(entry(9, b"forged")), key)
    path = tmp_path / "journal"
    written = Journal(path)
    written.append(entry(1, bytes(500) + forged))
    at = path.read_bytes().index(forged)
    written.restart()
    written.append(entry(2, bytes(300)))
    too_few = at - written.size
    written.restart()
    written.append(entry(2, bytes(300 + too_few)))
    assert written.size == at
    assert journal.examine(path, 1) == journal.Found([entry(2, bytes(300 + too_few))], False)


def test_a_journal_without_a_key(tmp_path: Path) -> None:
    """One that was written before there were keys."""
    entries = [entry(number, b"value") for number in (1, 2)]
    path = tmp_path / "journal"
    path.write_bytes(b"".join(framed(msgspec.msgpack.encode(item), b"") for item in entries))
    assert journal.read(path) == entries
