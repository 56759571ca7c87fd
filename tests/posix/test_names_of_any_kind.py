"""Names of all bytes and lengths, and keys longer than any path."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeMount
from tests.posix.twins import Twins, outcome
from tests.support.mounting import MountedStore
from tests.support.processes import sh
from tests.support.shared_mount import refused

pytestmark = pytest.mark.mount

ONE_BYTE = [bytes([byte]) for byte in range(1, 256) if byte not in b"/."]
SPECIAL = [
    b"...",
    b"..x",
    b". ",
    b" .",
    b"-",
    b"-rf",
    b"--",
    b"~",
    b"*",
    b"\\",
    b"a\\b",
    b"a:b",
    b"CON",
    b"x" * 254 + b"\xff",
]
SPECIAL += [
    b"\xc3",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xef\xbb\xbf",
    "‮".encode(),
    b"\r\n",
    b"\x1b[31m",
]
NAMES = list(dict.fromkeys(ONE_BYTE + SPECIAL))


def test_all_bytes(twins: Twins) -> None:
    """Every byte but / and NUL: as an object, a directory and a symlink, in a listing, a rename and a removal."""

    def steps(directory: Path) -> list[object]:
        base = os.fsencode(directory)
        found: list[object] = []
        for name in NAMES:
            for kind in (b"objects", b"directories", b"symlinks"):
                os.makedirs(os.path.join(base, kind), exist_ok=True)
            with open(os.path.join(base, b"objects", name), "wb") as file:
                file.write(name)
            os.mkdir(os.path.join(base, b"directories", name))
            os.symlink(name, os.path.join(base, b"symlinks", name))
            os.rename(os.path.join(base, b"directories", name), os.path.join(base, b"directories/new"))
            os.rename(os.path.join(base, b"directories/new"), os.path.join(base, b"directories", name))
        for kind in (b"objects", b"directories", b"symlinks"):
            found.append(sorted(os.listdir(os.path.join(base, kind))))
        for name in NAMES:
            with open(os.path.join(base, b"objects", name), "rb") as file:
                found.append(file.read() == os.fsencode(os.readlink(os.path.join(base, b"symlinks", name))))
        found.append(
            sh(
                "find . -print0 | sort -z | tr '\\0' '/' | md5sum; find . -print0 | xargs -0 ls -d | wc -l",
                base.decode(),
            )
        )
        sh("rm -r objects directories symlinks", directory)
        return [*found, os.listdir(directory)]

    found = twins.same(steps)
    assert isinstance(found, list)
    assert found[0] == found[2] == sorted(NAMES)
    assert all(found[3:-2])
    assert found[-1] == []


def test_bytes_stay_over_a_remount(make_mount: MakeMount) -> None:
    """Names that are no text come back as they were, and the command knows them by the same bytes."""
    store = make_mount()
    home = os.fsencode(store.run / "1")
    os.mkdir(home)
    for name in NAMES:
        with open(os.path.join(home, name), "wb") as file:
            file.write(name * 2)
    store.remount()
    assert sorted(os.listdir(home)) == sorted(NAMES)
    for name in NAMES:
        with open(os.path.join(home, name), "rb") as file:
            assert file.read() == name * 2
    for name in (b"\xff", b" ", SPECIAL[13]):
        assert store.cli("run", "object", "get", "1", name, exit_code=0).stdout == name * 2


TOO_LONG = "x" * 256
CALLS: dict[str, Callable[[Path, str], object]] = {
    "stat": lambda d, n: os.stat(d / n),
    "lstat": lambda d, n: os.lstat(d / n),
    "access": lambda d, n: (d / n).open(),
    "create": lambda d, n: os.close(os.open(d / n, os.O_WRONLY | os.O_CREAT)),
    "create exclusively": lambda d, n: os.close(os.open(d / n, os.O_WRONLY | os.O_CREAT | os.O_EXCL)),
    "unlink": lambda d, n: os.unlink(d / n),
    "mkdir": lambda d, n: os.mkdir(d / n),
    "rmdir": lambda d, n: os.rmdir(d / n),
    "symlink": lambda d, n: os.symlink("k", d / n),
    "readlink": lambda d, n: os.readlink(d / n),
    "rename from": lambda d, n: os.rename(d / n, d / "new"),
    "rename to": lambda d, n: os.rename(d / "k", d / n),
    "rename a directory to": lambda d, n: os.rename(d / "d", d / n),
    "truncate": lambda d, n: os.truncate(d / n, 0),
    "chmod": lambda d, n: os.chmod(d / n, 0o600),
    "utime": lambda d, n: os.utime(d / n),
    "setxattr": lambda d, n: os.setxattr(d / n, "user.a", b""),
    "statvfs": lambda d, n: os.statvfs(d / n),
    "listdir": lambda d, n: os.listdir(d / n),
    "chdir": lambda d, n: os.chdir(d / n),
    "in the middle": lambda d, n: os.stat(d / n / "k"),
    "link from": lambda d, n: os.link(d / n, d / "new"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_256_bytes(twins: Twins, call: Callable[[Path, str], object]) -> None:
    """A part of 256 bytes is ENAMETOOLONG in every call, and changes nothing."""

    def steps(directory: Path) -> list[object]:
        (directory / "k").write_bytes(b"value")
        (directory / "d").mkdir()
        found = [outcome(call, directory, TOO_LONG), outcome(call, directory, "ü" * 128)]
        return [*found, sorted(os.listdir(directory))]

    assert twins.same(steps) == ["ENAMETOOLONG", "ENAMETOOLONG", ["d", "k"]]


def test_the_longest_path(twins: Twins) -> None:
    """A path of 4,095 bytes in one call is used, one more is ENAMETOOLONG."""

    def steps(directory: Path) -> list[object]:
        found: list[object] = []
        (directory / "d").mkdir()
        (directory / "k").write_bytes(b"value")
        for length in (4095, 4096):
            fill = length - len(os.fspath(directory)) - len("/k")
            path = os.fspath(directory) + "/." * (fill // 2) + "/" * (fill % 2) + "/k"
            assert len(path) == length
            found += [outcome(os.stat, path) == os.stat(directory / "k"), outcome(os.truncate, path, 5)]
        return found

    assert twins.same(steps) == [True, None, False, "ENAMETOOLONG"]


# Keys longer than PATH_MAX

DEPTH = 30
PART = "d" * 200
"""Thirty of them are 6,030 bytes."""


def _make_deep(directory: Path) -> None:
    """A directory, an object and a symlink at each level, made by relative steps."""
    fd = os.open(directory, os.O_RDONLY)
    for level in range(DEPTH):
        os.mkdir(PART, dir_fd=fd)
        below = os.open(PART, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
        file = os.open("k", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd)
        os.write(file, str(level).encode())
        os.close(file)
        os.symlink("k", "l", dir_fd=fd)
    os.close(fd)


DEEP_TOOLS = {
    "find": "find . | wc -l; find . -name k -size -2c | wc -l; find . -type l -printf '%d %l\\n' | sort",
    "find -execdir": "find . -name k -execdir cat {} \\; | wc -c",
    "ls": "ls -R | wc; ls -lR | grep -c -- '-> k'",
    "grep": "grep -rc 29 . | grep -c ':1$'",
    "chmod": "chmod -R go-rwx . && find . ! -type l -perm /077 | wc -l",
    "tar": f"tar c {PART} | tar t | wc -l; mkdir new; tar c {PART} | tar -C new -x; find new | wc -l",
    "mv": f"mkdir -p a/b && mv {PART} a/b/c && find a | wc -l; find a -name k -execdir cat {{}} + | fold -w1 | sort",
    "cd": f"for i in $(seq 20); do cd {PART} || exit 1; done; cat k; echo new > k; cat l; find . | wc -l",
    "find -delete": f"find {PART} -mindepth 1 -delete; ls",
    "rm": f"rm -r {PART}; ls -A",
}


@pytest.mark.parametrize("script", DEEP_TOOLS.values(), ids=DEEP_TOOLS)
def test_tools_below_path_max(twins: Twins, script: str) -> None:
    """What tools do in a tree whose keys are longer than a path may be."""

    def steps(directory: Path) -> str:
        _make_deep(directory)
        return sh(script, directory)

    try:
        twins.same(steps)
    finally:
        for directory in twins:
            sh("rm -rf -- *", directory)


def test_a_long_key_by_the_command_and_after_a_remount(make_mount: MakeMount) -> None:
    """A key of 6,000 bytes is one key for the command too, and survives the daemon."""
    store = make_mount()
    (store.run / "1").mkdir()
    _make_deep(store.run / "1")
    key = (PART + "/") * DEPTH + "k"
    _check_deep(store, key, b"29")
    store.remount()
    _check_deep(store, key, b"29")
    store.cli("run", "object", "put", "--force", "1", key, "-", stdin=b"new", exit_code=0)
    _check_deep(store, key, b"new")
    store.cli("run", "object", "delete", "1", key, exit_code=0)
    assert sh(f"find {PART} -name k | wc -l", store.run / "1") == f"{DEPTH - 1}\n"
    with refused(errno.ENAMETOOLONG):
        os.stat(f"{store.run}/1/{key}")


def _check_deep(store: MountedStore, key: str, value: bytes) -> None:
    assert store.cli("run", "object", "get", "1", key, exit_code=0).stdout == value
    fd = os.open(store.run / "1", os.O_RDONLY)
    for _ in range(DEPTH // 10):
        below = os.open("/".join([PART] * 10), os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open("k", os.O_RDONLY, dir_fd=fd)
    assert os.read(file, 100) == value
    os.close(file)
    os.close(fd)


def test_a_thousand_levels(twins: Twins) -> None:
    """A tree may be deeper than it has bytes in its names: it is walked, renamed and removed."""

    def steps(directory: Path) -> str:
        fd = os.open(directory, os.O_RDONLY)
        for _ in range(1000):
            os.mkdir("x", dir_fd=fd)
            below = os.open("x", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(os.open("k", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd))
        os.close(fd)
        return sh("find x | wc -l; mv x y; find y -name k | wc -c; du -a y | wc -l; rm -r y; ls -A", directory)

    assert twins.same(steps) == "1001\n2002\n1001\n"
