"""The comparison that the tests of this level rest on notices every kind of difference."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.support.processes import sh
from tests.tools.twins import Twins, same_tree


@pytest.mark.parametrize(
    "change",
    [
        "chmod 600 middle",
        "touch -d '2020-09-13 12:26:41.5' middle",
        "touch -h -d 2001-01-01 link",
        "printf x | dd of=middle bs=1 conv=notrunc status=none; touch -r group middle",
        "ln -sfn a/b link",
        f"""{sys.executable} -c 'import os; os.setxattr("middle", "user.new", b"1")'""",
        f"""{sys.executable} -c 'import os; os.removexattr("a/b", "user.of.directory")'""",
        "rm a/b/nothing",
        "touch a/new",
        "rm -r a/b/empty; touch a/b/empty",
    ],
)
def test_a_difference_is_noticed(source: Path, tmp_path: Path, change: str) -> None:
    """A copy is the same as its original until it is changed."""
    shutil.copytree(source, tmp_path / "copy", symlinks=True)
    same_tree(tmp_path / "copy", source)
    sh(change, tmp_path / "copy")
    with pytest.raises(AssertionError):
        same_tree(tmp_path / "copy", source)


@pytest.mark.parametrize("script", ["exit $(test -e k && echo 1 || echo 0)", "ls", "cat k >&2"])
def test_a_different_end_is_noticed(source: Path, tmp_path: Path, script: str) -> None:
    """The exit status and both outputs count; the path of the directory itself does not."""
    twins = Twins(tmp_path / "one", tmp_path / "two", tmp_path, source)
    twins.mounted.mkdir()
    twins.local.mkdir()
    assert twins.both("pwd") == "HERE\n"
    (twins.mounted / "k").write_text("x")
    with pytest.raises(AssertionError, match="in the mount"):
        twins.both(script)
