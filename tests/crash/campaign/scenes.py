"""A mounted store that is struck again and again: what both kinds of strike have in common."""

from collections.abc import Callable
from pathlib import Path
from time import sleep

from engine import open_store
from engine.config import ObjectStoreSettings
from tests.crash.campaign import layout
from tests.support.invariants import check_nothing_left, check_store
from tests.support.mounting import MountedStore

_EXPECTED = (
    # Told to the log only: the directory of a Put went after its close() (see "Not yet" in docs/contract.md).
    r"(was acknowledged and could not be published|acknowledged is lost): the (directory|pipeline).* is gone$"
)


class StruckStore(MountedStore):
    """A mounted store whose daemon may be struck while it starts."""

    _moment: float | None = None

    def start_and(self, seconds: float, strike: Callable[[], None]) -> None:
        """Start a daemon, and strike after a moment, whether it answers by then or not."""
        self._moment = seconds
        try:
            self.mount()
        finally:
            self._moment = None
        strike()

    def _wait_until_ready(self) -> None:
        if self._moment is None:
            super()._wait_until_ready()
        else:
            sleep(self._moment)


def new_store(store: Path | None, durability: str | None) -> StruckStore:
    """A new store, not mounted yet."""
    config = None if durability is None else f'[object_store]\ndurability = "{durability}"\n'
    made = StruckStore(store=store, config=config, run_object_expiry=layout.RUN_EXPIRY)
    made.expect_log(_EXPECTED)
    return made


def check(store: MountedStore, *, unused: bool) -> None:
    """Fail where the store contradicts itself; with `unused`, no mount has it and nothing superfluous may be left."""
    with open_store(ObjectStoreSettings(path=store.store)) as opened:
        if unused:
            check_nothing_left(opened)
        else:
            with opened.database.snapshot():
                check_store(opened)
    if unused:
        left = sorted(path.name for path in store.store_path.parent.glob(f"{store.store_path.name}-puts-*"))
        assert not left, f"journals are left: {left}"
