"""The tables of a store by the shape of their records: those that cannot be made again from the others."""

from dataclasses import dataclass

from engine.salvage.records import INTERIOR_INDEX, LEAF_INDEX, LEAF_TABLE, Record, Value

_INT: tuple[type, ...] = (int,)
_BLOB: tuple[type, ...] = (bytes,)
_TEXT: tuple[type, ...] = (str,)
_NULL = type(None)
_ROWID: tuple[type, ...] = (_NULL,)
_INT_OR_NULL: tuple[type, ...] = (int, _NULL)
_BLOB_OR_NULL: tuple[type, ...] = (bytes, _NULL)

_NODE = (
    *(_ROWID, _INT, _BLOB, _INT, _INT, _INT, _INT, _INT, _INT, _INT, _INT, _INT, _INT, _INT),
    *(_BLOB_OR_NULL, _BLOB_OR_NULL, _INT),
)


@dataclass(frozen=True, slots=True)
class Table:
    """How the records of a table look. Those of older versions may lack the last columns."""

    name: str
    columns: tuple[tuple[type, ...], ...]
    least: int
    """How many columns the oldest records have."""
    missing: tuple[Value, ...] = ()
    """What the last columns are where a record lacks them."""
    is_index: bool = False
    """Whether it is kept as an index: it has no rowid."""

    def row(self, record: Record, rowid: int | None) -> Record | None:
        """A row of this table; None where the record is not one."""
        if not self.least <= len(record) <= len(self.columns):
            return None
        row = (*record, *self.missing[len(self.missing) - (len(self.columns) - len(record)) :])[: len(self.columns)]
        if len(record) == len(self.columns):
            row = record
        if any(type(value) not in types for value, types in zip(row, self.columns, strict=True)):
            return None
        return (rowid, *row[1:]) if self.columns[0] is _ROWID else row


_TABLES = (
    Table("store", (_ROWID, _TEXT, _TEXT, *[_INT] * 11), 9, (0, 0, 0, 0, 0)),
    Table("node", _NODE, 17),
    Table("evicted", (*_NODE, _INT, _INT, _INT), 19, (0,)),
    Table(
        "scope",
        (_ROWID, _INT, _BLOB, _INT, _INT_OR_NULL, _BLOB_OR_NULL, _INT, _INT, _INT, _INT, _INT_OR_NULL),
        8,
        (0, 0, None),
    ),
    Table("session", (_ROWID, _INT, _INT, _INT), 3, (0,)),
    Table("doomed", (_ROWID,), 1),
    Table("chunk", (_ROWID, _BLOB), 2),
    Table("sqlite_sequence", (_TEXT, _INT), 2),
    Table("sqlite_schema", (_TEXT, _TEXT, _TEXT, _INT, (str, _NULL)), 5),
    Table("content", (_ROWID, _INT, _BLOB_OR_NULL, _BLOB_OR_NULL, _INT_OR_NULL), 5),
    Table("named_content", (_TEXT, _INT), 2, (), True),
    Table("extent", (_INT, _INT, _INT, _BLOB_OR_NULL), 4, (), True),
    Table(
        "intent",
        (
            *[_INT] * 6,
            _BLOB,
            *[_INT] * 4,
            *(_INT_OR_NULL, _INT_OR_NULL, _INT, _BLOB_OR_NULL),
        ),
        15,
        (),
        True,
    ),
    Table("dentry", (_INT, _BLOB, _INT), 3, (), True),
)
COLUMNS = {table.name: len(table.columns) for table in _TABLES}


def recognise(kind: int, record: Record, rowid: int | None) -> tuple[str, Record] | None:
    """The table that a record on a page of this kind belongs to, and its row; None where that is none of these."""
    for table in _TABLES:
        if (kind == LEAF_TABLE) is table.is_index or kind not in (LEAF_TABLE, LEAF_INDEX, INTERIOR_INDEX):
            continue
        row = table.row(record, rowid)
        if row is not None:
            return table.name, row
    return None
