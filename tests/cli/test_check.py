"""`fusefs check`: a whole store passes, and what is damaged is named."""

import json
from pathlib import Path

from fusefs.cli.exit_codes import DAMAGED
from tests.cli.conftest import Fusefs


def test_a_whole_store(fusefs: Fusefs) -> None:
    fusefs("pipeline", "create", "p").ok()
    fusefs("pipeline", "object", "put", "p", "key=value").ok()
    assert fusefs("check").ok() == b"read 1 objects, 5 bytes: no damage found\n"
    assert fusefs("check", "--json").ok() == b"[]\n"


def test_a_damaged_value(fusefs: Fusefs, tmp_path: Path) -> None:
    """Its object is named, as a terminal can show it and exactly in the JSON; the exit code says so."""
    fusefs("pipeline", "create", "p").ok()
    key = "a\x1b[31m\nb"
    assert fusefs("pipeline", "object", "put", "p", key, "-", stdin=b"V" * 4_000_000).code == 0
    data = tmp_path / "objects.db-data"
    data.write_bytes(data.read_bytes()[:1000] + b"?" + data.read_bytes()[1001:])
    ended = fusefs("check")
    assert ended.code == DAMAGED
    assert ended.out.splitlines()[0].startswith(b"pipeline/p/a\\x1b[31m\\x0ab: the value is damaged")
    assert ended.out.splitlines()[1].endswith(b"1 findings")
    ended = fusefs("check", "--json")
    assert ended.code == DAMAGED
    assert [found["path"] for found in json.loads(ended.out)] == [f"pipeline/p/{key}"]


def test_without_a_store(fusefs: Fusefs) -> None:
    assert "there is no store" in fusefs("check").err
