"""The contract's rules for names, limits and lifetimes, as plain Python on one tree of objects.

Slow and simple on purpose: nothing is counted, everything is looked at again after every change. What it says is what
`engine.store.Store` must do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.errors import (
    ExistsError,
    InvalidError,
    IsDirectoryError,
    NotDirectoryError,
    NotEmptyError,
    NotFoundError,
    StoreError,
)


@dataclass(eq=False)
class Entry:
    """What a name stands for."""


@dataclass(eq=False)
class Object(Entry):
    value: bytes
    put: int
    """When it was put: the order of eviction."""


@dataclass(eq=False)
class Symlink(Entry):
    target: bytes


@dataclass(eq=False)
class Directory(Entry):
    entries: dict[bytes, Entry] = field(default_factory=dict)


@dataclass(eq=False)
class Pipeline(Directory):
    limit: int | None = None


@dataclass(eq=False)
class Run(Directory):
    group: bytes | None = None
    started: int = 0
    protected: bool = False


Place = tuple[Directory, bytes]


@dataclass(eq=False)
class Displaced:
    """An object that made way for `by`, and where it was."""

    by: Object
    object: Object
    place: Place
    scope: Directory


@dataclass
class Changes:
    """What a change did beside what was asked, as paths."""

    evicted: list[bytes] = field(default_factory=list)
    expired: list[bytes] = field(default_factory=list)
    restored: list[bytes] = field(default_factory=list)


Path = tuple[bytes, ...]
"""Of names, from the root: (b"pipeline", b"app", b"a", b"key")."""


class Reference:
    """A store as it should be."""

    def __init__(self, limit: int, expiry: int) -> None:
        self.limit = limit
        self.expiry = expiry
        self.root = Directory({b"pipeline": Directory(), b"run": Directory()})
        self.displaced: list[Displaced] = []
        self.forgiven: set[Object] = set()
        """What came back by a deletion in this process: it does not keep its directory from being removed."""
        self.clock = 0
        self.changes = Changes()

    # Looking

    def find(self, path: Path) -> Entry:
        entry: Entry = self.root
        for name in path:
            if not isinstance(entry, Directory) or name not in entry.entries:
                raise NotFoundError
            entry = entry.entries[name]
        return entry

    def directory(self, path: Path) -> Directory:
        found = self.find(path)
        if not isinstance(found, Directory):
            raise NotDirectoryError
        return found

    def objects(self, top: Directory) -> list[tuple[bytes, Object, Place]]:
        """All objects below a directory, with key and place, in the order of the keys."""
        return sorted(self._below(top, b""), key=lambda found: found[0])

    def _below(self, top: Directory, path: bytes) -> Iterator[tuple[bytes, Object, Place]]:
        for name, entry in top.entries.items():
            if isinstance(entry, Object):
                yield path + name, entry, (top, name)
            elif isinstance(entry, Directory):
                yield from self._below(entry, path + name + b"/")

    def effective_limit(self, pipeline: Pipeline) -> int:
        return self.limit if pipeline.limit is None else pipeline.limit

    def path_of(self, wanted: Directory) -> bytes:
        found = next(path for path, directory in self._directories(self.root, b"") if directory is wanted)
        return found.strip(b"/")

    def _directories(self, top: Directory, path: bytes) -> Iterator[tuple[bytes, Directory]]:
        yield path, top
        for name, entry in top.entries.items():
            if isinstance(entry, Directory):
                yield from self._directories(entry, path + b"/" + name)

    def scope_of(self, directory: Directory) -> Directory | None:
        """The pipeline or run that a directory is in; None where it is in none, or in no place at all any more."""
        for kind in (b"pipeline", b"run"):
            for scope in self.directory((kind,)).entries.values():
                assert isinstance(scope, Directory)
                if any(found is directory for _, found in self._directories(scope, b"")):
                    return scope
        return None

    # Changes. Each first finds out whether it is possible, and raises before it changes anything.

    def begin(self) -> None:
        self.clock += 1
        self.changes = Changes()

    def make_directory(self, path: Path) -> None:
        self.begin()
        parent, name = self.directory(path[:-1]), path[-1]
        if name in parent.entries:
            raise ExistsError
        if len(path) > 2:
            parent.entries[name] = Directory()
        elif path[0] == b"pipeline":
            parent.entries[name] = Pipeline()
        else:
            self._start(name, Run(started=self.clock))

    def start_run(self, name: bytes, group: bytes | None) -> None:
        self.begin()
        if name in self.directory((b"run",)).entries:
            raise ExistsError
        self._start(name, Run(group=group, started=self.clock, protected=True))

    def _start(self, name: bytes, run: Run) -> None:
        self.directory((b"run",)).entries[name] = run
        self._expire(run.group)

    def finish_run(self, name: bytes) -> None:
        self.begin()
        run = self.find((b"run", name))
        assert isinstance(run, Run)
        run.protected = False
        self._expire(run.group)

    def _expire(self, group: bytes | None) -> None:
        runs = self.directory((b"run",)).entries
        of_group = sorted(
            ((run.started, name, run) for name, run in runs.items() if isinstance(run, Run) and run.group == group),
            key=lambda found: found[0],
        )
        for place, (_, name, run) in enumerate(of_group):
            newer = len(of_group) - place - 1
            if self.expiry and newer >= self.expiry and not run.protected:
                del runs[name]
                self.changes.expired.append(b"run/" + name)

    def put(self, path: Path, value: bytes, *, force: bool) -> None:
        self.begin()
        parent, name = self.directory(path[:-1]), path[-1]
        old = parent.entries.get(name)
        if isinstance(old, Directory):
            raise IsDirectoryError
        if old is not None and not force:
            raise ExistsError
        new = Object(value, self.clock)
        parent.entries[name] = new
        if isinstance(old, Object):
            self._inherit(old, new)
        self._enforce(self.scope_of(parent), new)

    def remove(self, path: Path) -> None:
        self.begin()
        parent, name = self.directory(path[:-1]), path[-1]
        old = self.find(path)
        if isinstance(old, Directory):
            raise IsDirectoryError
        del parent.entries[name]
        if isinstance(old, Object):
            self.forgiven.update(self._restore(old))

    def remove_directory(self, path: Path) -> None:
        self.begin()
        parent, old = self.directory(path[:-1]), self.find(path)
        if not isinstance(old, Directory):
            raise NotDirectoryError
        if not all(entry in self.forgiven for entry in old.entries.values()):
            raise NotEmptyError
        del parent.entries[path[-1]]

    def delete_pipeline(self, name: bytes, *, force: bool) -> None:
        self.begin()
        pipeline = self.directory((b"pipeline", name))
        if pipeline.entries and not force:
            raise NotEmptyError
        del self.directory((b"pipeline",)).entries[name]

    def make_symlink(self, path: Path, target: bytes) -> None:
        self.begin()
        parent = self.directory(path[:-1])
        if path[-1] in parent.entries:
            raise ExistsError
        parent.entries[path[-1]] = Symlink(target)

    def rename(self, old: Path, new: Path, *, replace: bool) -> None:
        self.begin()
        parent, source = self.directory(old[:-1]), self.find(old)
        new_parent = self.directory(new[:-1])
        target = new_parent.entries.get(new[-1])
        if target is not None:
            if not replace:
                raise ExistsError
            if target is source:
                return
            self._check_replaceable(source, target)
        self._check_not_into_itself(source, new_parent)
        before, after = self.scope_of(parent), self.scope_of(new_parent)
        del parent.entries[old[-1]]
        new_parent.entries[new[-1]] = source
        if isinstance(source, Object):
            if target is not None or before is not after:
                self._restore(source)
            if isinstance(target, Object):
                self._inherit(target, source)
        if before is not after:
            self._enforce(after, source if isinstance(source, Object) else None)

    def _check_replaceable(self, source: Entry, target: Entry) -> None:
        if isinstance(source, Directory):
            if not isinstance(target, Directory):
                raise NotDirectoryError
            if target.entries:
                raise NotEmptyError
        elif isinstance(target, Directory):
            raise IsDirectoryError

    def _check_not_into_itself(self, moved: Entry, directory: Directory) -> None:
        if isinstance(moved, Directory) and any(found is directory for _, found in self._directories(moved, b"")):
            raise InvalidError

    def exchange(self, one: Path, other: Path) -> None:
        self.begin()
        first, second = self.find(one), self.find(other)
        first_parent, second_parent = self.directory(one[:-1]), self.directory(other[:-1])
        if first is second:
            return
        self._check_not_into_itself(first, second_parent)
        self._check_not_into_itself(second, first_parent)
        first_scope, second_scope = self.scope_of(first_parent), self.scope_of(second_parent)
        first_parent.entries[one[-1]], second_parent.entries[other[-1]] = second, first
        if first_scope is not second_scope:
            self._enforce(second_scope, first if isinstance(first, Object) else None)
            self._enforce(first_scope, second if isinstance(second, Object) else None)

    def set_limit(self, name: bytes, limit: int | None) -> None:
        self.begin()
        pipeline = self.find((b"pipeline", name))
        assert isinstance(pipeline, Pipeline)
        pipeline.limit = limit
        self._enforce(pipeline, None)

    def tell_limits(self, limit: int, expiry: int) -> None:
        """The store is opened again, and told these."""
        self.begin()
        self.forgiven.clear()
        self.limit, self.expiry = limit, expiry
        for pipeline in self.directory((b"pipeline",)).entries.values():
            assert isinstance(pipeline, Pipeline)
            self._enforce(pipeline, None)
        runs = [run for run in self.directory((b"run",)).entries.values() if isinstance(run, Run)]
        for group in {run.group for run in runs}:
            self._expire(group)

    # Eviction

    def _enforce(self, scope: Directory | None, newest: Object | None) -> None:
        if not isinstance(scope, Pipeline) or not self.effective_limit(scope):
            return
        by_age = sorted(self.objects(scope), key=lambda found: found[1].put)
        victims = [found for found in by_age if found[1] is not newest][
            : max(0, len(by_age) - self.effective_limit(scope))
        ]
        top = (
            b"pipeline/"
            + next(n for n, found in self.directory((b"pipeline",)).entries.items() if found is scope)
            + b"/"
        )
        for key, victim, (directory, name) in victims:
            del directory.entries[name]
            self.displaced = [kept for kept in self.displaced if kept.by is not victim]
            self.changes.evicted.append(top + key)
            if newest is not None:
                self.displaced.append(Displaced(newest, victim, (directory, name), scope))

    def _inherit(self, old: Object, new: Object) -> None:
        for kept in self.displaced:
            if kept.by is old:
                kept.by = new

    def _restore(self, by: Object) -> list[Object]:
        back = []
        waiting = sorted((kept for kept in self.displaced if kept.by is by), key=lambda kept: -kept.object.put)
        self.displaced = [kept for kept in self.displaced if kept.by is not by]
        for kept in waiting:
            directory, name = kept.place
            scope = self.scope_of(directory)
            if scope is not kept.scope or not isinstance(scope, Pipeline) or name in directory.entries:
                continue
            limit = self.effective_limit(scope)
            if limit and len(self.objects(scope)) >= limit:
                continue
            directory.entries[name] = kept.object
            self.changes.restored.append(self.path_of(directory) + b"/" + name)
            back.append(kept.object)
        return back

    # All there is

    def listing(self) -> dict[bytes, bytes | None]:
        """Every path: objects with their values, symlinks with their targets, directories with None."""
        return dict(self._listing(self.root, b""))

    def _listing(self, top: Directory, path: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        for name, entry in top.entries.items():
            if isinstance(entry, Object):
                yield path + name, entry.value
            elif isinstance(entry, Symlink):
                yield path + name, b"-> " + entry.target
            elif isinstance(entry, Directory):
                yield path + name, None
                yield from self._listing(entry, path + name + b"/")


__all__ = ["Changes", "Path", "Reference", "StoreError"]
