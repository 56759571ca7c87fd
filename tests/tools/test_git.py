"""git inside a run: repositories, worktrees, packs and their checks."""

import pytest

from tests.tools.twins import Twins

pytestmark = pytest.mark.mount
SETTINGS = {"pipeline_object_limit": 0}

_IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "C",
    "GIT_COMMITTER_EMAIL": "c@example.org",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}
"""With the times as well, every object has the same name in the mount and in the local directory."""

_HISTORY = """
git init -q -b main repo; cd repo
cp -a "$SOURCE"/. .; rm large; git add -A; git commit -qm first; git tag v1
git checkout -qb side; seq 500 > numbers; git mv a/text moved; git add -A; git commit -qm side
git checkout -q main; echo more >> group/script; git commit -qam second
"""
_STATE = (
    "git status --porcelain; git log --all --format='%H %P %T %s%d' --topo-order; git ls-files -s; git fsck --strict"
)


def _git(twins: Twins, script: str, *, status: int = 0) -> str:
    return twins.both(script, status=status, **_IDENTITY)


def test_commit_branch_and_merge(run_twins: Twins) -> None:
    """The same history, index and work tree, with symlinks and modes; nothing looks changed afterwards."""
    _git(run_twins, _HISTORY)
    _git(run_twins, "cd repo; git merge -q --no-edit side; git show --stat --format=%H HEAD^2; git diff v1 --stat")
    told = _git(run_twins, f"cd repo; {_STATE}")
    assert not [line for line in told.splitlines() if line.startswith((" M", "??"))]
    run_twins.both("rm -rf repo/.git/index repo/.git/logs")  # they hold inode numbers and times
    run_twins.same()


def test_gc_and_fsck(run_twins: Twins) -> None:
    """Loose objects become one pack, which is found sound, and so do those that git wrote since."""
    _git(run_twins, _HISTORY)
    packed = """
        git count-objects -v | grep -v size; git rev-list --objects --all | sort
        git verify-pack .git/objects/pack/*.idx
    """.strip()
    _git(run_twins, f"cd repo; git repack -qad; {packed}; {_STATE}")
    _git(run_twins, "cd repo; seq 900 > numbers; git add -A; git commit -qm third; git gc -q --aggressive --prune=now")
    _git(run_twins, f"cd repo; {packed}; git pack-refs --all; cat .git/packed-refs; {_STATE}")
    _git(run_twins, "cd repo; git commit-graph write --reachable 2>&1; git multi-pack-index write; git fsck; git prune")


def test_clones(run_twins: Twins) -> None:
    """From the mount to itself, into it and out of it; push, fetch and pull between them."""
    _git(run_twins, _HISTORY)
    _git(
        run_twins,
        """
        git clone -q repo copy; git clone -q --bare --no-local repo bare.git; git clone -q repo "$OUT"/clone
        git clone -q --shared repo shared; git clone -q --depth 1 "file://$PWD/repo" shallow
        git clone -q "$OUT"/clone in
        cd copy; git remote set-url origin ../bare.git; echo 1 > one; git add one; git commit -qm one
        git push -q origin main
        cd ../in; git remote add bare ../bare.git; git fetch -q bare; git merge -q --ff-only bare/main
        git log --format=%H
        cd ../shallow; git pull -q --unshallow; git log --format=%H; cd ../shared; git gc -q; cd ..
        for each in copy in shallow shared bare.git "$OUT"/clone; do git -C $each fsck --strict; done
        """,
    )


def test_worktrees_and_stashes(run_twins: Twins) -> None:
    """A second work tree, a stash, a rebase, a cherry-pick, a bisection and a clean."""
    _git(run_twins, _HISTORY)
    _git(
        run_twins,
        """
        cd repo; git worktree add -q ../second side; git worktree list | sed 's/ .*//'
        cd ../second; seq 600 > numbers; git commit -qam third; cd ../repo
        echo stashed > middle; git stash -q; cat group/script; git stash pop -q; git status --porcelain
        git checkout -q middle
        git cherry-pick side~1 > /dev/null; git log --format=%T -1; git reset -q --hard HEAD~1
        git checkout -q --detach; git rebase -q side; git log --format=%T; git checkout -q main
        mkdir new; echo x > new/file; git clean -fdq; git status --porcelain
        git worktree remove ../second; git worktree prune; git fsck; ls ..
        """,
    )
    run_twins.both("rm -rf repo/.git")
    run_twins.same()


def test_conflicts(run_twins: Twins) -> None:
    """A merge that stops, leaves its marks, and is gone on with."""
    _git(
        run_twins, "git init -q -b main .; seq 9 > f; git add f; git commit -qm 1; git checkout -qb b; sed -i 5s/5/b/ f"
    )
    _git(
        run_twins, "git commit -qam b; git checkout -q main; sed -i 5s/5/m/ f; git commit -qam m; git merge b", status=1
    )
    _git(
        run_twins,
        "cat f; git status --porcelain; git checkout --theirs f 2>&1; git commit -qam merged; git log --format=%T",
    )


def test_archives_patches_and_bundles(run_twins: Twins) -> None:
    """What git writes for others, and reads from them."""
    _git(run_twins, _HISTORY)
    _git(
        run_twins,
        """
        cd repo; git archive main -o ../main.tar; git bundle create -q ../all.bundle --all
        git format-patch -q v1..side -o ..
        cd ..; git clone -q -b side all.bundle bundled; git -C bundled checkout -q v1
        git -C bundled am -q "$PWD"/*.patch
        git -C bundled log --format=%T; mkdir unpacked; tar xf main.tar -C unpacked; git -C bundled fsck
        """,
    )
