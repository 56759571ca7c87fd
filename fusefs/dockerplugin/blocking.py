"""Calls that may block, in a thread and not for ever: a mount whose daemon hangs answers nothing and nobody."""

from collections.abc import Callable
from typing import TypeVar

import trio

from fusefs.dockerplugin.errors import VolumeError

SECONDS = 15.0
"""How long a call may take, unless told otherwise."""

T = TypeVar("T")


async def in_thread(
    what: str, call: Callable[[], T], seconds: float = SECONDS, threads: trio.CapacityLimiter | None = None
) -> T:
    """Return what `call` returns. Raises VolumeError when it takes longer; it then goes on without us.

    `what` says for the message what was done. `threads` are for calls that those who use a volume can make wait for as
    long as they like: no other call is to wait for one of these.
    """
    with trio.move_on_after(seconds):
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=threads)
    raise VolumeError(f"{what} took longer than {seconds:g} seconds and was given up")
