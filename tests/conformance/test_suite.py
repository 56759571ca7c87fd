"""The suite itself: an engine that breaks a promise does not pass it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import broken_engines

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def failures() -> dict[str, set[str]]:
    """Run each engine's own test, and the whole suite on the one that is not broken; return what failed, by engine."""
    path = broken_engines.__file__
    tests = [f"{path}::Test{engine.__name__}::{engine.breaks}" for engine in broken_engines.BROKEN]
    options = ["-q", "-rf", "--tb=no", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-c", "/dev/null"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--disable-plugin-autoload", *options, f"{path}::TestBroken", *tests],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    failed: dict[str, set[str]] = {}
    for engine, test in re.findall(r"(?m)^FAILED \S+::Test(\w+)::(test_\w+)", done.stdout):
        failed.setdefault(engine, set()).add(test)
    return failed


@pytest.mark.parametrize("engine", broken_engines.BROKEN, ids=lambda engine: engine.__name__)
def test_a_broken_engine_fails_the_test_of_its_promise(engine: type, failures: dict[str, set[str]]) -> None:
    assert engine.breaks in failures[engine.__name__]  # type: ignore[attr-defined]


def test_the_engine_that_they_derive_from_passes(failures: dict[str, set[str]]) -> None:
    assert failures.keys() == {engine.__name__ for engine in broken_engines.BROKEN}
