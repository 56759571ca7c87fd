"""vim and git in a full pipeline: their swap files, backups and lock files cost no other object."""

from pathlib import Path

import pytest

from tests.contract.full_pipelines import FullPipeline, before, expected, set_limit
from tests.support.mounting import MountedStore
from tests.support.processes import sh

pytestmark = pytest.mark.mount

# Without an empty backupskip, vim makes no backups below /tmp.
VIM = "vim -Nu NONE -es -c 'set backupskip= {}' -c '%s/x/yes/' -c wq $k"

SETTINGS_OF_VIM = {
    "default": "",
    "no swap file": "noswapfile",
    "backupcopy": "backupcopy=yes",
    "no backup": "nobackup nowritebackup",
    "neither": "nobackup nowritebackup noswapfile",
    "below /tmp": "backupskip&",
    "nofsync": "nofsync swapsync=",
}


@pytest.mark.parametrize("key", "bc")
@pytest.mark.parametrize("settings", SETTINGS_OF_VIM)
def test_an_edit_with_vim(shared: MountedStore, tmp_path: Path, settings: str, key: str) -> None:
    """An editor costs no other object at the limit, whichever way it saves, and saves what was edited."""
    full = FullPipeline(shared, 3)
    done = full.edit(VIM.replace("{}", SETTINGS_OF_VIM[settings]), key, tmp_path)
    assert done.returncode == 0
    assert full.values() == expected(full.keys, key)
    assert full.order_of_eviction() == list(expected(full.keys, key))


@pytest.mark.parametrize("settings", SETTINGS_OF_VIM)
def test_an_edit_with_vim_of_the_oldest(shared: MountedStore, tmp_path: Path, settings: str) -> None:
    """The first name that vim writes beside the oldest evicts it. vim may refuse to save then, but loses nothing."""
    full = FullPipeline(shared, 3)
    full.edit(VIM.replace("{}", SETTINGS_OF_VIM[settings]), "a", tmp_path)
    values = full.values()
    if "a~" in values:
        # The backup is one object more: it is the old value, and costs the oldest of the others.
        assert values.pop("a~") == before("a")
        (full.path / "a~").unlink()
        values = {"a": before("a")} | {name: text for name, text in full.values().items() if name != "a"}
    assert values in (expected("abc", "a"), {each: before(each) for each in "abc"})


@pytest.mark.parametrize("key", "abc")
def test_an_edit_with_vim_that_keeps_a_backup(shared: MountedStore, tmp_path: Path, key: str) -> None:
    """A backup is a net new object: exactly the oldest goes, which may be the backup itself."""
    full = FullPipeline(shared, 3)
    assert full.edit(VIM.replace("{}", "backup"), key, tmp_path).returncode == 0
    assert full.values() == expected(full.keys, key, f"{key}~")
    assert full.order_of_eviction() == list(expected(full.keys, key, f"{key}~"))


@pytest.mark.parametrize("limit", [2, 1])
def test_an_edit_with_vim_at_a_small_limit(shared: MountedStore, tmp_path: Path, limit: int) -> None:
    """An editor costs no other object, also when the limit leaves no place beside what it edits."""
    for key in "ab"[:limit]:
        full = FullPipeline(shared, limit)
        full.edit(VIM.replace("{}", ""), key, tmp_path)
        assert full.values() == expected(full.keys, key)


def test_an_edit_with_vim_that_is_abandoned(shared: MountedStore, tmp_path: Path) -> None:
    """A swap file costs nothing while nothing is saved."""
    for key in "abc":
        full = FullPipeline(shared, 3)
        full.edit("vim -Nu NONE -es -c '%s/x/yes/' -c preserve -c 'qa!' $k", key, tmp_path)
        assert full.values() == {each: before(each) for each in full.keys}
        assert full.order_of_eviction() == list(full.keys)


# A repository


@pytest.fixture
def repository(shared: MountedStore, pipeline: Path) -> Path:
    """A repository with two commits, in a pipeline that has room for none of git's lock files."""
    set_limit(shared, pipeline.name, 0)
    sh(
        """
        git init -q -b main --template=
        git config user.name n && git config user.email e@example.org && git config gc.auto 0
        git config core.logAllRefUpdates false
        for i in 1 2 3; do echo "$i" > "f$i"; done
        git add . && git commit -qm one
        for i in 1 2 3; do echo "more $i" >> "f$i"; done
        git commit -qam two && git branch other HEAD~ && git branch gone && git tag t
        """,
        pipeline,
    )
    set_limit(shared, pipeline.name, len(objects(pipeline)))
    return pipeline


def objects(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# What each changes, and nothing else may go or change.
COMMANDS = {
    "git config user.name other": {".git/config"},
    "git config --unset user.name": {".git/config"},
    "git update-ref refs/heads/other main": {".git/refs/heads/other"},
    "git branch -f other main": {".git/refs/heads/other"},
    "git symbolic-ref HEAD refs/heads/other": {".git/HEAD"},
    "git tag -f t other": {".git/refs/tags/t"},
    "touch f1; git add f1": {".git/index"},
    "touch *; git update-index --refresh": {".git/index"},
    "git show other:f2 > f2; git add f2": {".git/index", "f2"},
    "git checkout -q other": {".git/index", ".git/HEAD", "f1", "f2", "f3"},
    "git checkout -q other -- f1": {".git/index", "f1"},
    "for i in 1 2 3 4 5 6; do git checkout -q other; git checkout -q main; done": {".git/index", "f1", "f2", "f3"},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_repository_in_a_full_pipeline(shared: MountedStore, repository: Path, command: str) -> None:
    """git's lock files cost no object where a command leaves as many as there were."""
    found = objects(repository)
    sh(command, repository)
    sh("git fsck --strict && git log --oneline", repository)
    now = objects(repository)
    assert set(now) == set(found)
    assert {name for name in found if found[name] != now[name]} <= COMMANDS[command] | {".git/index"}
