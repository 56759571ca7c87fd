"""A store with everything in it that a store can have, and what was put there."""

import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from engine import ScopeName, Store, open_store, xattrs
from engine.config import ObjectStoreSettings
from engine.model import Attributes
from tests.support.stores import ROOT, directory, new_draft, new_put, node, rename

Values = dict[bytes, bytes]

KEEP = ScopeName.pipeline("keep")
FULL = ScopeName.pipeline("full")
RUN = ScopeName.run("42")
LINK = b"pipeline/keep/link"
LARGE = 13 * 256 * 1024 + 1000
CHUNKED = 300_000


@dataclass(slots=True)
class Made:
    """A store in a directory of its own, and what it has."""

    path: Path
    values: Values = field(default_factory=dict)
    """What each name has, by its path from the root."""
    older: dict[bytes, set[bytes]] = field(default_factory=dict)
    """What names had before, those too that are gone."""

    def files(self) -> list[Path]:
        """Of what the store consists."""
        return sorted(file for file in self.path.parent.glob(f"{self.path.name}*") if not file.name.endswith("-shm"))


def make(place: Path, seed: int, *, killed: bool, names: int = 40) -> Made:
    """Make a store in a process of its own, which closes it or is killed in the middle of it."""
    place.mkdir()
    arguments = [str(place), str(seed), "killed" if killed else "closed", str(names)]
    process = subprocess.run([sys.executable, "-m", "tests.damage.making", *arguments], cwd=ROOT, check=False)
    assert process.returncode == (-signal.SIGKILL if killed else 0), process.returncode
    made: Made = pickle.loads((place / "made").read_bytes())
    (place / "made").unlink()
    (place / "objects.db-shm").unlink(missing_ok=True)
    return made


def copy(made: Made, place: Path) -> Path:
    """A copy of all files of a store. Returns where its database is."""
    place.mkdir(exist_ok=True)
    for file in place.iterdir():
        file.unlink()
    for file in made.files():
        shutil.copyfile(file, place / file.name)
    return place / made.path.name


class _Maker:
    def __init__(self, made: Made, seed: int, *, names: int) -> None:
        self.made = made
        self.random = random.Random(seed)
        self.names = names
        self.store = open_store(ObjectStoreSettings(path=str(made.path)))

    def put(self, scope: ScopeName, key: bytes, value: bytes) -> None:
        self.store.put_object(scope, key, value, force=True)
        self._note(_path(scope, key), value)

    def close(self, scope: ScopeName, key: bytes, value: bytes) -> None:
        """A Put that is acknowledged, and not published."""
        put = new_put(self.store, directory(self.store, scope), key)
        self.store.publisher.prepare(put, new_draft(self.store, value), 1)
        self._note(_path(scope, key), value)

    def rename(self, scope: ScopeName, old: bytes, new: bytes) -> None:
        rename(self.store, scope, old, new)
        value = self.made.values.pop(_path(scope, old))
        self.made.older.setdefault(_path(scope, old), set()).add(value)
        self._note(_path(scope, new), value)

    def delete(self, scope: ScopeName, key: bytes) -> None:
        self.store.delete_object(scope, key)
        self.made.older.setdefault(_path(scope, key), set()).add(self.made.values.pop(_path(scope, key)))

    def _note(self, path: bytes, value: bytes) -> None:
        if path in self.made.values:
            self.made.older.setdefault(path, set()).add(self.made.values[path])
        self.made.values[path] = value

    def forget(self, scope: ScopeName, key: bytes) -> None:
        """It was evicted."""
        self.made.older.setdefault(_path(scope, key), set()).add(self.made.values.pop(_path(scope, key)))

    def bytes(self, size: int) -> bytes:
        return self.random.randbytes(size)

    def first(self) -> None:
        """What is in the database when the log begins."""
        self.store.create_pipeline(KEEP.name, 0)
        self.store.create_pipeline(FULL.name, 3)
        self.store.start_run(RUN.name, KEEP.name)
        for number in range(self.names):
            self.put(KEEP, b"key %d" % number, self.bytes(self.random.choice((0, 1, 100, 1000, 5000))))
            self.put(RUN, b"a/b/%d" % number, b"value of %d\n" % number * 20)
        self.put(KEEP, b"with attributes", b"x")
        packed = xattrs.with_value(None, b"user.some", b"attribute")
        self.store.tree.set_xattrs(node(self.store, KEEP, b"with attributes").ino, packed)
        self.store.tree.set_attributes(node(self.store, KEEP, b"with attributes").ino, Attributes(mode=0o600))
        self.put(KEEP, b"small", self.bytes(60_000))
        self.put(KEEP, b"chunked", self.bytes(CHUNKED))
        self.put(KEEP, b"large", self.bytes(LARGE))
        self.store.tree.make_symlink(directory(self.store, KEEP), b"link", b"key 1", 0, 0)
        for number in range(5):
            self.put(FULL, b"%d" % number, b"full %d" % number)
        for number in range(2):
            self.forget(FULL, b"%d" % number)

    def second(self) -> None:
        """What is in the log."""
        for number in range(0, self.names, 3):
            self.put(KEEP, b"key %d" % number, self.bytes(900))
        for number in range(1, self.names, 8):
            self.delete(KEEP, b"key %d" % number)
        self.rename(KEEP, b"key 2", b"renamed")
        self.put(RUN, b"new/chunked", self.bytes(CHUNKED))
        self.put(RUN, b"new/small", self.bytes(30_000))

    def third(self) -> None:
        """What is in the journal, and as an intent in the catalog."""
        for number in range(6):
            self.close(KEEP, b"closed %d" % number, self.bytes(self.random.choice((10, 2000, 9000))))
        self.close(KEEP, b"key 3", b"closed last")
        self.close(KEEP, b"closed large", self.bytes(CHUNKED))


def _path(scope: ScopeName, key: bytes) -> bytes:
    return scope.kind.name.lower().encode() + b"/" + scope.name + b"/" + key


def _checkpoint(store: Store) -> None:
    import apsw

    store.database.log.checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)


def main(place: str, seed: str, end: str, names: str) -> None:
    """Make a store at `place`, and what is known of it in the file `made`."""
    maker = _Maker(Made(Path(place) / "objects.db"), int(seed), names=int(names))
    maker.first()
    _checkpoint(maker.store)
    maker.second()
    if end == "killed":
        maker.third()
    else:
        maker.store.close()
    (Path(place) / "made").write_bytes(pickle.dumps(maker.made))
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    from tests.damage import making

    making.main(*sys.argv[1:])
