"""Everything that a store returns, compared with what was put."""

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from engine import Store, open_store, xattrs
from engine.config import ObjectStoreSettings
from engine.errors import DamagedError, InternalError, StoreError
from engine.model import ROOT_INO, Kind, Node
from tests.damage.making import Made

_AT_ONCE = 1000


@dataclass(slots=True)
class Seen:
    """What a store returned."""

    facts: dict[bytes, tuple[object, ...]] = field(default_factory=dict)
    """Of each name that could be read: its attributes, and what its value is."""
    values: dict[bytes, bytes] = field(default_factory=dict)
    """The digests of the values of objects."""
    errors: dict[bytes, StoreError] = field(default_factory=dict)
    """By name; those of a directory's listing under its name and a slash, the store's own under nothing."""
    troubles: list[str] = field(default_factory=list)
    """What was said when the store was opened for writing."""


def read_all(path: Path, since_ns: int = 2**63) -> Seen:
    """Read a store to the last byte. Raises what is no StoreError. What is younger than `since_ns` has no time."""
    seen = Seen()
    try:
        with open_store(ObjectStoreSettings(path=str(path)), create=False) as store:
            seen.troubles = store.database.troubles.news()
    except StoreError as error:
        seen.troubles = [str(error)]
    try:
        with open_store(ObjectStoreSettings(path=str(path)), read_only=True, create=False) as store:
            _directory(store, seen, ROOT_INO, b"", since_ns)
    except StoreError as error:
        seen.errors[b""] = error
    return seen


def look_up(path: Path, names: list[bytes], seen: Seen, since_ns: int) -> None:
    """Read by their names those that no listing showed."""
    try:
        with open_store(ObjectStoreSettings(path=str(path)), read_only=True, create=False) as store:
            for name in names:
                try:
                    _one(store, seen, name, since_ns)
                except StoreError as error:
                    seen.errors[name] = error
    except StoreError as error:
        seen.errors[b""] = error


def _one(store: Store, seen: Seen, path: bytes, since_ns: int) -> None:
    ino = ROOT_INO
    *directories, name = path.split(b"/")
    for part in directories:
        found = store.tree.child(ino, part)
        if found is None:
            return
        ino = found.ino
    found = store.tree.child(ino, name)
    if found is not None:
        _node(store, seen, found, path, since_ns)


def _directory(store: Store, seen: Seen, ino: int, path: bytes, since_ns: int) -> None:
    try:
        entries = store.tree.children(ino, b"", _AT_ONCE)
    except StoreError as error:
        seen.errors[path] = error
        return
    for found in entries:
        name = path + found.name
        try:
            _node(store, seen, found, name, since_ns)
        except StoreError as error:
            seen.errors[name] = error
        if found.kind == Kind.DIRECTORY:
            _directory(store, seen, found.ino, name + b"/", since_ns)


def _node(store: Store, seen: Seen, found: Node, path: bytes, since_ns: int) -> None:
    if found.kind == Kind.OBJECT:
        value = b"".join(store.contents.pieces(found.content, found.size))
        if len(value) != found.size:
            raise InternalError("the value is shorter than its size says")
        digest = sha256(value).digest()
        seen.values[path] = digest
    attributes = tuple((name, xattrs.get(found.xattrs, name)) for name in xattrs.names(found.xattrs))
    # A directory's time is that of the last change in it, which may be one that is lost.
    mtime = found.mtime_ns if found.mtime_ns < since_ns and found.kind != Kind.DIRECTORY else None
    seen.facts[path] = (found.kind, found.mode, found.uid, found.gid, mtime, found.target, attributes)


@dataclass(slots=True)
class Truth:
    """What an undamaged store returns."""

    seen: Seen
    values: dict[bytes, bytes]
    older: dict[bytes, set[bytes]]
    since_ns: int

    @classmethod
    def of(cls, made: Made, undamaged: Path, since_ns: int) -> "Truth":
        """Raises AssertionError when that is not what was put."""
        seen = read_all(undamaged, since_ns)
        assert not seen.errors, seen.errors
        values = {path: sha256(value).digest() for path, value in made.values.items()}
        assert seen.values == values
        older = {path: {sha256(value).digest() for value in olds} for path, olds in made.older.items()}
        return cls(seen, values, older, since_ns)


@dataclass(slots=True)
class Verdict:
    """What a damage did, by name."""

    wrong: list[bytes] = field(default_factory=list)
    """Other bytes or attributes than were put, or a name that there never was."""
    older: list[bytes] = field(default_factory=list)
    """What the name had before, or a name that was deleted."""
    missing: list[bytes] = field(default_factory=list)
    """There is no such name, and nobody says that something is wrong."""
    failed: list[bytes] = field(default_factory=list)
    """An error; under nothing, for the store as a whole."""
    odd: list[str] = field(default_factory=list)
    """Errors of other classes than that of damage."""
    told: bool = False
    """Whether whoever opens the store for writing is told that something acknowledged may be lost."""

    @property
    def word(self) -> str:
        """The worst of it."""
        return next((word for word in ("wrong", "older", "missing", "failed") if getattr(self, word)), "right")


def judge(truth: Truth, path: Path) -> Verdict:
    """Read a damaged store and compare."""
    seen = read_all(path, truth.since_ns)
    verdict = Verdict()
    if b"" not in seen.errors:
        unseen = [name for name in truth.seen.facts if name not in seen.facts and name not in seen.errors]
        look_up(path, unseen, seen, truth.since_ns)
    verdict.failed += seen.errors
    verdict.told = bool(seen.troubles)
    verdict.odd += [f"{type(error).__name__}: {error}" for error in seen.errors.values() if not _is_damage(error)]
    for name, facts in seen.facts.items():
        if name not in truth.seen.facts:
            (verdict.older if _was_there(truth, name, seen) else verdict.wrong).append(name)
        elif facts != truth.seen.facts[name] or seen.values.get(name) != truth.values.get(name):
            is_old = seen.values.get(name) in truth.older.get(name, ())
            (verdict.older if is_old else verdict.wrong).append(name)
    if b"" not in seen.errors:
        verdict.missing += [name for name in truth.seen.facts if name not in seen.facts and name not in seen.errors]
    return verdict


def _was_there(truth: Truth, name: bytes, seen: Seen) -> bool:
    return seen.values.get(name) in truth.older.get(name, ())


def _is_damage(error: StoreError) -> bool:
    return isinstance(error, DamagedError)


def words(verdicts: list[Verdict]) -> Counter[str]:
    """How many damages of each kind there were."""
    return Counter(verdict.word for verdict in verdicts)
