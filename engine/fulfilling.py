"""What a transaction does about an intent: it is published there, or taken back."""

from dataclasses import dataclass, field

from engine.acknowledged import Key
from engine.catalog.puts import Put
from engine.journal import Entry


@dataclass(slots=True)
class Fulfilled:
    """What a transaction does about intents; true once the block of its operation has ended."""

    key: Key
    entry: Entry | None
    parent: int = 0
    size: int = 0
    """Where the Put that was acknowledged goes, and how many bytes it has."""
    moved: list[Entry] = field(default_factory=list)

    def has_room_for(self, put: Put) -> bool:
        """Whether there is room for a Put because of what was acknowledged."""
        return self.parent == put.parent and self.size >= put.size
