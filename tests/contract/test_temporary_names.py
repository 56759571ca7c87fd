"""Programs that replace a file by a temporary name, at the limit: they cost no other object."""

from pathlib import Path

import pytest

from tests.contract.full_pipelines import FullPipeline, after, before, expected
from tests.support.mounting import MountedStore

pytestmark = pytest.mark.mount

EDITS = {
    "sed -i": "sed -i s/x/yes/ $k",
    "perl -i": "perl -pi -e s/x/yes/ $k",
    "patch": "diff -u $k $there/$k | patch -s $k",
    "rsync -a": "rsync -a $there/$k .",
    "rsync --delay-updates": "rsync -a --delay-updates $there/$k .",
    "rsync --inplace": "rsync -a --inplace $there/$k .",
    "rsync --temp-dir": "mkdir d && rsync -a --temp-dir=d $there/$k . && rmdir d",
    "rsync --fsync": "rsync -a --fsync $there/$k .",
    "install": "install -m 644 $there/$k $k",
    "install -C": "install -C -m 600 $there/$k $k",
    "cp": "cp $there/$k $k",
    "cp -p": "cp -p $there/$k $k",
    "cp --remove-destination": "cp --remove-destination $there/$k $k",
    "a copy aside": "cp $k $k.old; cp $there/$k $k; rm -f $k.old",
    "gzip and gunzip": "gzip $k 2>$there/err; gunzip -f $k 2>$there/err; cp $there/$k $k",
    "mv": "mv $there/$k $k",
    "mktemp and mv": 't=$(mktemp -p .) && cat $there/$k > "$t" && mv "$t" $k',
    "mktemp -d and mv": 't=$(mktemp -d -p .) && cp $there/$k "$t" && mv "$t"/$k . && rmdir "$t"',
    "tar": "tar cf - -C $there $k | tar xf -",
    "tar --unlink-first": "tar cf - -C $there $k | tar xUf -",
    "tar --overwrite": "tar cf - -C $there $k | tar xf - --overwrite",
    "tee": "sed s/x/yes/ $k | tee $k > $there/copy",
    "sort -o": "sort -o $k $there/$k",
    "sort -o of itself": "sort -o $k $k; sort -o $k $there/$k",
    "dd": "dd if=$there/$k of=$k status=none",
    "a new file and ln -s": "cp $there/$k $k.new; ln -s $k.new link; mv $k.new $k; rm link",
}


@pytest.mark.parametrize("limit", [3, 2, 1])
@pytest.mark.parametrize("tool", EDITS)
def test_an_edit_costs_no_other_object(shared: MountedStore, tmp_path: Path, tool: str, limit: int) -> None:
    """Replacing an object by a temporary file and a rename costs no other object at the limit, nor any other's age."""
    for key in "abc"[:limit]:
        full = FullPipeline(shared, limit)
        done = full.edit(EDITS[tool], key, tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), key
        assert full.values() == expected(full.keys, key), key
        assert full.order_of_eviction() == list(expected(full.keys, key)), key


@pytest.mark.parametrize("key", "abc")
def test_several_temporary_names(shared: MountedStore, tmp_path: Path, key: str) -> None:
    """What each temporary name displaced comes back when its place is free, however many there are at once."""
    full = FullPipeline(shared, 3)
    script = "cp $there/$k tmp1; cp $there/$k tmp2; mv tmp2 $k; rm tmp1"
    assert full.edit(script, key, tmp_path).returncode == 0
    assert full.values() == expected(full.keys, key)
    assert full.order_of_eviction() == list(expected(full.keys, key))


REPLACED_BY = {"sed -i": "sed -i s/x/yes/ $k", "mv": "cp $there/$k tmp; mv tmp $k", "cp": "cp $there/$k $k"}


@pytest.mark.parametrize("limit", [3, 2, 1])
@pytest.mark.parametrize("tool", REPLACED_BY)
def test_a_replaced_value_never_comes_back(shared: MountedStore, tmp_path: Path, tool: str, limit: int) -> None:
    """`rm` deletes at once: what a key had before it was replaced is no evicted object that could come back."""
    for key in "abc"[:limit]:
        full = FullPipeline(shared, limit)
        full.edit(REPLACED_BY[tool], key, tmp_path)
        (full.path / key).unlink()
        assert full.values() == {each: before(each) for each in full.keys if each != key}, key


ALL = {
    "sed -i": "sed -i s/x/yes/ *",
    "perl -i": "perl -pi -e s/x/yes/ *",
    "rsync -a": "rsync -a $there/ .",
    "rsync --delay-updates": "rsync -a --delay-updates $there/ .",
    "rsync --inplace": "rsync -a --inplace $there/ .",
    "tar": "tar cf - -C $there . | tar xf -",
    "cp -a": "cp -a $there/. .",
    "install": "install -m 644 $there/* .",
    "mv": "mv $there/* .",
}


