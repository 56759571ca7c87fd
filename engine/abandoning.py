"""Drafts that are not to be published: nothing is left of them, at the latest once the store can be written again."""

from engine.acknowledged import Key
from engine.catalog.transaction import Transaction
from engine.contents import Contents
from engine.drafts import Draft
from engine.errors import StoreError
from engine.intents import Intents
from engine.sqlite.database import Database


class Abandoning:
    """Gives up the drafts of this process."""

    def __init__(self, database: Database, contents: Contents, intents: Intents) -> None:
        self._database = database
        self._contents = contents
        self._intents = intents
        self._left: list[tuple[Draft, Key | None]] = []
        """What could not be given up, with their intents."""

    def abandon(self, draft: Draft, key: Key | None) -> None:
        """Give up a draft, and its intent where it has one. Raises StoreError; then `again` is to do it."""
        draft.close()
        try:
            if key is not None:
                self._intents.withdraw(key, draft)
            if draft.registered or draft.superseded:
                self._delete(draft)
        except StoreError:
            self._left.append((draft, key))
            raise

    def _delete(self, draft: Draft) -> None:
        with self._database.write():
            tx = Transaction(self._database, self._contents.sessions.own)
            tx.rows("DELETE FROM draft WHERE content = ?", (draft.content,))
            tx.drop_content(draft.content)
            self._contents.drop_superseded(draft)
        draft.note_kept()

    def again(self) -> StoreError | None:
        """Take back and give up what could not be. Returns why something still cannot."""
        failure: StoreError | None = None
        for key, draft in self._intents.withdrawals.left():
            try:
                self._intents.withdraw(key, draft)
            except StoreError as error:
                failure = error
        left, self._left = self._left, []
        for draft, of in left:
            try:
                self.abandon(draft, of)
            except StoreError as error:
                failure = error
        return failure
