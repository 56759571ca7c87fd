"""A slice of `script/crash`, and that it finds bugs which were put in on purpose."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.crash.campaign.broken import BUGS
from tests.support.mounting import ROOT

pytestmark = [pytest.mark.mount, pytest.mark.slow]

needs_a_disk = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="needs root and a disk in a file (loop)"
)
_SECONDS = 240


def campaign(*arguments: str, exit_code: int = 0) -> dict[str, Any]:
    """Run a campaign that has to end so, and return what came of it."""
    command = [sys.executable, "-m", "tests.crash.campaign.command", "--json", "--load", "40", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=_SECONDS)
        finally:
            process.terminate()  # it takes its mounts with it
    assert process.returncode == exit_code, out + err
    return dict(json.loads(out))


def nothing_was_found(result: dict[str, Any]) -> bool:
    return not (result["lost"] or result["torn"] or result["wrong"] or result["findings"])


def test_kills() -> None:
    """Nothing that close() acknowledged is lost when the daemon is killed under load, and nothing half is there."""
    result = campaign("--kills", "8")
    assert nothing_was_found(result)
    assert result["kills"] >= 8
    assert result["acknowledged"] > 50


@needs_a_disk
def test_cuts() -> None:
    """Nothing that fsync() acknowledged is lost when the power is cut, and nothing is torn."""
    result = campaign("--cuts", "3")
    assert nothing_was_found(result)
    assert result["cuts"] >= 3
    assert result["by_fsync"] > 0


@needs_a_disk
def test_cuts_with_full_durability() -> None:
    """Then what close(), rename() and the others acknowledged is not lost either."""
    result = campaign("--cuts", "2", "--durability", "full")
    assert nothing_was_found(result)
    assert result["acknowledged"] > result["by_fsync"] > 0


@needs_a_disk
def test_the_control() -> None:
    """Without the store's syncing a power cut takes what fsync() acknowledged."""
    assert campaign("--cuts", "1", "--control")["lost"] > 0


def test_it_finds_a_bug() -> None:
    """A close() that is acknowledged before anything is written down is found, and told."""
    result = campaign("--kills", "40", "--broken", "intents", exit_code=1)
    assert result["lost"] > 0
    # It depends on what was lost: a step, a key of a worker's own, a line of a log, or the newest of a full pipeline.
    words = "acknowledged by close", "has to be", " lacks ", "which are older, are there"
    assert any(each in str(result["findings"]) for each in words)


@pytest.mark.parametrize("name", sorted(BUGS))
def test_every_bug_can_be_put_in(name: str) -> None:
    """What it replaces is there: else a daemon that does not start would pass for a bug that was found."""
    subprocess.run([sys.executable, "-m", "tests.crash.campaign.broken", name, "--version"], cwd=ROOT, check=True)
