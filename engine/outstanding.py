"""Puts that were acknowledged and have to wait: of this process, and what one that died has left behind.

What is changed next comes after them. Every method is one transaction, or several. Used from one thread.
"""

from contextlib import suppress
from itertools import count

from engine.abandoning import Abandoning
from engine.acknowledged import Key
from engine.catalog import nodes
from engine.catalog.puts import Put
from engine.catalog.transaction import Transaction
from engine.contents import Contents
from engine.errors import OutOfSpaceError, StoreError, UnavailableError
from engine.intents import Intents, Name
from engine.model import Node
from engine.recovering import Recovered, Recovery
from engine.sqlite.database import Database

_FAILED_AT_ONCE = 8
"""After how many names that cannot be published the others are left for the next time: a disk may be full or gone."""


class Outstanding:
    """What waits to be published, or to be taken back."""

    def __init__(self, database: Database, contents: Contents, intents: Intents) -> None:
        self._database = database
        self._contents = contents
        self._intents = intents
        self._abandoning = Abandoning(database, contents, intents)
        self._recovery = Recovery(database, contents)
        self._tries = count(1)
        self._tried: dict[Name, int] = {}
        """When what waits was last tried in vain, by its name."""
        self._again = Recovered([], [])
        """What was published again and `published_again` has not told of yet."""

    def settle(self) -> None:
        """Commit what was published `later`. Raises StoreError."""
        self._database.writes.settle()

    def publish_later(self, put: Put, ino: int, handle: int) -> None:
        """A Put that has been acknowledged could not be published: it is to be, with `publish_again`."""
        self._intents.unpublished[ino, handle] = put.parent, put.name
        self._intents.withdrawals.drop((ino, handle))

    def publish_again(self) -> Recovered:
        """Publish what could not be published, or was undone because it could not be committed.

        And take back what could not be taken back. Raises the error of one that goes on waiting; `published_again`
        tells of the others then.
        """
        failure = self._abandoning.again()
        waiting = self._publish_waiting()
        for error in (*waiting.values(), failure):
            if error is not None:
                raise error
        return self.published_again()

    def published_again(self) -> Recovered:
        """What was published again since the last call, here or before something else."""
        again, self._again = self._again, Recovered([], [])
        return again

    def first(self, *names: Name, ino: int = 0) -> None:
        """Publish what waits before something else changes names, or the node `ino`: it was closed before that.

        So was what a session has left that died, maybe a moment ago.

        Raises the error of what goes on waiting under one of these names, or in a directory that has one: done now,
        that change would be undone, or undo a Put. What waits elsewhere keeps nobody from making room.
        """
        waiting: dict[Name, Exception] = {}
        if self._contents.sessions.dead():
            waiting |= self._publish_left()
        if self._intents.unpublished:
            waiting |= self._publish_waiting()
        node = self._readable(ino) if ino and waiting else None
        changed = names if node is None else (*names, (node.parent, node.name))
        for name, error in waiting.items():
            home = self._readable(name[0])
            if name in changed or (home is not None and (home.parent, home.name) in changed):
                raise error

    def _readable(self, ino: int) -> Node | None:
        """A node; None, too, where it cannot be read: what waits for that must not hold up everything else."""
        with suppress(StoreError):
            return nodes.by_ino(self._database, ino)
        return None

    def _publish_left(self) -> dict[Name, StoreError]:
        """As `_publish_waiting`, of sessions that died. Raises StoreError, as the change that comes next would."""
        with suppress(OutOfSpaceError):  # what is changed next may make room; what was published is told the next time
            recovered = self._recovery.recover()
            self._again.nodes.extend(recovered.nodes)
            self._again.effects.extend(recovered.effects)
        return self._recovery.held()

    def _publish_waiting(self) -> dict[Name, Exception]:
        """In the order in which they were closed. Returns the names of those that go on waiting, and why.

        One that fails keeps back those of its name alone.
        """
        if self._database.writes.open:
            with suppress(StoreError):
                self.settle()  # or what that undoes would come behind what is published here
        failed: dict[Name, Exception] = {}
        try:
            keys = self._in_turn()
        except StoreError as error:
            return dict.fromkeys(self._intents.unpublished.values(), error)
        for key in keys:
            name = self._intents.unpublished[key]
            if name in failed:
                continue
            try:
                self._publish_intent(key)
            except Exception as error:
                failed[name] = error
                self._tried[name] = next(self._tries)
                if len(failed) == _FAILED_AT_ONCE or isinstance(error, UnavailableError):
                    return dict.fromkeys(self._intents.unpublished.values(), error) | failed
        return failed

    def _in_turn(self) -> list[Key]:
        """What waits: in order, but for the names that failed, of which the last one to be tried comes last."""
        keys = self._intents.in_order()
        names = self._intents.unpublished
        left = {*names.values()}
        self._tried = {name: tried for name, tried in self._tried.items() if name in left}
        return sorted(keys, key=lambda key: self._tried.get(names[key], 0))

    def _publish_intent(self, key: Key) -> None:
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            put = self._intents.acknowledged(tx, key)
            fulfilled = self._intents.fulfil(key)
            node = self._recovery.publish(tx, put)
            self._intents.seen_to(fulfilled)
        self._intents.note(fulfilled)
        self._again.nodes.extend(filter(None, [node]))
        self._again.effects.append(tx.effects())

    def recover(self) -> Recovered:
        """Publish what sessions that died had acknowledged, and delete what they had not. Raises StoreError."""
        return self._recovery.recover()

    def tidy(self) -> None:
        """Delete what recoveries that were interrupted have left beside the store."""
        self._recovery.tidy()
