"""`fusefs compact`."""

import os
from pathlib import Path

from tests.cli.conftest import Fusefs


def test_the_file_shrinks(fusefs: Fusefs, tmp_path: Path) -> None:
    fusefs("pipeline", "create", "p", "--limit", "1").ok()
    for key in "abc":
        assert fusefs("pipeline", "object", "put", "p", key, "-", stdin=os.urandom(500_000)).code == 0
    before, _, _, after, _ = fusefs("compact").ok().split()
    assert int(after) < 800_000 < int(before)
    assert fusefs("pipeline", "object", "list", "p").ok() == b"c\n"


def test_without_a_store(fusefs: Fusefs) -> None:
    assert "there is no store" in fusefs("compact").err
