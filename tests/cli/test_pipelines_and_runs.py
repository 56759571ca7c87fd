"""`fusefs pipeline` and `fusefs run`: making, listing, limits and lifetimes."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Fusefs


def test_pipelines(fusefs: Fusefs, tmp_path: Path) -> None:
    fusefs("pipeline", "create", "b", "--limit", "3").ok()
    fusefs("pipeline", "create", "a").ok()
    assert fusefs("pipeline", "list").ok() == b"a\nb\n"
    assert json.loads(fusefs("pipeline", "list", "--json").ok()) == [
        {"name": "a", "objects": 0, "limit": 50, "own_limit": None, "bytes": 0, "max_bytes": 0, "own_max_bytes": None},
        {"name": "b", "objects": 0, "limit": 3, "own_limit": 3, "bytes": 0, "max_bytes": 0, "own_max_bytes": None},
    ]
    fusefs("pipeline", "delete", "a").ok()
    assert fusefs("pipeline", "list").ok() == b"b\n"


def test_a_pipeline_that_exists(fusefs: Fusefs) -> None:
    fusefs("pipeline", "create", "p").ok()
    assert fusefs("pipeline", "create", "p").code == 4


def test_a_pipeline_with_objects_is_deleted_by_force_only(fusefs: Fusefs) -> None:
    fusefs("pipeline", "create", "p").ok()
    fusefs("pipeline", "object", "put", "p", "k=v").ok()
    refused = fusefs("pipeline", "delete", "p")
    assert (refused.code, "--force" in refused.err) == (1, True)
    fusefs("pipeline", "delete", "p", "--force").ok()
    assert fusefs("pipeline", "delete", "p").code == 3


def test_set_limit_evicts_at_once_and_tells(fusefs: Fusefs) -> None:
    fusefs("pipeline", "create", "p").ok()
    for key in "abc":
        fusefs("pipeline", "object", "put", "p", f"{key}=").ok()
    assert fusefs("pipeline", "set-limit", "p", "1").err == "evicted a\nevicted b\n"


@pytest.mark.parametrize(
    "command", [["pipeline", "create", "q"], ["compact"], ["check", "--repair"]], ids=lambda words: " ".join(words)
)
def test_a_lower_limit_of_the_store_tells_what_it_evicted(
    fusefs: Fusefs, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Whichever command has it in its configuration first."""
    fusefs("pipeline", "create", "p").ok()
    for key in "abc":
        fusefs("pipeline", "object", "put", "p", f"{key}=value").ok()
    monkeypatch.setenv("FUSEFS_PIPELINE_OBJECT_LIMIT", "1")
    assert "evicted a\nevicted b\n" in fusefs(*command).err
    assert fusefs("pipeline", "object", "list", "p").ok() == b"c\n"
    assert fusefs("pipeline", "object", "list", "p").ok() == b"c\n"
    fusefs("pipeline", "set-limit", "p", "0").ok()
    fusefs("pipeline", "set-limit", "p", "default").ok()
    assert json.loads(fusefs("pipeline", "list", "--json").ok())[0]["own_limit"] is None


@pytest.mark.parametrize("limit", ["x", "-1", "1.5", "", "2147483648", "٣", "9" * 5000])
def test_wrong_limits(fusefs: Fusefs, limit: str) -> None:
    fusefs("pipeline", "create", "p").ok()
    ended = fusefs("pipeline", "set-limit", "p", limit)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert fusefs("pipeline", "create", "q", "--limit", limit).code == 2
    assert fusefs("pipeline", "list").ok() == b"p\n"


def test_limits_in_bytes(fusefs: Fusefs) -> None:
    fusefs("pipeline", "create", "p", "--max-bytes", "1K").ok()
    fusefs("pipeline", "object", "put", "p", "k=value").ok()
    assert fusefs("pipeline", "object", "put", "p", "big=" + "x" * 1020).code == 1
    for size, own, most in (("2kB", 2000, 2000), ("0", 0, 0), ("default", None, 0)):
        fusefs("pipeline", "set-max-bytes", "p", size).ok()
        listed = json.loads(fusefs("pipeline", "list", "--json").ok())[0]
        assert (listed["bytes"], listed["max_bytes"], listed["own_max_bytes"]) == (5, most, own)
    fusefs("run", "start", "1").ok()
    fusefs("run", "object", "put", "1", "k=value").ok()
    assert json.loads(fusefs("run", "list", "--json").ok())[0]["bytes"] == 5


@pytest.mark.parametrize("size", ["x", "-1", "1.5", "", "8EiB", "9223372036854775808"])
def test_wrong_sizes(fusefs: Fusefs, size: str) -> None:
    fusefs("pipeline", "create", "p").ok()
    ended = fusefs("pipeline", "set-max-bytes", "p", size)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert fusefs("pipeline", "create", "q", "--max-bytes", size).code == 2
    assert fusefs("pipeline", "set-max-bytes", "missing", "1").code == 3
    assert fusefs("pipeline", "list").ok() == b"p\n"


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "_x", "a/b", "a b", "ä", "x" * 129, "a\nb"])
def test_wrong_names(fusefs: Fusefs, name: str) -> None:
    for command in (["pipeline", "create"], ["run", "start"]):
        ended = fusefs(*command, "--", name)
        assert (ended.code, ended.err.count("\n")) == (2, 1)


def test_runs(fusefs: Fusefs) -> None:
    fusefs("pipeline", "create", "p").ok()
    fusefs("run", "start", "2", "--pipeline", "p").ok()
    fusefs("run", "start", "1").ok()
    fusefs("run", "finish", "1").ok()
    assert fusefs("run", "list").ok() == b"2\n1\n"
    first, second = json.loads(fusefs("run", "list", "--json").ok())
    assert first.pop("started").endswith("Z")
    assert first == {"id": "2", "pipeline": "p", "objects": 0, "bytes": 0, "finished": False}
    assert (second["id"], second["pipeline"], second["finished"]) == ("1", None, True)


def test_start_tells_what_expired(fusefs: Fusefs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEFS_RUN_OBJECT_EXPIRY", "2")
    for run in ("5", "6"):
        fusefs("run", "start", run).ok()
        fusefs("run", "finish", run).ok()
    started = fusefs("run", "start", "7")
    assert (started.code, started.err) == (0, "expired 5\n")
    assert fusefs("run", "list").ok() == b"6\n7\n"


def test_a_run_that_exists_and_one_that_does_not(fusefs: Fusefs) -> None:
    fusefs("run", "start", "1").ok()
    assert fusefs("run", "start", "1").code == 4
    assert fusefs("run", "finish", "2").code == 3
