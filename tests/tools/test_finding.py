"""find, du, df, stat, diff, ls and grep: what they tell of a tree is what they tell of a local one."""

import pytest

from tests.tools.twins import Twins

pytestmark = pytest.mark.mount
SETTINGS = {"pipeline_object_limit": 0}


def test_find(twins: Twins) -> None:
    """By name, type, size, times, mode, attributes of links; what it deletes and runs."""
    twins.both('cp -a "$SOURCE"/. .; touch -d 2022-02-02 middle; touch -d 2021-01-01 stamp')
    for test in (
        "-type f", "-type l", "-type d", "-xtype l", "-empty", "-size +50k", "-type f -size -2c", "-newer stamp",
        "-mtime +100",
        "-mmin -600", "-perm 644", "-perm -g=w", "-name 't*'", "-lname '*middle'", "-samefile a/text", "-user $(id -u)",
        "-newermt 2020-09-14", "-executable -type f", "-links 1 -type f", "-regex '.*/b/.*'", "-maxdepth 1",
        "-L -type f",
    ):  # fmt: skip
        first, rest = ("-L", test.removeprefix("-L ")) if test.startswith("-L") else ("", test)
        assert twins.both(f"find {first} . {rest} | sort"), test
    twins.both("find . -type f -printf '%p %s %m %T@ %y %l\\n' | sort; find . -type f -exec md5sum {} + | sort")
    twins.both("find . -type f -size -2c -delete; find a -depth -print | sort; find group -delete; ls")
    twins.same()


def test_du(twins: Twins) -> None:
    """Apparent sizes are equal to the byte; blocks hold at least the bytes, and not much more."""
    twins.both('cp -a "$SOURCE"/. .; find . -type f -print0 | sort -z | du --files0-from=- -b; du -abc large middle')
    for directory in (twins.mounted, twins.local):
        files = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
        for path in files:
            found = path.stat()
            assert found.st_size <= found.st_blocks * 512 <= found.st_size + 8192
    used, apparent = (int(twins.alone(f"du -s {how} . | cut -f1")) for how in ("-B1", "--apparent-size -B1"))
    bytes_in_files = int(twins.alone("find . -type f -exec cat {} + | wc -c"))
    assert bytes_in_files <= used <= bytes_in_files + 200_000
    assert bytes_in_files <= apparent <= bytes_in_files + 200_000


def test_df(twins: Twins) -> None:
    """df finds the mount by any path in it, and its numbers fit together."""
    twins.both('cp "$SOURCE"/large k; df -P k | wc -l; df . > /dev/null; df -i . > /dev/null; stat -f -c %l .')
    kind, size, used, free = twins.alone("df -B1 --output=fstype,size,used,avail k | tail -1").split()
    assert kind == "fuse.fusefs"
    assert 0 < int(used) <= int(size)
    assert 0 < int(free) <= int(size)


def test_looking_at_trees(twins: Twins) -> None:
    """ls, stat, file tests of the shell, diff, grep, wc and sums."""
    twins.both(
        """
        cp -a "$SOURCE"/. .; ls -AR; ls -t a/b; ls -S a/text large middle; ls -F a
        ls -l --time-style=full-iso large a/text
        stat -c '%n %F %s %a %h %Y %U' a/text a/up large; [ -x group/script ]; [ ! -x middle ]; [ a/text -ef link ]
        [ -h a/dangling ]; [ ! -e a/dangling ]; grep -rn text . | sort; diff -r --no-dereference . "$SOURCE"
        wc -c large
        sha256sum large middle; head -c 5 middle | od -c; tail -c 5 large | od -c; getfattr -d a/text; group/script
        """
    )
    twins.both('echo x >> a/text; diff -rq --no-dereference . "$SOURCE"', status=1)
    twins.same()
