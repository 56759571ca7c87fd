"""`fusefs check --repair` as a command."""

import json
import subprocess
import sys
from pathlib import Path

from tests.damage.campaign import Scene
from tests.damage.making import copy
from tests.damage.pages import pages_of, ruin, turn_bit
from tests.support.stores import ROOT

DAMAGED = 5


def fusefs(path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "fusefs", *arguments, "--store", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_what_was_lost_and_where_the_damaged_files_are(closed: Scene, place: Path) -> None:
    path = copy(closed.made, place)
    turn_bit(path.with_name("objects.db-data"), 1000)
    ruin(path, *pages_of(path, "dentry"))
    ended = fusefs(path, "check", "--repair")
    assert ended.returncode == DAMAGED
    assert f"bytes beside {path}" in ended.stderr
    lines = ended.stdout.splitlines()
    size = len(closed.made.values[b"pipeline/keep/large"])
    assert f"lost pipeline/keep/large: the value is damaged, {size} bytes" in lines
    (kept,) = place.glob("*.damaged-*")
    assert f"kept {kept}" in lines
    assert lines[-1].endswith("1 names are lost")
    assert fusefs(path, "check").returncode == 0


def test_as_json(closed: Scene, place: Path) -> None:
    path = copy(closed.made, place)
    turn_bit(path.with_name("objects.db-data"), 1000)
    ended = fusefs(path, "check", "--repair", "--json")
    assert ended.returncode == DAMAGED
    lost, whole = json.loads(ended.stdout)
    size = len(closed.made.values[b"pipeline/keep/large"])
    assert lost == {"what": "lost", "path": "pipeline/keep/large", "why": "the value is damaged", "size": size}
    assert whole == {"what": "whole", "objects": len(closed.made.values) - 1}
    ended = fusefs(path, "check", "--repair", "--json")
    assert (ended.returncode, json.loads(ended.stdout)) == (0, [whole])
