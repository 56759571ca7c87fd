"""The benchmark as a whole, on as little as possible: it must not rot between the days on which somebody needs it."""

import io
import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import bench, machine, peers, statements
from benchmarks.context import TINY, Context, size_name
from tests.support.scratch import fuse_mounts


def mounted_below(directory: Path) -> list[Path]:
    return [mount.path for mount in fuse_mounts() if mount.path.is_relative_to(directory)]


@pytest.mark.mount
@pytest.mark.slow
def test_every_part_measures_something_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "chosen_sizes", lambda _arguments: TINY)
    monkeypatch.setattr(machine, "filesystem_type", lambda _directory: "ext4")  # where tests run does not matter
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    output, written, recorded = tmp_path / "results", tmp_path / "figures.json", tmp_path / "history.jsonl"
    files = ["--directory", scratch, "--output", output, "--json", written, "--history", recorded, "--record"]
    bench.main([*map(str, files), "--peers", "null,fusefs"])

    content = json.loads(written.read_text())
    parts = {figure["part"] for figure in content["figures"].values()}
    assert parts == set(bench.PARTS)
    assert content["goals"]["put 100 B, of null"]["value"] > 0
    assert "put, of null" in json.loads(recorded.read_text())["ratios"]
    assert (output / "tiny.png").stat().st_size > 10_000
    assert not mounted_below(tmp_path)
    assert not list(scratch.iterdir())


@pytest.mark.mount
@pytest.mark.slow
def test_whatever_ends_a_run_it_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(context: Context) -> None:
        assert len(mounted_below(tmp_path)) == 2
        raise KeyboardInterrupt

    monkeypatch.setitem(bench.PARTS, "small", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.measure(TINY, ["small"], ["null", "fusefs"], tmp_path, Console(file=io.StringIO()))
    assert not mounted_below(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_peer_that_is_not_installed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    for peer in (peers.rclone, peers.gocryptfs):
        with pytest.raises(peers.MissingError, match="not installed"), peer(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_a_store_in_memory_is_not_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "filesystem_type", lambda _directory: "tmpfs")
    with pytest.raises(SystemExit):
        bench.parse_arguments([])
    assert "is in memory" in capsys.readouterr().err


def test_unknown_parts_and_peers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--only", "everything"], ["--peers", "null,nobody"], ["--rounds", "0"]):
        with pytest.raises(SystemExit):
            bench.parse_arguments(arguments)
    assert "nobody" in capsys.readouterr().err


def test_the_statements_of_the_engine_can_be_run_again(tmp_path: Path) -> None:
    """What the bare bindings are timed with is a whole put: run on a copy, it leaves the same rows."""
    from benchmarks.engines import _SCOPE, _record_engine
    from benchmarks.stores import open_at

    empty, traced, copy = tmp_path / "empty.db", tmp_path / "traced.db", tmp_path / "copy.db"
    with open_at(empty) as store:
        store.start_run(_SCOPE.name)
    shutil.copyfile(empty, traced)
    puts, gets = _record_engine(traced, 3)
    assert puts
    assert gets
    for replay in (statements.replay_apsw, statements.replay_sqlite3):
        assert replay(empty, copy, puts) > 0
        # Not as a store: the standard library writes pages without their checksums.
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("SELECT count(*) FROM node WHERE kind = 1").fetchone() == (3,)
        os.unlink(copy)


def test_sizes_are_named_as_people_write_them() -> None:
    assert [size_name(size) for size in (100, 64 * 1024, 3 * 1024**2, 4 * 1024**3)] == [
        "100 B",
        "64 KiB",
        "3 MiB",
        "4 GiB",
    ]


def test_a_part_that_fails_costs_no_other_part_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_context: Context) -> None:
        raise RuntimeError("the disk is on fire")

    def measures(context: Context) -> None:
        context.figures.add("engine", "engine put", "fusefs", 1, "/s")

    monkeypatch.setitem(bench.PARTS, "daemon", fails)
    monkeypatch.setitem(bench.PARTS, "engine", measures)
    printed = io.StringIO()
    figures, failed = bench.measure(TINY, ["daemon", "engine"], [], tmp_path, Console(file=printed))
    assert failed == ["daemon"]
    assert "the disk is on fire" in printed.getvalue()
    assert figures.samples("engine put", "fusefs") == [1]
