"""SQLite on a database that was placed in the mount: reading works, writing is the documented deviation."""

import pytest

from tests.tools.twins import Twins

pytestmark = pytest.mark.mount
SETTINGS = {"pipeline_object_limit": 0}

_MAKE = """
sqlite3 "$OUT"/db 'create table t(a integer primary key, b); create index i on t(b);
    with recursive n(x) as (select 1 union all select x + 1 from n where x < 5000) insert into t select x, x * x from n'
cp "$OUT"/db db
"""


def test_reading(twins: Twins) -> None:
    """In the plain way, read-only, immutable, and with a mapping of the file."""
    twins.both(
        _MAKE
        + """
        for name in db 'file:db?mode=ro' 'file:db?immutable=1' 'file:db?mode=ro&nolock=1'; do
            sqlite3 "$name" 'select count(*), sum(b) from t; select a from t where b = 250000; pragma integrity_check'
        done
        sqlite3 'file:db?mode=ro' 'pragma mmap_size=1000000; select sum(b) from t'; sqlite3 -readonly db .dump | md5sum
        """
    )
    twins.python(
        """
        import sqlite3
        with sqlite3.connect("file:db?mode=ro", uri=True) as database:
            print(database.execute("select count(*), sum(b) from t").fetchall())
        database.close()
        """
    )
    twins.same()


def test_a_backup_is_put_by_copying(twins: Twins) -> None:
    """What is written elsewhere and moved in is a whole value; `.output` and `.dump` write here."""
    twins.both(
        _MAKE
        + """
        sqlite3 db ".backup '$OUT/copy'"; sqlite3 "$OUT"/copy 'delete from t where a > 10'; mv "$OUT"/copy db
        sqlite3 db '.output dump.sql' .dump; cat dump.sql; sqlite3 "$OUT"/again < dump.sql; rm "$OUT"/again "$OUT"/db
        sqlite3 db 'select * from t'
        """
    )
    assert twins.both("cmp db db; ls") == "db\ndump.sql\n"


def test_creating_one_is_the_documented_deviation(run_twins: Twins) -> None:
    """After the first commit SQLite finds another inode by the path, and refuses to write: what it committed stays."""
    told = run_twins.alone("sqlite3 new 'create table t(a); insert into t values(1)' 2>&1", status=8)
    assert "attempt to write a readonly database" in told
    assert run_twins.alone("sqlite3 new '.tables' 'select count(*) from t' 'pragma integrity_check'") == "t\n0\nok\n"
    assert run_twins.alone("ls -A") == "new\n"


def test_a_write_ahead_log_is_the_documented_deviation(run_twins: Twins) -> None:
    """Its shared memory is a shared mapping for writing, which is refused: an I/O error, and no row is lost."""
    run_twins.both(_MAKE)
    told = run_twins.alone("sqlite3 db 'pragma journal_mode=wal; insert into t values(9999, 1)' 2>&1", status=10)
    assert "disk I/O error" in told
    assert run_twins.alone('cp db "$OUT"/saved; sqlite3 "$OUT"/saved "select count(*) from t"') == "5000\n"


def test_writing_to_one_is_the_documented_deviation(run_twins: Twins) -> None:
    """A connection commits once; what it tries after that is refused, and what was committed stays."""
    run_twins.both(_MAKE)
    told = run_twins.alone("sqlite3 db 'delete from t where a > 10' 'delete from t where a > 5' 2>&1", status=8)
    assert "attempt to write a readonly database" in told
    assert run_twins.alone("sqlite3 db 'select count(*) from t' 'pragma integrity_check'; ls -A") == "10\nok\ndb\n"
