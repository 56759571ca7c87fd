"""The same steps in a mount and in a local directory, and the comparison of what came of them."""

import hashlib
import os
import stat
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import SECONDS, run_sh

_IMPORTS = """import os, pathlib, shutil, sys, tempfile
source, out = os.environ["SOURCE"], os.environ["OUT"]
"""


class Entry(NamedTuple):
    """What tools see of one name. What a kind of file has not is None."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime_ns: int | None
    size: int | None
    content: str | None
    target: str | None
    xattrs: dict[str, bytes] | None


def entry(path: Path, *, times: bool = True) -> Entry:
    """Describe one file, directory or symlink; its name decides nothing."""
    found = path.lstat()
    is_file, is_link = stat.S_ISREG(found.st_mode), stat.S_ISLNK(found.st_mode)
    return Entry(
        kind=stat.filemode(found.st_mode)[0],
        mode=stat.S_IMODE(found.st_mode),
        owner=(found.st_uid, found.st_gid),
        mtime_ns=found.st_mtime_ns if times else None,
        size=found.st_size if is_file else None,  # the size of a directory is up to each filesystem
        content=_digest(path) if is_file else None,
        target=os.readlink(path) if is_link else None,
        xattrs=None if is_link else {name: os.getxattr(path, name) for name in sorted(os.listxattr(path))},
    )


def _digest(path: Path) -> str:
    content = path.read_bytes()
    return repr(content) if len(content) <= 100 else hashlib.sha256(content).hexdigest()


def tree(directory: Path, *, times: bool = True) -> dict[str, Entry]:
    """Describe everything below a directory, by its path in it."""
    return {
        os.path.relpath(os.path.join(parent, name), directory): entry(Path(parent, name), times=times)
        for parent, directories, files in os.walk(directory)
        for name in (*directories, *files)
    }


def same_tree(one: Path, other: Path, *, times: bool = True) -> None:
    """Both directories hold the same: types, modes, owners, sizes, bytes, symlinks, extended attributes, times.

    `times=False` is for what a tool has written just now, in the one and then in the other.
    """
    ours, theirs = tree(one, times=times), tree(other, times=times)
    assert ours.keys() == theirs.keys(), f"in one of the two only: {sorted(ours.keys() ^ theirs.keys())}"
    different = [f"{name}:\n  {ours[name]}\n  {theirs[name]}" for name in ours if ours[name] != theirs[name]]
    assert not different, "\n".join(different)


@dataclass(frozen=True)
class Twins:
    """A directory in the mount and a local one, which go through the same steps.

    Scripts find directories of their own outside of both, one for each, in $OUT, and `source` in $SOURCE.
    """

    mounted: Path
    local: Path
    scratch: Path
    source: Path

    def both(self, script: str, *, status: int = 0, seconds: float = SECONDS, **variables: object) -> str:
        """Run a script in each. How it ends, and all that it prints, has to be the same; returns its output.

        The path of the directory itself is printed as HERE, and that of $OUT as OUT.
        """
        ours = self._run(self.mounted, script, seconds, variables)
        theirs = self._run(self.local, script, seconds, variables)
        assert ours == theirs, f"in the mount: {_told(ours)}\nin the local directory: {_told(theirs)}"
        assert ours.status == status, _told(ours)
        return ours.output

    def python(self, code: str) -> str:
        """Run Python code in each, as `both` does; it finds `source` and `out`, and some modules are imported."""
        return self.both('exec "$PYTHON" -I -c "$CODE"', CODE=_IMPORTS + textwrap.dedent(code))

    def alone(self, script: str, *, status: int = 0, **variables: object) -> str:
        """Run a script in the mount only, and return what it printed to both of its outputs."""
        done = self._run(self.mounted, script, SECONDS, variables)
        assert done.status == status, _told(done)
        return done.output + done.trouble

    def same(self, *, times: bool = False) -> None:
        """Both directories hold the same, and so do the ones outside."""
        same_tree(self.mounted, self.local, times=times)
        same_tree(self.outside(self.mounted), self.outside(self.local), times=times)

    def outside(self, directory: Path) -> Path:
        """The directory outside that belongs to one of the two."""
        path = self.scratch / ("out-mounted" if directory == self.mounted else "out-local")
        path.mkdir(exist_ok=True)
        return path

    def _run(self, directory: Path, script: str, seconds: float, variables: dict[str, object]) -> "_Done":
        outside = self.outside(directory)
        home = self.scratch / f"home-{outside.name}"
        home.mkdir(exist_ok=True)
        defaults = {
            "OUT": outside,
            "SOURCE": self.source,
            "HOME": home,
            "PYTHON": sys.executable,
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": 1,
        }
        done = run_sh(f"set -e; umask 022\n{script}", directory, seconds=seconds, **(defaults | variables))

        def neutral(text: str) -> str:
            return text.replace(str(directory), "HERE").replace(str(outside), "OUT").replace(str(home), "HOME")

        return _Done(done.returncode, neutral(done.stdout), neutral(done.stderr))


class _Done(NamedTuple):
    status: int
    output: str
    trouble: str


def _told(done: _Done) -> str:
    return f"ended with {done.status}\n{done.output}{done.trouble}"
