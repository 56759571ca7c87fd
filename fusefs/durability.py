"""What survives a power cut: what was synced, and with `durability = "full"` all that was acknowledged."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from fusefs.state import MountState

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])


async def sync(state: MountState) -> None:
    """Return once everything published so far survives a power cut. Raises StoreError."""
    state.store.publisher.settle()
    await state.background.sync(state.store.sync)


def durable(function: Handler) -> Handler:
    """Have a request handler that changes something answer once that survives a power cut, where it is to."""

    @functools.wraps(function)
    async def answered(operations: Any, *arguments: Any, **named: Any) -> Any:
        answer = await function(operations, *arguments, **named)
        if operations._state.store.syncs_closes:
            await sync(operations._state)
        return answer

    return cast(Handler, answered)
