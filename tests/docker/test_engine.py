"""The tests' own engine: nothing of it is left, whatever becomes of the run that started it."""

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.dockerengine import Engine, EngineError, sweep
from tests.support.mounting import ROOT
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.docker]

RUN = """
from tests.support import dockerimages
from tests.support.containers import Containers
from tests.support.dockerengine import Engine
engine = Engine()
dockerimages.import_busybox(engine)
Containers(engine, dockerimages.BUSYBOX).start_sh("sleep 1000")
print(engine.directory, flush=True)
input()
"""


def traces(of: str) -> list[str]:
    """The mounts and the processes of an engine, by a part of their names."""
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if of in line]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # one that has just ended
            command = path.read_bytes().decode(errors="replace")
            if of in command:
                found.append(command)
    return found


def test_an_engine_ends_with_a_run_that_is_killed() -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert run.stdout is not None
    directory = Path(run.stdout.readline().strip())
    of_this_run = f"fusefs-test-{run.pid}-"
    assert any("dockerd" in trace for trace in traces(of_this_run))
    run.kill()
    run.communicate()
    wait_until(lambda: not any("dockerd" in trace for trace in traces(of_this_run)), 40)
    assert directory in sweep()
    assert not traces(of_this_run)
    assert not directory.parent.exists()
    assert not list(Path("/run").glob(f"{of_this_run}*"))


def test_an_engine_that_does_not_start_says_why_and_leaves_nothing() -> None:
    ours = f"fusefs-test-{os.getpid()}-*"
    places = (Path(tempfile.gettempdir()), Path("/run"))
    before = [sorted(place.glob(ours)) for place in places]
    with pytest.raises(EngineError, match="unknown flag: --no-such-option"):
        Engine(["--no-such-option"])
    assert [sorted(place.glob(ours)) for place in places] == before


def test_containers_of_an_engine_have_mounts_that_come_later(docker_engine: Engine) -> None:
    line = next(line for line in traces(str(docker_engine.shared)) if f" {docker_engine.shared} " in line)
    assert " shared:" in line
