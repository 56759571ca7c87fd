"""Kills: the daemon gets SIGKILL. What the kernel was given stays."""

import random

from tests.crash.campaign.scenes import StruckStore, new_store

INTERRUPTED = 0.15
"""How often the daemon that mounts again is killed at its start as well."""


class Kills:
    """A store whose daemon is killed."""

    name = "kills"
    closed_survives = True
    at_once = False
    syncing = 0.1

    def __init__(self, durability: str | None) -> None:
        self._durability = durability
        self.strikes = 0
        self.store: StruckStore

    def begin(self) -> None:
        """Make a new store and mount it."""
        self.store = new_store(None, self._durability)
        self.store.mount()

    def strike(self) -> None:
        self.store.kill()
        self.strikes += 1

    def interrupt(self, chance: random.Random) -> None:
        """Strike again while a daemon begins to recover."""
        while chance.random() < INTERRUPTED:
            self.store.start_and(chance.uniform(0, 0.4), self.strike)

    def end(self) -> None:
        """End the daemon and remove the store."""
        self.store.close()
