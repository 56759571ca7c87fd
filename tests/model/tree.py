"""The tree of names as the reference sees it: plain objects, looked at from the root every time."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field


class Refused(Exception):
    """The contract refuses this, with one of these errnos."""

    def __init__(self, *numbers: int) -> None:
        super().__init__(*(errno.errorcode[number] for number in numbers))
        self.numbers = frozenset(numbers)


@dataclass(eq=False)
class Entry:
    """What a name stands for."""


@dataclass(eq=False)
class File:
    """What has the same attributes from one Put to the next. An object that is renamed to a name is another file."""

    note: bytes = b""
    """Its extended attribute user.note; empty: none."""


@dataclass(eq=False)
class Object(Entry):
    value: bytes
    put: int
    """When it was put: the order of eviction."""
    file: File

    @property
    def note(self) -> bytes:
        return self.file.note


@dataclass(eq=False)
class Symlink(Entry):
    target: bytes


@dataclass(eq=False)
class Directory(Entry):
    entries: dict[bytes, Entry] = field(default_factory=dict)


@dataclass(eq=False)
class Pipeline(Directory):
    limit: int | None = None
    max_bytes: int = 0
    """What its values may have together; 0: any number."""


@dataclass(eq=False)
class Run(Directory):
    group: bytes | None = None
    started: int = 0
    protected: bool = False


Place = tuple[Directory, bytes]
"""A directory, wherever it is now, and a name in it."""

Path = tuple[bytes, ...]
"""Of names, from the root: (b"pipeline", b"app", b"a", b"key")."""

Listing = dict[bytes, bytes | None]
"""Every path: objects with their values, symlinks with their targets, directories with None."""


class Tree:
    """Names, and what is below them."""

    def __init__(self) -> None:
        self.root = Directory({b"pipeline": Directory(), b"run": Directory()})

    def find(self, path: Path) -> Entry:
        entry: Entry = self.root
        for name in path:
            if isinstance(entry, Object):
                raise Refused(errno.ENOTDIR)
            if not isinstance(entry, Directory) or name not in entry.entries:
                raise Refused(errno.ENOENT)
            entry = entry.entries[name]
        return entry

    def directory(self, path: Path) -> Directory:
        found = self.find(path)
        if isinstance(found, Symlink):
            raise Refused(errno.ENOENT)  # all of them lead nowhere
        if not isinstance(found, Directory):
            raise Refused(errno.ENOTDIR)
        return found

    def place(self, path: Path) -> Place:
        return self.directory(path[:-1]), path[-1]

    def at(self, place: Place) -> Entry | None:
        return place[0].entries.get(place[1])

    def scopes(self, kind: bytes) -> dict[bytes, Directory]:
        """All pipelines, or all runs, by name."""
        return {name: found for name, found in self.directory((kind,)).entries.items() if isinstance(found, Directory)}

    def objects(self, top: Directory) -> list[tuple[bytes, Object, Place]]:
        """All objects below a directory, with key and place, in the order of the keys."""
        return sorted(self._below(top, b""), key=lambda found: found[0])

    def _below(self, top: Directory, path: bytes) -> Iterator[tuple[bytes, Object, Place]]:
        for name, entry in top.entries.items():
            if isinstance(entry, Object):
                yield path + name, entry, (top, name)
            elif isinstance(entry, Directory):
                yield from self._below(entry, path + name + b"/")

    def size_of(self, top: Directory) -> int:
        """The bytes of all objects below a directory."""
        return sum(len(found.value) for _, found, _ in self.objects(top))

    def directories(self, top: Directory, path: bytes = b"") -> Iterator[tuple[bytes, Directory]]:
        """A directory and all below it, with their paths."""
        yield path, top
        for name, entry in top.entries.items():
            if isinstance(entry, Directory):
                yield from self.directories(entry, path + b"/" + name)

    def path_of(self, wanted: Directory) -> bytes | None:
        """Where a directory is; None when it is gone."""
        found = next((path for path, directory in self.directories(self.root) if directory is wanted), None)
        return None if found is None else found.strip(b"/")

    def contains(self, top: Entry, wanted: Entry) -> bool:
        return isinstance(top, Directory) and any(found is wanted for _, found in self.directories(top))

    def scope_of(self, directory: Directory) -> Directory | None:
        """The pipeline or run that a directory is in; None where it is in none, or in no place at all any more."""
        for kind in (b"pipeline", b"run"):
            for scope in self.scopes(kind).values():
                if self.contains(scope, directory):
                    return scope
        return None

    def listing(self) -> Listing:
        return dict(self._listing(self.root, b""))

    def _listing(self, top: Directory, path: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        for name, entry in top.entries.items():
            if isinstance(entry, Object):
                yield path + name, entry.value + (b" note " + entry.note if entry.note else b"")
            elif isinstance(entry, Symlink):
                yield path + name, b"-> " + entry.target
            elif isinstance(entry, Directory):
                yield path + name, None
                yield from self._listing(entry, path + name + b"/")
