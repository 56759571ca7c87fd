"""Every call of the engine to its disk may fail: a sample of the steps that `script/faults` takes one by one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.failing_disk import environment
from tests.support.mounting import ROOT

EVERY = int(os.environ.get("FUSEFS_TEST_FAULTS_EVERY", "90"))
"""One step in so many."""

SAMPLE = [
    ("changes", "EIO", "once"),
    ("changes", "ENOSPC", "for-ever"),
    ("changes", "SHORT", "for-ever"),
    ("recovery", "EIO", "for-ever"),
    ("recovery", "ENOSPC", "once"),
]
CASES = [
    (job, error, mode)
    for job in ("changes", "recovery")
    for error in ("EIO", "ENOSPC", "EDQUOT", "EINTR", "SHORT")
    for mode in ("once", "for-ever")
    if (error, mode) != ("EINTR", "for-ever")  # a call that is interrupted for ever is made for ever
]


@pytest.mark.slow
@pytest.mark.parametrize(("job", "error", "mode"), CASES if EVERY == 1 else SAMPLE)
def test_a_call_to_the_disk_fails(tmp_path: Path, job: str, error: str, mode: str) -> None:
    store = tmp_path / "store"
    store.mkdir()
    offset = CASES.index((job, error, mode)) * 7 % EVERY
    command = [sys.executable, "-m", "tests.faults.engine_steps", job, error, mode, str(EVERY), str(offset)]
    variables = {**os.environ, **environment(tmp_path, store)}
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= (1 if error in ("EIO", "ENOSPC", "EDQUOT") else 0)
    print(f"{job}, {error}, {mode}: {done.stdout.strip()} steps")
