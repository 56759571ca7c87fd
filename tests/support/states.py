"""What a mount keeps of its store, for tests that are the kernel themselves."""

import trio

from engine import Store
from fusefs.background import Background
from fusefs.pulse import Pulse
from fusefs.scope import Scope
from fusefs.state import MountState

_PATIENCE_S = 60.0


def mount_state(store: Store, nursery: trio.Nursery | None = None) -> MountState:
    """The state of a mount that shows all of a store; with a nursery, it can also do things in the background."""
    state = MountState(store, Scope(), Pulse(_PATIENCE_S, lambda: None))
    if nursery is not None:
        state.nursery, state.background = nursery, Background(nursery, state.pulse)
    return state
