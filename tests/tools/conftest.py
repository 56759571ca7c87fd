"""The shared mount of each module, and the pairs of directories that tools are compared in."""

import os
from pathlib import Path

import pytest

from tests.support.shared_mount import never_for_ever, other_pipeline, pipeline, run, shared
from tests.tools.twins import Twins

__all__ = ["never_for_ever", "other_pipeline", "pipeline", "run", "shared"]

_NEW_YEAR = 1_600_000_000_123_456_789


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree on a local disk with all that tools are to keep: kinds, modes, times to the nanosecond, attributes."""
    top = tmp_path_factory.mktemp("source") / "tree"
    (top / "a/b/empty").mkdir(parents=True)
    (top / "group").mkdir()
    contents = {
        "a/text": b"some text\n",
        "a/b/nothing": b"",
        "a/b/with space": b"x" * 100,
        "a/b/caf\u00e9": b"utf-8\n",
        "group/script": b"#!/bin/sh\necho ran\n",
        "group/sealed": b"read only\n",
        "middle": bytes(range(256)) * 400,
        "large": b"".join(number.to_bytes(8, "big") for number in range(700_000)),
    }
    for name, content in contents.items():
        (top / name).write_bytes(content)
    for name, target in {"link": "a/text", "a/up": "../middle", "a/dangling": "gone/for/ever", "aside": "a/b"}.items():
        (top / name).symlink_to(target)
    os.setxattr(top / "a/text", "user.note", b"a \x00 byte")
    os.setxattr(top / "a/text", "user.empty", b"")
    os.setxattr(top / "a/b", "user.of.directory", b"d" * 1000)
    modes = {"a/text": 0o640, "group/script": 0o755, "group/sealed": 0o444, "group": 0o2775, "a": 0o700}
    for name, mode in modes.items():
        (top / name).chmod(mode)
    # From the leaves up: setting the times of a file leaves those of its directory.
    paths = sorted(top.rglob("*"), reverse=True)
    for age, path in enumerate([*paths, top]):
        stamp = _NEW_YEAR + age * 1_001_000_007
        os.utime(path, ns=(stamp, stamp), follow_symlinks=False)
    return top


@pytest.fixture(params=["run", "pipeline"])
def twins(request: pytest.FixtureRequest, tmp_path: Path, source: Path) -> Twins:
    """A new run and a local directory, then a new pipeline and a local directory."""
    return _twins(request.getfixturevalue(request.param), tmp_path, source)


@pytest.fixture
def run_twins(run: Path, tmp_path: Path, source: Path) -> Twins:
    """A new run and a local directory, for what takes long or does not depend on the lifetime."""
    return _twins(run, tmp_path, source)


def _twins(mounted: Path, tmp_path: Path, source: Path) -> Twins:
    local = tmp_path / "local"
    local.mkdir()
    return Twins(mounted, local, tmp_path, source)
