"""Processes that the benchmark measures in."""

import os
from functools import partial
from pathlib import Path

import pytest

from benchmarks.operations import get, put, read_large, write_large
from benchmarks.workers import Job, Workers, each


def test_they_work_at_the_same_time_and_tell_how_long_each_step_took(tmp_path: Path) -> None:
    with Workers(2) as workers:
        jobs = [
            Job([*each(put, [f"{tmp_path}/{worker}-{at}" for at in range(50)]), *each(get, [f"{tmp_path}/{worker}-0"])])
            for worker in range(2)
        ]
        worked = workers.run(jobs)
        assert [len(one.seconds) for one in worked] == [51, 51]
        assert all(0 < sum(one.seconds) <= one.end - one.start for one in worked)
        # One of them alone may be asked as well.
        assert len(workers.run(jobs[:1])) == 1
    assert len(os.listdir(tmp_path)) == 100


def test_large_objects_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = str(tmp_path / "large")
    with Workers(1) as workers:
        workers.run([Job([(partial(write_large, size=3 * 1024**2, sync=True), path)])])
        workers.run([Job([(partial(read_large, size=3 * 1024**2), path)])])
        with pytest.raises(RuntimeError, match="wrote 5 bytes"):
            workers.run([Job([(partial(read_large, size=5), path)])])


def test_what_fails_in_one_of_them_fails_the_run(tmp_path: Path) -> None:
    with Workers(1) as workers:
        with pytest.raises(RuntimeError, match="FileNotFoundError"):
            workers.run([Job(each(get, [f"{tmp_path}/missing"]))])
        assert workers.run([Job(each(put, [f"{tmp_path}/new"]), children=2)])
