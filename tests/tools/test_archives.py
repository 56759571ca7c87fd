"""tar, zip, gzip, xz and Python's archives: what is packed here is unpacked there, and the other way round."""

import pytest

from tests.tools.twins import Twins, same_tree

pytestmark = pytest.mark.mount
SETTINGS = {"pipeline_object_limit": 0}


@pytest.mark.parametrize(("flags", "name"), [("", "t.tar"), ("z", "t.tar.gz"), ("J", "t.tar.xz")])
def test_tar_packs_and_unpacks(run_twins: Twins, flags: str, name: str) -> None:
    """The pax format keeps times to the nanosecond and attributes: nothing differs from what was packed."""
    run_twins.both(
        """
        cp -a "$SOURCE" tree
        tar -c${flags}f $name --format=posix --xattrs --sort=name tree
        mkdir unpacked; tar -x${flags}f $name --xattrs --xattrs-include='user.*' -C unpacked
        tar -t${flags}f $name; tar -d${flags}f $name
        mkdir "$OUT"/unpacked; tar -x${flags}pf $name --xattrs -C "$OUT"/unpacked; rm $name
        """,
        flags=flags,
        name=name,
    )
    for unpacked in (run_twins.mounted / "unpacked", run_twins.outside(run_twins.mounted) / "unpacked"):
        same_tree(unpacked / "tree", run_twins.source)


def test_tar_unpacks_over_what_exists(twins: Twins) -> None:
    """Each way of replacing: the default unlinks first, and there are --overwrite, -k, -U and --keep-newer-files."""
    twins.both(
        """
        tar -C "$SOURCE" -cf "$OUT"/t.tar .
        tar xf "$OUT"/t.tar; echo changed > a/text; rm middle; ln -s a/text middle; tar xf "$OUT"/t.tar; cat a/text
        echo longer than before > a/text; tar xf "$OUT"/t.tar --overwrite; cat a/text
        echo kept > a/text; tar xf "$OUT"/t.tar --skip-old-files; cat a/text
        tar xf "$OUT"/t.tar --keep-newer-files 2> /dev/null; cat a/text
        tar xUf "$OUT"/t.tar ./a/text; cat a/text
        """
    )
    twins.both('tar xkf "$OUT"/t.tar ./a/text', status=2)
    twins.same()


def test_tar_changes_an_archive(twins: Twins) -> None:
    """Appending to, updating, concatenating and deleting from an archive in the mount."""
    twins.both(
        """
        cp -a "$SOURCE"/a "$SOURCE"/group .
        tar cf t.tar --sort=name a; tar rf t.tar --sort=name group; touch -d 2100-01-01 a/text; tar uf t.tar a/text
        tar cf more.tar group/script; tar Af t.tar more.tar; tar --delete -f t.tar a/b; tar tf t.tar
        rm t.tar more.tar
        """
    )
    twins.same()


def test_tar_through_pipes(twins: Twins) -> None:
    """The usual copy from one directory to another."""
    twins.both(
        'tar -C "$SOURCE" -c --format=posix . | tar -xp; mkdir -p "$OUT"/x; tar cz . | tar -C "$OUT"/x -xz; ls "$OUT"/x'
    )
    twins.same()


def test_tar_of_hard_links_is_the_documented_deviation(run_twins: Twins) -> None:
    """tar unpacks the first of the names, and says of the others that it may not link them."""
    run_twins.both('mkdir "$OUT"/d; echo x > "$OUT"/d/1; ln "$OUT"/d/1 "$OUT"/d/2; tar -C "$OUT" -cf t.tar d/1 d/2')
    assert "Operation not permitted" in run_twins.alone("tar xf t.tar", status=2)
    assert run_twins.alone("ls d; cat d/*") == "1\nx\n"
    run_twins.alone('rm -r d; tar -C "$OUT" -c --hard-dereference d | tar x && cmp d/1 d/2')


def test_zip_and_unzip(twins: Twins) -> None:
    """zip writes a temporary file and renames it; -u, -d and -m change an archive."""
    twins.both(
        """
        cp -a "$SOURCE"/. .
        zip -qry t.zip a group middle link; zip -d t.zip a/up; echo new > a/text; touch -d 2100-01-01 a/text
        zip -u t.zip a/text; zip -qm t.zip large; ls; unzip -tqq t.zip; unzip -Z1 t.zip | sort
        mkdir to; unzip -q t.zip -d to; unzip -qo t.zip -d to; unzip -p t.zip a/text
        mkdir "$OUT"/to; unzip -q t.zip -d "$OUT"/to; rm t.zip
        """
    )
    twins.same()


def test_compressing_in_place(twins: Twins) -> None:
    """gzip, bzip2 and xz replace a file by another that keeps its mode and time."""
    twins.both(
        """
        for tool in gzip bzip2 xz; do
            cp -p "$SOURCE"/middle $tool; chmod 640 $tool; $tool $tool; ls $tool*; $tool -t $tool.*
            $tool -dk $tool.*; cmp $tool "$SOURCE"/middle; stat -c '%a %Y' $tool; rm $tool; $tool -d $tool.*
            $tool -c $tool > out.$tool; $tool -k1 $tool; ls
        done
        """
    )
    twins.both("gzip gzip", status=2)
    twins.same()


def test_pythons_archives(twins: Twins) -> None:
    """zipfile and tarfile: written, appended to, read in the middle, unpacked."""
    twins.python(
        """
        import tarfile, zipfile
        with tarfile.open("t.tgz", "w:gz", compresslevel=1) as archive:
            archive.add(source, "tree")
        with tarfile.open("t.tgz") as archive:
            archive.extractall("tar", filter="fully_trusted")
            print(archive.extractfile("tree/group/script").read())
        with tarfile.open("t.tar", "w") as archive:
            archive.add(source + "/a", "a")
        with tarfile.open("t.tar", "a") as archive:
            archive.add(source + "/middle", "middle")
            print(archive.getnames())
        with zipfile.ZipFile("t.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(source + "/middle", "middle")
            with archive.open("streamed", "w") as member:
                member.write(b"streamed" * 20_000)
        with zipfile.ZipFile("t.zip", "a") as archive:
            archive.writestr("more", "more")
        with zipfile.ZipFile("t.zip") as archive:
            print(archive.testzip(), archive.namelist(), archive.read("more"))
            archive.extractall("zip")
        shutil.make_archive("made", "zip", "zip")
        shutil.unpack_archive("made.zip", "unmade")
        for archive in ("t.tgz", "t.zip", "made.zip"):
            os.unlink(archive)  # they tell the times of what was packed
        """
    )
    twins.same()
