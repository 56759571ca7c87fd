"""Limits while many processes put: nobody ever sees one object too many, and the newest are what is left."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.contract.full_pipelines import FullPipeline, set_limit
from tests.support.mounting import MountedStore
from tests.support.processes import end, start_python
from tests.support.shared_mount import listed
from tests.support.waiting import wait_until

pytestmark = pytest.mark.mount

SECONDS = 1.5
"""How long the load of a test goes on."""

WATCH = """
import os, sys
directory, allowed, stop = sys.argv[1:]
counts, over = set(), []
while not os.path.exists(stop):
    # What is allowed is lowered after the limit was, and raised before it.
    limit = int(open(allowed).read())
    names = os.listdir(directory)
    counts.add(len(names))
    if len(names) > limit:
        over.append((limit, sorted(names)))
print(len(over), over[:2], sorted(counts))
"""

PUT = """
import os, sys
directory, writer, stop = sys.argv[1:]
number = 0
while not os.path.exists(stop):
    number += 1
    name = f"{directory}/{writer}.{number:06}"
    try:
        if number % 4 == 0:
            open(f"{directory}/{writer}.tmp", "w").write(name)
            os.rename(f"{directory}/{writer}.tmp", name)
            continue
    except FileNotFoundError:
        pass  # at a small limit the others evict the temporary name before its rename
    open(name, "w").write(name)
print(number)
"""


class Load:
    """Processes that go on until told to stop, and watchers of the number of names in a directory."""

    def __init__(self, scratch: Path, limit: int) -> None:
        self.stop = scratch / "stop"
        self.allowed = scratch / "allowed"
        self.watchers: list[Path] = []
        self.allow(limit)

    def allow(self, limit: int) -> None:
        self.allowed.with_suffix(".new").write_text(str(limit))
        os.replace(self.allowed.with_suffix(".new"), self.allowed)

    @contextmanager
    def on(self, directories: list[Path], writers: list[tuple[str, list[object]]]) -> Iterator[None]:
        """Watch and write while inside, then check that nobody saw too many."""
        watching = [start_python(WATCH, directory, self.allowed, self.stop) for directory in directories]
        writing = [start_python(code, *arguments, self.stop) for code, arguments in writers]
        try:
            yield
        finally:
            self.stop.touch()
            self.said = end(writing)
            seen = end(watching)
            self.stop.unlink()
        assert [line.split()[0] for line in seen] == ["0"] * len(directories), seen


def suffix_of_each(names: list[str], last: dict[str, int]) -> None:
    """What is left of each writer is what it put last, without a gap."""
    for writer, number in last.items():
        own = sorted(name for name in names if name.startswith(f"{writer}."))
        assert own == [f"{writer}.{each:06}" for each in range(number - len(own) + 1, number + 1)]


def test_lowering_a_limit_under_load(shared: MountedStore, pipeline: Path, tmp_path: Path) -> None:
    """Lowering evicts at once, while others put: whoever lists after it never sees more, and the newest are left."""
    set_limit(shared, pipeline.name, 40)
    load = Load(tmp_path, 40)
    writers: list[tuple[str, list[object]]] = [(PUT, [pipeline, writer]) for writer in "uvw"]
    with load.on([pipeline, pipeline], writers):
        for before, limit in pairwise((40, 12, 5, 3, 20, 2, 1, 7)):
            wait_until(lambda most=before: len(os.listdir(pipeline)) >= most)  # type: ignore[misc]
            load.allow(max(before, limit))
            shared.cli("pipeline", "set-limit", pipeline.name, str(limit), exit_code=0)
            load.allow(limit)
            there = os.listdir(pipeline)
            wait_until(lambda names=there: set(names).isdisjoint(os.listdir(pipeline)))  # type: ignore[misc]
    names = listed(pipeline)
    assert len(names) == 7
    suffix_of_each(names, dict(zip("uvw", map(int, load.said), strict=True)))


def test_two_writers_at_a_limit_of_1(shared: MountedStore, pipeline: Path, tmp_path: Path) -> None:
    """There is exactly one object at every moment, and in the end the one that was put last."""
    set_limit(shared, pipeline.name, 1)
    (pipeline / "first").write_text("first")
    load = Load(tmp_path, 1)
    with load.on([pipeline], [(PUT, [pipeline, writer]) for writer in "uv"]):
        time.sleep(SECONDS)
    names = listed(pipeline)
    assert len(names) == 1
    suffix_of_each(names, {name.split(".")[0]: int(name.split(".")[1]) for name in names})


MOVE = """
import os, sys
here, there, writer, stop = sys.argv[1:]
number = 0
while not os.path.exists(stop):
    number += 1
    here, there = there, here
    name = f"{writer}{number % 3}"
    try:
        open(f"{here}/{name}", "w").write(name)
        os.rename(f"{here}/{name}", f"{there}/{name}")
    except FileNotFoundError:
        pass  # evicted by another writer before its rename
print(number)
"""


def test_moving_between_full_pipelines_under_load(shared: MountedStore, tmp_path: Path) -> None:
    """The limit is enforced in the transaction of the rename: neither pipeline ever shows one too many."""
    one, other = FullPipeline(shared, 3).path, FullPipeline(shared, 3).path
    load = Load(tmp_path, 3)
    writers: list[tuple[str, list[object]]] = [(MOVE, [one, other, "u"]), (MOVE, [other, one, "v"])]
    with load.on([one, other], writers):
        time.sleep(SECONDS)
    assert min(map(int, load.said)) > 3


EXCHANGE = """
import ctypes, os, sys
here, there, stop = sys.argv[1:]
libc, number = ctypes.CDLL(None, use_errno=True), 0
while not os.path.exists(stop):
    for key in "abc":
        number += 1
        assert libc.renameat2(-100, f"{here}/{key}".encode(), -100, f"{there}/{key}".encode(), 2) == 0, os.listdir(here)
print(number)
"""


def test_exchanging_between_full_pipelines_under_load(shared: MountedStore, tmp_path: Path) -> None:
    """However often they are exchanged, both have their three objects: no exchange evicts."""
    one, other = FullPipeline(shared, 3), FullPipeline(shared, 3)
    for key in "abc":
        (other.path / key).write_text("other")
    load = Load(tmp_path, 3)
    pairs: list[list[object]] = [[one.path, other.path], [other.path, one.path]]
    with load.on([one.path, other.path], [(EXCHANGE, pair) for pair in pairs]):
        time.sleep(SECONDS)
    assert min(map(int, load.said)) > 3
    for key in "abc":
        assert {(full.path / key).read_text() for full in (one, other)} == {f"this is {key}\nx\n", "other"}


REPLACE = """
import os, sys
directory, key, stop = sys.argv[1:]
number = 0
while not os.path.exists(stop):
    number += 1
    with open(f"{directory}/{key}.tmp", "w") as file:
        file.write(f"{key} {number}")
    os.rename(f"{directory}/{key}.tmp", f"{directory}/{key}")
print(number)
"""


@pytest.mark.parametrize("writers", ["b", "ab", "bc"])
def test_replacing_by_temporary_names_under_load(shared: MountedStore, tmp_path: Path, writers: str) -> None:
    """Several writers that replace their keys by temporary names cost nobody a key, and each has its last value."""
    full = FullPipeline(shared, 3)
    load = Load(tmp_path, 3)
    with load.on([full.path], [(REPLACE, [full.path, key]) for key in writers]):
        time.sleep(SECONDS)
    values = full.values()
    assert sorted(values) == ["a", "b", "c"]
    for key, number in zip(writers, load.said, strict=True):
        assert values[key] == f"{key} {int(number)}"
