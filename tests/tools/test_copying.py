"""cp, mv, install, and Python's shutil: the same copies as in a local directory."""

from pathlib import Path

import pytest

from tests.tools.twins import Twins, same_tree

pytestmark = pytest.mark.mount
SETTINGS = {"pipeline_object_limit": 0}


def test_cp_a_in_within_and_out(twins: Twins) -> None:
    """Every copy has the original's bytes, modes, times to the nanosecond, symlinks and attributes."""
    twins.both('cp -a "$SOURCE" in; cp -a in within; cp -a within "$OUT"/out; diff -r --no-dereference in "$OUT"/out')
    twins.same(times=True)
    for copy in (twins.mounted / "in", twins.mounted / "within", twins.outside(twins.mounted) / "out"):
        same_tree(copy, twins.source)


def test_cp_onto_what_exists(twins: Twins) -> None:
    """Options that look at what is there already: -n, -u, -f, -b, -T, --remove-destination, --parents."""
    twins.both(
        """
        cp -a "$SOURCE"/. .
        echo old > k; echo other > l
        cp -n l k && cat k
        touch -d 2000-01-01 k && cp -u l k && cat k
        touch -d 2100-01-01 k && cp -u a/text k && cat k
        cp -b a/text k && cat k k~
        cp --backup=numbered a/text k && cp --backup=numbered l k && ls k*
        cp -f l group/sealed && cat group/sealed
        cp --remove-destination a/text link && test ! -L link && cat link a/text
        cp l a/up && cat middle
        mkdir parents && cp --parents a/b/nothing parents && find parents | sort
        mkdir -p merged/a && cp -rT a merged/a && find merged | sort
        cp --reflink=auto --sparse=always large copied && cmp large copied
        """
    )
    twins.same()


def test_cp_that_fails_fails_in_the_same_way(twins: Twins) -> None:
    """The exit status and the message are those of a local directory."""
    twins.both("echo x > k; cp k k", status=1)
    twins.both("mkdir d; cp d e", status=1)
    twins.both("cp k missing/k", status=1)
    twins.both("cp -T k d", status=1)
    twins.both("ln -s k dangling-to; ln -s gone dangling; cp k dangling", status=1)
    twins.same()


def test_mv_within(twins: Twins) -> None:
    """A file, a directory, a symlink, over a file, over an empty directory, with a backup, and into itself."""
    twins.both(
        """
        cp -a "$SOURCE"/. .
        mv a/text renamed; mv group a/b/; mv link moved-link; mv middle large "$PWD"/a/b/empty
        mv aside a/up; mkdir empty; mv -T a/b empty
        echo 1 > one; echo 2 > two; mv -n one two; cat one two; mv -b one two; cat two two~
        mv two~ -t empty; mv -v two three
        """
    )
    twins.both("mv a a/below", status=1)
    twins.both("mkdir full; touch full/k; mkdir d; touch d/k; mv -T d full", status=1)
    twins.same()
    same_tree(twins.mounted / "empty/group", twins.source / "group")


def test_mv_to_and_from_a_local_directory(twins: Twins) -> None:
    """Between filesystems mv copies and deletes; nothing is lost on the way."""
    twins.both('cp -a "$SOURCE" "$OUT"/tree; mv "$OUT"/tree/a "$OUT"/tree/large .; mv "$OUT"/tree .; ls "$OUT"')
    same_tree(twins.mounted / "a", twins.source / "a")
    twins.both('mv a "$OUT"/back; mv tree/middle "$OUT"/middle; echo over > "$OUT"/large; mv -f large "$OUT"/large; ls')
    twins.same()
    same_tree(twins.outside(twins.mounted) / "back", twins.source / "a")


def test_mv_between_pipelines_and_runs(twins: Twins, other_pipeline: Path, tmp_path: Path) -> None:
    """From one lifetime to another mv renames: the inode stays, and the tree is what it was."""
    (tmp_path / "other").mkdir()
    twins.both('cp -a "$SOURCE" tree')
    inodes = [path.lstat().st_ino for path in sorted((twins.mounted / "tree").rglob("*"))]
    for directory, other in ((twins.mounted, other_pipeline), (twins.local, tmp_path / "other")):
        twins_of = Twins(directory, directory, twins.scratch, twins.source)
        twins_of.alone('mv tree "$other"; mv "$other"/tree/middle .; ls', other=other)
    assert inodes == [
        (twins.mounted / "middle" if path.name == "middle" else path).lstat().st_ino
        for path in sorted([*(other_pipeline / "tree").rglob("*"), other_pipeline / "tree/middle"])
    ]
    same_tree(other_pipeline, tmp_path / "other", times=False)
    twins.same()


def test_install(twins: Twins) -> None:
    """`install` sets modes, replaces what is there, makes directories, keeps times and backups on request."""
    twins.both(
        """
        install -d -m 750 bin lib/deep; install -m 700 "$SOURCE"/group/script bin/run && bin/run
        install -m 444 "$SOURCE"/a/text bin/run; cat bin/run
        install -p -D "$SOURCE"/middle share/new/middle; stat -c '%Y %a' share/new/middle
        install -b -S .old "$SOURCE"/group/sealed bin/run; ls bin
        touch before; install -C -m 644 "$SOURCE"/middle share/new/middle; stat -c '%a' share/new/middle
        [ share/new/middle -ot before ] || echo new
        """
    )
    twins.same()


def test_hard_links_are_the_documented_deviation(run_twins: Twins) -> None:
    """`ln` and `cp -l` say EPERM; `cp -a` of files that are linked with each other copies the first of them only."""
    run_twins.both('echo x > "$OUT"/one; ln "$OUT"/one "$OUT"/two; echo y > k')
    assert "Operation not permitted" in run_twins.alone("ln k l", status=1)
    assert "Operation not permitted" in run_twins.alone("cp -l k l", status=1)
    assert "cannot create hard link" in run_twins.alone('cp -a "$OUT" out', status=1)
    first = run_twins.alone('ls -U "$OUT"').split()[0]  # in the order of its filesystem
    assert run_twins.alone("ls out; cat out/*") == f"{first}\nx\n"
    run_twins.alone('cp -a --no-preserve=links "$OUT" whole && ls whole && cmp whole/one whole/two')


def test_pythons_shutil(twins: Twins) -> None:
    """copytree, copy2, copyfile, move and rmtree."""
    twins.python(
        """
        shutil.copytree(source, "in", symlinks=True)
        shutil.copytree("in", "within", symlinks=True, ignore=shutil.ignore_patterns("large"))
        shutil.copytree("in/a", "within/a", dirs_exist_ok=True, ignore=shutil.ignore_patterns("dangling"))
        shutil.copytree("within", out + "/out", symlinks=True)
        shutil.copyfile("in/middle", "middle")
        shutil.copy2("in/large", "large2")
        shutil.move("in/group", "moved")
        shutil.move("in/a", out + "/moved")
        shutil.move(out + "/out/a", "back")
        shutil.rmtree("within")
        shutil.rmtree(out + "/out")
        print(sorted(os.listdir(".")), sorted(os.listdir(out)), shutil.disk_usage(".").total > 0)
        """
    )
    twins.same()
    same_tree(twins.mounted / "back", twins.source / "a")
