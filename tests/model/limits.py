"""The reference's limits: what makes way in a full pipeline, what comes back, which runs expire."""

import copy
import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from tests.model.tree import Directory, Object, Path, Pipeline, Place, Refused, Run, Tree

Waits = tuple[Object, Object | None]
"""What brings a displaced object back when it goes."""


@dataclass(eq=False)
class Displaced:
    """An object that made way for `by`, and where it was."""

    by: Object
    freed_by: Object | None
    """Another that turned out to be the one too many: when it goes, this comes back, too."""
    object: Object
    place: Place
    scope: Directory
    when: int


@dataclass
class Changes:
    """What a change did beside what was asked, as paths."""

    evicted: list[bytes] = field(default_factory=list)
    expired: list[bytes] = field(default_factory=list)
    restored: list[bytes] = field(default_factory=list)


def never() -> bool:
    """The answer where no other was given."""
    return False


class Limits(Tree):
    """A tree in which nothing is counted, and everything is looked at again after every change."""

    def __init__(self, limit: int, expiry: int) -> None:
        super().__init__()
        self.limit = limit
        self.expiry = expiry
        self.displaced: list[Displaced] = []
        self.moved: dict[Place, Object] = {}
        """Objects that were renamed away to a name that was free, by the place that they left."""
        self.forgiven: set[Object] = set()
        """What came back by a deletion in this process: it does not keep its directory from being removed."""
        self.clock = 0
        self.changes = Changes()

        self.choose: Callable[[], bool] = never
        """Asked where the contract allows either."""

    def begin(self) -> None:
        """A change begins: later than all before it."""
        self.clock += 1

    def limit_of(self, scope: Directory | None) -> int:
        """How many objects it may have, 0 for any number."""
        if not isinstance(scope, Pipeline):
            return 0
        return self.limit if scope.limit is None else scope.limit

    # Bytes

    def require_room(self, top: Path, change: Callable[[Self], object]) -> None:
        """Refuse a change that would bring a pipeline over its bytes, before anything has changed.

        What is acknowledged and not published has its room: whether it needs that, with all that makes way for it, is
        not looked into here.
        """
        scope = self.scopes(top[0]).get(top[1])
        if not isinstance(scope, Pipeline) or not scope.max_bytes:
            return
        tried = copy.deepcopy(self)
        change(tried)
        size = tried.size_of(tried.directory(top))
        if size <= self.size_of(scope):
            return
        if size > scope.max_bytes or (size + self.waiting_bytes() > scope.max_bytes and self.choose()):
            raise Refused(errno.EDQUOT)

    def waiting_bytes(self) -> int:
        """What is acknowledged and not published yet, in bytes."""
        return 0

    # Making way

    def enforce(
        self,
        scope: Directory | None,
        newest: Object | None = None,
        waits: Waits | None = None,
        spared: Directory | None = None,
    ) -> None:
        """Exactly as many of the oldest go as must; `newest` is never one. Without it, they do not come back.

        They wait for `waits`, or for `newest`. What was moved in with the directory `spared` goes only when nothing
        else is left.
        """
        limit = self.limit_of(scope)
        if scope is None or not limit:
            return
        inside = {found for _, found, _ in self.objects(spared)} if spared is not None else set()
        by_age = sorted(self.objects(scope), key=lambda found: (found[1] in inside, found[1].put))
        victims = [found for found in by_age if found[1] is not newest][: max(0, len(by_age) - limit)]
        for key, victim, (directory, name) in victims:
            top = self.path_of(scope)
            del directory.entries[name]
            self._forget(victim)
            self.changes.evicted.append((top or b"") + b"/" + key)
            if newest is not None:
                by, freed_by = waits or (newest, None)
                self.displaced.append(Displaced(by, freed_by, victim, (directory, name), scope, self.clock))

    def _forget(self, victim: Object) -> None:
        """What it had displaced is not coming back, but where another's going frees the place, too."""
        for kept in [kept for kept in self.displaced if kept.by is victim]:
            if kept.freed_by in (None, victim):
                self.displaced.remove(kept)
            else:
                kept.by, kept.freed_by = kept.freed_by, None

    # Coming back

    def supersede(self, place: Place) -> Waits | None:
        """A name that was free is taken: what was displaced under it is given up.

        Returns what that has waited for, if that was in the same pipeline.
        """
        old = next((kept for kept in self.displaced if kept.place == place), None)
        if old is None:
            return None
        self.displaced.remove(old)
        return (old.by, old.freed_by) if old.scope is self.scope_of(place[0]) else None

    def hand_on(self, scope: Directory | None, temporary: Object, waits: Waits) -> None:
        """What a temporary name had displaced waits for what the object has waited for whose name it has now."""
        if waits[0] is temporary:
            return
        for kept in self.displaced:
            if kept.scope is scope and temporary in (kept.by, kept.freed_by):
                kept.by, kept.freed_by = waits

    def backup_of(self, place: Place, newest: Object) -> Object | None:
        """What was renamed away from a name that `newest` takes."""
        moved = self.moved.get(place)
        if moved is None or moved is newest or self.scope_of(place[0]) is not self.scope_holding(moved):
            return None
        return moved

    def scope_holding(self, wanted: Object) -> Directory | None:
        """The pipeline or run that an object is in."""
        scopes = [*self.scopes(b"pipeline").values(), *self.scopes(b"run").values()]
        return next((scope for scope in scopes if any(found is wanted for _, found, _ in self.objects(scope))), None)

    def bring_back(self, place: Place) -> None:
        """Somebody adds to what was displaced under this name: it is still what the name stands for."""
        scope = self.scope_of(place[0])
        old = next((kept for kept in self.displaced if kept.place == place and kept.scope is scope), None)
        if old is not None:
            self.displaced.remove(old)
            place[0].entries[place[1]] = old.object
            self.changes.restored.append((self.path_of(place[0]) or b"") + b"/" + place[1])
            self.enforce(scope, old.object, (old.by, old.object))

    def inherit(self, old: Object, new: Object) -> None:
        """`new` has the place of `old`."""
        for kept in self.displaced:
            kept.by = new if kept.by is old else kept.by
            kept.freed_by = new if kept.freed_by is old else kept.freed_by

    def restore(self, gone: Object) -> list[Object]:
        """An object gives up its place: what it displaced comes back, the youngest first, as far as there is room."""
        waiting = [kept for kept in self.displaced if gone in (kept.by, kept.freed_by)]
        back = []
        for kept in sorted(waiting, key=lambda kept: -kept.object.put):
            if self._come_back(kept):
                back.append(kept.object)
            elif kept.by is gone:
                self.displaced.remove(kept)
        return back

    def restore_since(self, scope: Directory, temporary: Object) -> None:
        """What would not have gone without a temporary name that was there before, and frees a place now."""
        since = [kept for kept in self.displaced if kept.scope is scope and kept.when > temporary.put]
        if since:
            self._come_back(max(since, key=lambda kept: kept.object.put))

    def _come_back(self, kept: Displaced) -> bool:
        directory, name = kept.place
        scope = self.scope_of(directory)
        limit = self.limit_of(scope)
        if scope is not kept.scope or name in directory.entries or (limit and len(self.objects(scope)) >= limit):
            return False
        most = scope.max_bytes if isinstance(scope, Pipeline) else 0
        if most and self.size_of(scope) + len(kept.object.value) > most:
            return False
        self.displaced.remove(kept)
        directory.entries[name] = kept.object
        self.changes.restored.append((self.path_of(directory) or b"") + b"/" + name)
        return True

    # Expiring

    def expire(self, group: bytes | None) -> None:
        """Runs that enough newer ones of their pipeline have followed go, unless they are protected."""
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
