"""What is to be taken back and could not be yet, as while a disk is full: intents, and drafts that were given up.

A writer was told that its Put is not to be. So it is tried again, and until then the journal says it, to who recovers
the session.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.acknowledged import Key
from engine.drafts import Draft
from engine.journal import Entry, Journal


@dataclass(slots=True)
class _Withdrawal:
    draft: Draft
    said: int = 0
    """The number of the journal's entry that says it; 0: there is none."""


class Withdrawals:
    """The intents that are to be taken back. A draft may be written on meanwhile, and acknowledged anew."""

    def __init__(self, numbers: Iterator[int], journal: Callable[[], Journal] | None) -> None:
        """`numbers`: those of the journal's entries. `journal`: opens it; None where there can be none."""
        self._numbers = numbers
        self._journal = journal
        self._left: dict[Key, _Withdrawal] = {}

    def __bool__(self) -> bool:
        return bool(self._left)

    def __contains__(self, key: Key) -> bool:
        return key in self._left

    def left(self) -> list[tuple[Key, Draft]]:
        return [(key, withdrawal.draft) for key, withdrawal in self._left.items()]

    def add(self, key: Key, draft: Draft) -> None:
        self._left.setdefault(key, _Withdrawal(draft))

    def drop(self, key: Key) -> None:
        """It is taken back, or to be published after all."""
        self._left.pop(key, None)

    def is_said(self, key: Key) -> bool:
        return self._left[key].said > 0

    def say(self, above: int = 0, but: Key | None = None) -> None:
        """Have the journal say all of them, but one, in entries whose numbers are above `above`. Raises StoreError."""
        for key, withdrawal in self._left.items():
            if self._journal is not None and withdrawal.said <= above and key != but:
                entry = self._entry(key)
                self._journal().append(entry)
                withdrawal.said = entry.number

    def entries(self) -> list[Entry]:
        """All of them, for a journal that begins again."""
        return [self._entry(key) for key in self._left]

    def _entry(self, key: Key) -> Entry:
        return Entry(next(self._numbers), *key, None, b"")
