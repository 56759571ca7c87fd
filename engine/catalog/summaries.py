"""Pipelines and runs as they are listed, with what they hold, and what they may."""

from collections.abc import Iterable

from engine.catalog.lifetimes import HOME
from engine.errors import InvalidError
from engine.model import PIPELINES_INO, PipelineInfo, RunInfo, ScopeName
from engine.sqlite.database import Database


def pipelines(database: Database) -> list[PipelineInfo]:
    """All pipelines, by name."""
    rows = database.rows(
        "SELECT name, objects, scope.object_limit, coalesce(scope.object_limit, store.object_limit),"
        " scope.bytes, scope.max_bytes, coalesce(scope.max_bytes, store.max_pipeline_bytes)"
        " FROM scope, store WHERE kind = 1 ORDER BY name"
    )
    return [PipelineInfo(*row) for row in rows]


def runs(database: Database) -> list[RunInfo]:
    """All runs that have not expired, oldest first."""
    rows = database.rows(
        "SELECT name, pipeline, objects, started_ns, protected, bytes FROM scope WHERE kind = 2 ORDER BY started_ns"
    )
    return [
        RunInfo(name, pipeline or None, objects, started, not protected, size)
        for name, pipeline, objects, started, protected, size in rows
    ]


def limits_in_bytes(database: Database, pipeline: bytes | None) -> list[tuple[int, int]]:
    """How many bytes the values of the store have and may have, and those of `pipeline`; where there is a limit."""
    rows = database.rows("SELECT bytes, max_bytes FROM store")
    if pipeline is None:
        return [(used % 2**64, most) for used, most in rows if most]
    rows += database.rows(
        "SELECT scope.bytes, coalesce(scope.max_bytes, store.max_pipeline_bytes) FROM store, scope"
        " WHERE ino = (SELECT ino FROM node WHERE parent = ? AND name = ?)",
        (PIPELINES_INO, pipeline),
    )
    return [(used % 2**64, most) for used, most in rows if most]


def objects_in(database: Database, scopes: Iterable[ScopeName]) -> int:
    """How many objects these pipelines and runs hold together."""
    sql = "SELECT objects FROM scope WHERE ino = (SELECT ino FROM node WHERE parent = ? AND name = ?)"
    return sum(objects for each in scopes for (objects,) in database.rows(sql, (HOME[each.kind], each.name)))


def check_limit(limit: int | None) -> None:
    """Raise InvalidError for what is no number of objects."""
    if limit is not None and not 0 <= limit < 2**31:
        raise InvalidError(f"invalid limit {limit}: a number of objects, or 0 for no limit")


def check_max_bytes(limit: int | None) -> None:
    """Raise InvalidError for what is no number of bytes."""
    if limit is not None and not 0 <= limit < 2**63:
        raise InvalidError(f"invalid limit {limit}: a number of bytes, or 0 for no limit")
