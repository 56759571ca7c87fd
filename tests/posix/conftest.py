"""The shared mount of each module, a local directory beside it, and other users."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.posix.twins import ALICE, BOB, CAROL, Twins, User
from tests.support.mounting import MountedStore
from tests.support.processes import Other
from tests.support.shared_mount import never_for_ever, other_pipeline, pipeline, run, shared

__all__ = ["never_for_ever", "other_pipeline", "pipeline", "run", "shared"]


@pytest.fixture
def local() -> Iterator[Path]:
    """A directory of the local filesystem that other users reach."""
    path = Path(tempfile.mkdtemp(prefix="fusefs-posix-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def twins(run: Path, local: Path) -> Twins:
    """A run of the mount and a local directory, for the same steps in both."""
    return Twins(run, local)


@pytest.fixture(scope="module")
def crowd() -> Iterator[list[Other]]:
    """Three other processes."""
    with ExitStack() as stack:
        yield [stack.enter_context(Other()) for _ in range(3)]


@pytest.fixture(scope="module")
def users(shared: MountedStore) -> Iterator[dict[str, User]]:
    """root and three others, each a process of its own. The module's mount has `--allow-other`."""
    assert os.geteuid() == 0, "only root can act as several users"
    shared.directory.chmod(0o755)
    with ExitStack() as stack:
        found = {"root": User(stack.enter_context(Other()))}
        for name, (uid, gid, groups) in {"alice": ALICE, "bob": BOB, "carol": CAROL}.items():
            found[name] = User(stack.enter_context(Other()), uid, gid, groups)
        yield found
