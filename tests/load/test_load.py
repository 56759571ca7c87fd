"""Many processes, many files, many jobs: the bounded part of `script/load`."""

import os
import random
import subprocess
import sys

import pytest

from tests.conftest import MakeMount
from tests.load import values
from tests.load.__main__ import load
from tests.load.crowds import hold_open, make_pipelines, run_short_jobs
from tests.load.usage import Samples, Usage, usage
from tests.support.mounting import ROOT
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.slow]


def test_everything_at_once() -> None:
    """No error, nothing lost, nothing torn, nobody left out."""
    figures = load(30, 6, random.SystemRandom().randrange(2**32))
    print(figures)
    assert figures["operations"] > 300
    assert figures["per_process"]["min"] > 0


OF_OPENERS = 3 * 64
"""See fusefs.openers."""


def test_ten_thousand_files_open_at_once(make_mount: MakeMount) -> None:
    """The daemon has no descriptor for an open file, and forgets them all."""
    store = make_mount()
    (store.run / "r").mkdir()
    before = usage(store.pid)
    hold_open(store.run / "r", 10_000)
    # It keeps some for the processes that opened files lately, as many as the tests before have left us children.
    wait_until(lambda: usage(store.pid).descriptors < before.descriptors + 50 + OF_OPENERS)
    assert usage(store.pid).memory < before.memory + 64 * 1024 * 1024


def test_a_thousand_pipelines(make_mount: MakeMount) -> None:
    store = make_mount()
    make_pipelines(store.path, 1_000)


def test_a_storm_of_short_jobs(make_mount: MakeMount) -> None:
    store = make_mount(pipeline_object_limit=0)
    (store.pipeline / "p").mkdir()
    run_short_jobs(store.pipeline / "p", 300, 50)


def test_what_the_load_checks() -> None:
    """A value that is torn, or a daemon that grows, is noticed."""
    value, other = values.make(1, 2, 300), values.make(1, 3, 300)
    values.check(value)
    for torn in (value[:-1], value[:100] + value[:100], b"", value[:150] + other[150:]):
        with pytest.raises(AssertionError):
            values.check(torn)
    samples = Samples(os.getpid())
    samples.all = [Usage(10**8 + number * 10**6, 5 + number, 20 + 10 * number) for number in range(300)]
    assert [line.split()[0] for line in samples.growth()] == ["memory", "threads", "descriptors"]


def test_handlers_that_fail_at_random() -> None:
    """The mount lives, whoever asked has EIO, and each failure is in the log once."""
    figures = load(8, 4, random.SystemRandom().randrange(2**32), faults=0.01)
    print(figures)
    assert figures["faults"] > 10
    assert 0 < figures["failed"] <= figures["faults"]


def test_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.load", "--processes", "3", "--seconds", "1", "--seed", "7", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert '"seed": 7' in done.stdout