@pytest.mark.parametrize("limit", [3, 2, 1])
@pytest.mark.parametrize("tool", ALL)
def test_an_edit_of_all_costs_none(shared: MountedStore, tmp_path: Path, tool: str, limit: int) -> None:
    """Writing every key of a full pipeline by temporary names leaves the same keys."""
    full = FullPipeline(shared, limit)
    done = full.edit(ALL[tool], "", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert full.values() == {key: after(key) for key in full.keys}
    assert len(full.order_of_eviction()) == limit


GIVEN_UP = {
    "removed": "cp $k tmp; rm tmp",
    "removed while open": "exec 5>tmp; echo >&5; rm tmp; exec 5>&-",
    "the rename fails": "mkdir d; cp $k tmp; ! mv -T tmp d 2>$there/err; rm tmp; rmdir d",
    "never written": "touch tmp; rm tmp",
    "an rsync that finds nothing to do": "cp -a . $there/copy; rsync -a $there/copy/ .; rm -r $there/copy",
    "the output of sort": "sort $k > tmp; sort tmp > $there/sorted; rm tmp",
    "moved to a directory and back": "mkdir d; cp $k tmp; mv tmp d; mv d/tmp .; rm tmp; rmdir d",
}


@pytest.mark.parametrize("limit", [3, 2, 1])
@pytest.mark.parametrize("how", GIVEN_UP)
def test_a_temporary_name_that_was_given_up(shared: MountedStore, tmp_path: Path, how: str, limit: int) -> None:
    """What the temporary name displaced comes back when the temporary name is deleted, with the age that it had."""
    for key in "abc"[:limit]:
        full = FullPipeline(shared, limit)
        done = full.edit(GIVEN_UP[how], key, tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), key
        assert full.values() == {each: before(each) for each in full.keys}, key
        assert full.order_of_eviction() == list(full.keys), key


# Tools that keep the old value under another name: a net new object


BACKUPS = {
    "mv -b": ("mv -b $there/$k $k", "~"),
    "cp --backup": ("cp --backup $there/$k $k", "~"),
    "install -b": ("install -b -m 644 $there/$k $k", "~"),
    "rsync --backup": ("rsync -a --backup $there/$k .", "~"),
    "rsync --backup --suffix": ("rsync -a --backup --suffix=.old $there/$k .", ".old"),
    "mv and cp": ("mv $k $k.v1 && cp $there/$k $k", ".v1"),
}


@pytest.mark.parametrize("limit", [3, 2, 1])
@pytest.mark.parametrize("tool", BACKUPS)
def test_a_backup_costs_exactly_the_oldest(shared: MountedStore, tmp_path: Path, tool: str, limit: int) -> None:
    """Exactly as many of the oldest go as must: one for one net new object, which may be the backup itself."""
    script, suffix = BACKUPS[tool]
    for key in "abc"[:limit]:
        full = FullPipeline(shared, limit)
        done = full.edit(script, key, tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), key
        assert full.values() == expected(full.keys, key, key + suffix), key
        assert full.order_of_eviction() == list(expected(full.keys, key, key + suffix)), key


# These write their temporary name first and rename the old value away then, so that the oldest is gone by then.
BACKUPS_IN_THE_MIDDLE = {"sed -i.bak": "sed -i.bak s/x/yes/ $k", "perl -i.bak": "perl -pi.bak -e s/x/yes/ $k"}


@pytest.mark.parametrize("tool", BACKUPS_IN_THE_MIDDLE)
def test_a_backup_made_in_the_middle(shared: MountedStore, tmp_path: Path, tool: str) -> None:
    """A backup of any but the oldest costs exactly the oldest; one of the oldest fails and changes nothing."""
    for key in "abc":
        full = FullPipeline(shared, 3)
        done = full.edit(BACKUPS_IN_THE_MIDDLE[tool], key, tmp_path)
        if key == "a":
            assert done.returncode != 0
            assert full.values() == {each: before(each) for each in full.keys}
            assert full.order_of_eviction() == list(full.keys)
        else:
            assert (done.returncode, done.stderr) == (0, ""), key
            assert full.values() == expected(full.keys, key, f"{key}.bak")
            assert full.order_of_eviction() == list(expected(full.keys, key, f"{key}.bak"))


def test_a_temporary_name_that_is_the_oldest(shared: MountedStore, tmp_path: Path) -> None:
    """When all else was replaced since, it makes way itself; who gives it up then has lost what it was for."""
    full = FullPipeline(shared, 3)
    replace = "cp $there/a a.tmp; mv a.tmp a; cp $there/b b.tmp; mv b.tmp b;"
    assert full.edit(f"cp $there/c c.tmp; {replace} mv c.tmp c", "c", tmp_path).returncode == 0
    assert full.values() == {key: after(key) for key in "abc"}
    full = FullPipeline(shared, 3)
    assert full.edit(f"cp $there/c c.tmp; {replace} {replace} rm c.tmp", "c", tmp_path).returncode == 0
    assert full.values() == {key: after(key) for key in "ab"}
