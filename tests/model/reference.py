"""The contract's rules for names, limits and lifetimes: each change finds out first whether it is possible."""

import errno

from tests.model.limits import Limits, Waits
from tests.model.tree import Directory, Entry, File, Object, Path, Pipeline, Place, Refused, Run, Symlink


class Reference(Limits):
    """A store as it should be."""

    # Pipelines, runs and directories

    def make_directory(self, path: Path) -> None:
        parent, name = self.place(path)
        if name in parent.entries:
            raise Refused(errno.EEXIST)
        self.begin()
        if len(path) > 2:
            parent.entries[name] = Directory()
        elif path[0] == b"pipeline":
            parent.entries[name] = Pipeline()
        else:
            self._start(name, Run(started=self.clock))

    def start_run(self, name: bytes, group: bytes | None) -> None:
        if name in self.scopes(b"run"):
            raise Refused(errno.EEXIST)
        self.begin()
        self._start(name, Run(group=group, started=self.clock, protected=True))

    def _start(self, name: bytes, run: Run) -> None:
        self.directory((b"run",)).entries[name] = run
        self.expire(run.group)

    def finish_run(self, name: bytes) -> None:
        run = self.find((b"run", name))
        assert isinstance(run, Run)
        self.begin()
        run.protected = False
        self.expire(run.group)

    def remove_directory(self, path: Path) -> None:
        parent, old = self.directory(path[:-1]), self.find(path)
        if not isinstance(old, Directory):
            raise Refused(errno.ENOTDIR)
        if not all(entry in self.forgiven for entry in old.entries.values()):
            raise Refused(errno.ENOTEMPTY)
        self.begin()
        del parent.entries[path[-1]]

    def delete_pipeline(self, name: bytes, force: bool) -> None:
        pipeline = self.directory((b"pipeline", name))
        if pipeline.entries and not force:
            raise Refused(errno.ENOTEMPTY)
        self.begin()
        del self.directory((b"pipeline",)).entries[name]

    def set_limit(self, name: bytes, limit: int | None) -> None:
        pipeline = self.find((b"pipeline", name))
        assert isinstance(pipeline, Pipeline)
        self.begin()
        pipeline.limit = limit
        self.enforce(pipeline)

    def set_max_bytes(self, name: bytes, max_bytes: int) -> None:
        pipeline = self.find((b"pipeline", name))
        assert isinstance(pipeline, Pipeline)
        pipeline.max_bytes = max_bytes

    def tell_limits(self, limit: int, expiry: int) -> None:
        """The store is opened again, and told these."""
        self.begin()
        self.forgiven.clear()
        self.limit, self.expiry = limit, expiry
        for pipeline in self.scopes(b"pipeline").values():
            self.enforce(pipeline)
        runs = [run for run in self.scopes(b"run").values() if isinstance(run, Run)]
        for group in {run.group for run in runs}:
            self.expire(group)

    # Objects

    def put(self, place: Place, value: bytes, file: File) -> Object:
        """Let a name have a value, whatever it had."""
        self.begin()
        directory, name = place
        old = self.at(place)
        if isinstance(old, Directory):
            raise Refused(errno.EISDIR)
        new = Object(value, self.clock, file)
        directory.entries[name] = new
        waits = None
        if isinstance(old, Object):
            self.inherit(old, new)
        elif old is None:
            superseded = self.supersede(place)
            waits = (superseded[0], new) if superseded is not None else (new, self.backup_of(place, new))
        self.enforce(self.scope_of(directory), new, waits)
        return new

    def put_beside(self, path: Path, value: bytes, force: bool) -> None:
        """As the command does."""
        old = self.at(self.place(path))
        if isinstance(old, Directory):
            raise Refused(errno.EISDIR)
        if old is not None and not force:
            raise Refused(errno.EEXIST)
        file = old.file if isinstance(old, Object) else File()
        self.require_room(path[:2], lambda tried: tried.put(tried.place(path), value, file))
        self.put(self.place(path), value, file)

    def set_note(self, path: Path, note: bytes) -> None:
        """Set an extended attribute, which is no Put."""
        found = self.find(path)
        assert isinstance(found, Object)
        found.file.note = note

    def make_symlink(self, path: Path, target: bytes) -> None:
        parent, name = self.place(path)
        if name in parent.entries:
            raise Refused(errno.EEXIST)
        self.begin()
        parent.entries[name] = Symlink(target)

    def remove(self, path: Path) -> None:
        parent, old = self.directory(path[:-1]), self.find(path)
        if isinstance(old, Directory):
            raise Refused(errno.EISDIR)
        self.begin()
        del parent.entries[path[-1]]
        if isinstance(old, Object):
            self.forgiven.update(self.restore(old))

    # Renaming

    def rename(self, old: Path, new: Path, replace: bool) -> None:
        if old[:2] != new[:2]:
            self.require_room(new[:2], lambda tried: tried.move_name(old, new, replace))
        self.move_name(old, new, replace)

    def move_name(self, old: Path, new: Path, replace: bool) -> None:
        """Rename, whatever bytes that brings."""
        before, source, after = self.place(old), self.find(old), self.place(new)
        target = self.at(after)
        self._check_rename(before, source, after, target, replace)
        if target is source:
            return
        self.begin()
        scope, new_scope = self.scope_of(before[0]), self.scope_of(after[0])
        del before[0].entries[before[1]]
        after[0].entries[after[1]] = source
        waits = self._settle(source, target, before, after, scope, new_scope) if isinstance(source, Object) else None
        if scope is not new_scope:
            spared = source if isinstance(source, Directory) else None
            self.enforce(new_scope, source if isinstance(source, Object) else None, waits, spared)

    def _settle(
        self,
        source: Object,
        target: Entry | None,
        before: Place,
        after: Place,
        scope: Directory | None,
        new_scope: Directory | None,
    ) -> Waits | None:
        if target is not None:
            self.restore(source)
            if scope is new_scope and scope is not None:
                self.restore_since(scope, source)
            if isinstance(target, Object):
                self.inherit(target, source)
            return None
        superseded = self.supersede(after)
        if scope is not new_scope:
            self.restore(source)
        elif superseded is not None:
            self.hand_on(scope, source, superseded)
        if scope is new_scope and isinstance(scope, Pipeline):
            self.moved[before] = source
        if superseded is not None:
            return superseded[0], source
        backup = self.backup_of(after, source)
        for kept in self.displaced:
            if scope is new_scope and kept.by is source and backup is not None:
                kept.freed_by = backup
        return source, backup

    def _check_rename(self, before: Place, source: Entry, after: Place, target: Entry | None, replace: bool) -> None:
        """Several things can be wrong at once: then any of the errnos will do."""
        wrong = []
        if target is not None and not replace:
            raise Refused(errno.EEXIST)
        if target is not None and target is not source:
            if isinstance(source, Directory):
                if not isinstance(target, Directory):
                    wrong.append(errno.ENOTDIR)
                elif target.entries:
                    wrong.append(errno.ENOTEMPTY)
            elif isinstance(target, Directory):
                wrong.append(errno.EISDIR)
            if self.contains(target, before[0]):
                wrong.append(errno.ENOTEMPTY)
        if self.contains(source, after[0]):
            wrong.append(errno.EINVAL)
        if wrong:
            raise Refused(*wrong)

    def exchange(self, one: Path, other: Path) -> None:
        for top in {one[:2], other[:2]} if one[:2] != other[:2] else set():
            self.require_room(top, lambda tried: tried.exchange_names(one, other))
        self.exchange_names(one, other)

    def exchange_names(self, one: Path, other: Path) -> None:
        """Exchange, whatever bytes that brings."""
        first_place, second_place = self.place(one), self.place(other)
        first, second = self.find(one), self.find(other)
        if self.contains(first, second_place[0]) or self.contains(second, first_place[0]):
            raise Refused(errno.EINVAL)
        if first is second:
            return
        self.begin()
        first_scope, second_scope = self.scope_of(first_place[0]), self.scope_of(second_place[0])
        first_place[0].entries[first_place[1]] = second
        second_place[0].entries[second_place[1]] = first
        if first_scope is not second_scope:
            self._enforce_for(second_scope, first)
            self._enforce_for(first_scope, second)

    def _enforce_for(self, scope: Directory | None, moved: Entry) -> None:
        self.enforce(
            scope,
            moved if isinstance(moved, Object) else None,
            spared=moved if isinstance(moved, Directory) else None,
        )
