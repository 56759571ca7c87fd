"""Operations that share a transaction of SQLite's, and turns that read one moment of the database."""

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from engine.errors import InternalError, UnavailableError
from engine.sqlite.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "database")
    database.use_log()
    database.rows("CREATE TABLE t (value INTEGER PRIMARY KEY)")
    return database


def insert(database: Database, value: int, *, later: bool = False) -> None:
    with database.write() as operation:
        database.rows("INSERT INTO t VALUES (?)", (value,))
        operation.later = later


def content(database: Database) -> list[int]:
    return [value for (value,) in database.rows("SELECT value FROM t ORDER BY value")]


def test_what_is_left_open_is_seen_here_and_not_elsewhere(database: Database, tmp_path: Path) -> None:
    other = Database(tmp_path / "database")
    insert(database, 1, later=True)
    insert(database, 2, later=True)
    assert (content(database), content(other)) == ([1, 2], [])
    database.writes.settle()
    assert content(other) == [1, 2]
    insert(database, 3, later=True)
    insert(database, 4)
    assert content(other) == [1, 2, 3, 4], "an operation that does not wait commits what was left open, too"


def test_an_operation_is_undone_alone(database: Database) -> None:
    insert(database, 1, later=True)
    with pytest.raises(ZeroDivisionError), database.write():
        database.rows("INSERT INTO t VALUES (2)")
        raise ZeroDivisionError
    assert database.writes.open
    with pytest.raises(ZeroDivisionError), database.write() as operation:
        operation.later = True
        database.rows("INSERT INTO t VALUES (3)")
        raise ZeroDivisionError
    insert(database, 4, later=True)
    database.writes.settle()
    assert content(database) == [1, 4]
    assert not database.in_transaction


def test_the_first_operation_fails(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as operation:
        operation.later = True
        database.rows("INSERT INTO t VALUES (1)")
        raise ZeroDivisionError
    assert not database.writes.open
    insert(database, 2)
    assert content(database) == [2]


UNDOES_ALL = "INSERT OR ROLLBACK INTO t VALUES (1)"
"""Where that is there, SQLite undoes the transaction by itself, as it does when the disk is full."""


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("goes_on", [False, True])
def test_nothing_of_an_operation_is_done_without_its_transaction(
    database: Database, later: bool, alone: bool, shares: bool, goes_on: bool
) -> None:
    insert(database, 1)
    told: list[bool] = []
    if shares:
        insert(database, 2, later=True)
        database.writes.after(told.append)
    with pytest.raises(InternalError), database.write(alone=alone) as operation:
        operation.later = later
        database.rows("INSERT INTO t VALUES (3)")
        with pytest.raises(InternalError):
            database.rows(UNDOES_ALL)
        if goes_on:
            database.rows("INSERT INTO t VALUES (4)")
    assert not database.in_transaction
    assert not database.writes.open
    assert told == [False] * shares
    insert(database, 5)
    database.writes.settle()
    assert content(database) == [1, 5]


def test_nothing_is_done_in_another_thread_without_the_transaction(database: Database) -> None:
    insert(database, 1)
    errors: list[Exception] = []

    def write() -> None:
        with database.write():
            for sql in (UNDOES_ALL, "INSERT INTO t VALUES (2)"):
                try:
                    database.rows(sql)
                except InternalError as error:
                    errors.append(error)
            raise ZeroDivisionError

    def run() -> None:
        with pytest.raises(ZeroDivisionError):
            write()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(errors) == 2
    insert(database, 3)
    assert content(database) == [1, 3]


def test_what_is_left_open_and_undone_in_between_is_told(database: Database) -> None:
    """And is not taken for committed when the next operation is."""
    insert(database, 1)
    told: list[bool] = []
    insert(database, 2, later=True)
    database.writes.after(told.append)
    with pytest.raises(InternalError):
        database.rows(UNDOES_ALL)
    assert told == [False]
    insert(database, 3, later=True)
    insert(database, 4)
    assert content(database) == [1, 3, 4]


def test_an_operation_does_not_begin_where_the_transaction_is_gone(database: Database) -> None:
    told: list[bool] = []
    insert(database, 1, later=True)
    database.writes.after(told.append)
    database._main.execute("ROLLBACK")
    with pytest.raises(InternalError):
        insert(database, 2)
    assert told == [False]
    insert(database, 3)
    assert content(database) == [3]


def test_who_is_told_of_the_end(database: Database) -> None:
    told: list[bool] = []
    written: list[int] = []
    for value in (1, 2):
        with database.write() as operation:
            database.rows("INSERT INTO t VALUES (?)", (value,))
            if value == 1:
                database.writes.before_commit(lambda: written.append(len(content(database))))
                database.writes.after(told.append)
            operation.later = True
    assert (written, told) == ([], [])
    database.writes.settle()
    database.writes.settle()
    assert (written, told) == ([2], [True])
    with pytest.raises(ZeroDivisionError), database.write():
        database.writes.after(told.append)
        raise ZeroDivisionError
    assert told == [True, False]


def test_another_thread_waits_until_it_is_settled(database: Database) -> None:
    insert(database, 1, later=True)
    done = threading.Event()

    def write() -> None:
        insert(database, 2)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert not done.wait(0.2)
    database.writes.settle()
    assert done.wait(5)
    thread.join()
    assert content(database) == [1, 2]


def test_a_turn_reads_one_moment(database: Database, tmp_path: Path) -> None:
    other = Database(tmp_path / "database")
    database.writes.begin_turn()
    assert content(database) == []
    insert(other, 1)
    assert content(database) == []
    insert(database, 2)
    assert content(database) == [1, 2], "who writes sees what is there now"
    insert(other, 3)
    assert content(database) == [1, 2], "the moment after the own change"
    database.writes.settle()
    assert content(database) == [1, 2, 3]
    insert(other, 4)
    assert content(database) == [1, 2, 3, 4], "no turn: every statement by itself"


def test_a_turn_does_not_keep_a_checkpoint_from_its_end(database: Database) -> None:
    database.writes.begin_turn()
    assert content(database) == []
    database.writes.settle()
    insert(database, 1)
    database.log.checkpoint()
    assert database.log.bytes == 0


def test_the_lock_is_free_when_an_operation_cannot_begin(database: Database, tmp_path: Path) -> None:
    other = Database(tmp_path / "database")
    other._main.set_busy_timeout(1)
    insert(database, 1, later=True)
    with pytest.raises(UnavailableError), other.write():
        raise AssertionError("the other has the lock")
    assert not other.in_transaction
    database.writes.settle()
    insert(other, 2)
    assert content(database) == [1, 2]


def test_a_lock_is_waited_for_once(database: Database, tmp_path: Path) -> None:
    """Who waits in vain for another process is refused at once from then on, until the lock was had: a mount that has
    many to answer would wait for each of them.
    """
    database.writes.patience_s = 0.4

    def refused() -> float:
        begun = time.monotonic()
        with pytest.raises(UnavailableError):
            insert(database, 0)
        return time.monotonic() - begun

    with closing(Database(tmp_path / "database")) as other:
        for number in (1, 2):
            other.rows("BEGIN IMMEDIATE")
            assert refused() >= 0.4
            assert sum(refused() for _ in range(5)) < 5 * 0.4
            other.rows("ROLLBACK")
            insert(database, number)
