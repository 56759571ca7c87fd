"""rsync: what was copied once is not copied again, and each way of writing leaves what it leaves on a local disk."""

import pytest

from tests.tools.twins import Twins, same_tree

pytestmark = pytest.mark.mount
SETTINGS = {"pipeline_object_limit": 0}

_SECOND_RUN = """
rsync -aX --itemize-changes --stats "$SOURCE"/ copy/ | sed -nE '/^[<>ch.*]/p; /files transferred|created|deleted/p'
"""


def test_the_second_run_copies_nothing(twins: Twins) -> None:
    """Sizes, times, modes and attributes are found as the first run set them; checksums agree too."""
    twins.both('rsync -aX "$SOURCE"/ copy/')
    same_tree(twins.mounted / "copy", twins.source)
    told = twins.both(_SECOND_RUN)
    assert "regular files transferred: 0" in told
    assert not [line for line in told.splitlines() if line[0] in "<>ch.*"]
    assert twins.both('rsync -aXc --itemize-changes "$SOURCE"/ copy/') == ""
    assert twins.both('rsync -aX --itemize-changes copy/ "$SOURCE"/') == ""
    twins.same(times=True)


def test_out_of_the_mount(twins: Twins) -> None:
    """The mount as the source: the copy is exact, and the second run is empty."""
    twins.both('cp -a "$SOURCE" tree; rsync -aX tree/ "$OUT"/copy/')
    same_tree(twins.outside(twins.mounted) / "copy", twins.source)
    assert twins.both('rsync -aX --itemize-changes tree/ "$OUT"/copy/') == ""


def test_only_what_changed_is_copied(twins: Twins) -> None:
    """Of a file, a mode, an attribute and a symlink that changed, each is itemized and put right, and nothing else."""
    twins.both(
        """
        cp -a "$SOURCE" "$OUT"/from; rsync -aX "$OUT"/from/ copy/; cd "$OUT"/from
        echo changed > a/text; touch -d 2001-02-03 a/text; chmod 600 middle; setfattr -n user.new -v 1 group/script
        ln -sfn a/b link; touch -d 2001-02-03 link a a/b group .; setfattr -x user.of.directory a/b
        """
    )
    told = twins.both('rsync -aX --itemize-changes "$OUT"/from/ copy/')
    changed = {line.split(maxsplit=1)[1].removesuffix(" -> a/b") for line in told.splitlines()}
    assert changed == {"./", "a/", "a/text", "a/b/", "group/", "group/script", "middle", "link"}
    assert twins.both('rsync -aX --itemize-changes "$OUT"/from/ copy/') == ""
    twins.same()


@pytest.mark.parametrize("way", ["--inplace --no-whole-file", "--append-verify", "--inplace --append"])
def test_ways_of_writing_to_what_exists(twins: Twins, way: str) -> None:
    """Instead of a temporary file and a rename: into the file itself, or at its end."""
    twins.both(
        """
        mkdir "$OUT"/from; head -c 300000 "$SOURCE"/large > "$OUT"/from/k; rsync -a "$OUT"/from/ .
        head -c 900000 "$SOURCE"/large > "$OUT"/from/k; touch -d 2001-02-03 "$OUT"/from/k
        rsync -a $way --itemize-changes "$OUT"/from/ .; cmp k "$OUT"/from/k
        rsync -a $way --itemize-changes "$OUT"/from/ .
        """,
        way=way,
    )
    twins.same()


def test_deltas(twins: Twins) -> None:
    """The rolling checksum finds what the old value has already: few bytes are sent."""
    twins.both('cp "$SOURCE"/large k; mkdir "$OUT"/from; (cat k; echo behind) > "$OUT"/from/k')
    for way in ("", "--inplace"):
        told = twins.both(
            f'cp "$SOURCE"/large k; rsync -a --no-whole-file {way} --stats "$OUT"/from/ . | grep ^Literal'
        )
        assert int(told.splitlines()[0].split()[2].replace(",", "")) < 20_000
    twins.same()


def test_deleting(twins: Twins) -> None:
    """--delete removes what is not in the source, before, during or after; --backup keeps it."""
    twins.both('rsync -aX "$SOURCE"/ copy/; cp -a "$SOURCE" "$OUT"/from; cd "$OUT"/from; rm -r a/b middle link')
    twins.both('rsync -aX --delete --backup --suffix=.old --dry-run --itemize-changes "$OUT"/from/ copy/ | sort')
    twins.both('rsync -aX --delete --backup --backup-dir=../kept --itemize-changes "$OUT"/from/ copy/ | sort')
    same_tree(twins.mounted / "copy", twins.outside(twins.mounted) / "from", times=False)
    for when in ("before", "during", "delay", "after"):
        twins.both(f'mkdir copy/x; touch copy/x/k copy/k; rsync -aX --delete-{when} "$OUT"/from/ copy/')
        same_tree(twins.mounted / "copy", twins.outside(twins.mounted) / "from", times=False)
    twins.same()


def test_other_ways(twins: Twins) -> None:
    """Staged and removed at the source, with a directory for partial files, synced, and only what is newer."""
    twins.both(
        """
        rsync -a --delay-updates "$SOURCE"/ copy/; rsync -a --partial-dir=.partial "$SOURCE"/ partial/
        rsync -a --fsync --temp-dir=. "$SOURCE"/ synced/ 2>&1; rsync -a --remove-source-files copy/ moved/
        find copy | sort
        echo mine > moved/a/text; rsync -au "$SOURCE"/ moved/; cat moved/a/text
        rsync -a --ignore-existing "$SOURCE"/ moved/; rsync -a --existing --size-only "$SOURCE"/ moved/
        cat moved/a/text
        rsync -a --link-dest="$PWD"/moved "$SOURCE"/group/ none 2> /dev/null; find none | sort
        """
    )
    twins.same()


def test_hard_links_are_the_documented_deviation(run_twins: Twins) -> None:
    """`rsync -H` says that it may not link; without it, each name becomes an object of its own."""
    run_twins.both('mkdir "$OUT"/d; echo x > "$OUT"/d/1; ln "$OUT"/d/1 "$OUT"/d/2')
    assert "Operation not permitted" in run_twins.alone('rsync -aH "$OUT"/d/ linked/', status=23)
    assert run_twins.alone('rsync -a "$OUT"/d/ plain/; cat plain/1 plain/2') == "x\nx\n"
