"""Puts that were acknowledged and are to come: what they may evict is in no cache of the kernel by then.

Several can be on their way into one pipeline: a process that exits has all its files flushed before the first of them
is released.
"""

from dataclasses import dataclass, field

import trio

from engine.store import Store
from fusefs.kernel import KernelCache


@dataclass
class _Pipeline:
    """What is on its way into it."""

    coming: dict[object, bool] = field(default_factory=dict)
    """The handles, and whether each takes a place, unless another does so before it."""
    taking: int = 0
    """How many of them do."""
    victims: set[int] = field(default_factory=set)
    """The oldest of its objects."""
    newest_ns: int = 0
    """Up to when whatever was put is among these."""
    forgetting: list[trio.Event] = field(default_factory=list)
    """What tells when the kernel has forgotten them."""


class Coming:
    """The Puts of one mount that are to come, and the objects that may have to make way for them."""

    def __init__(self, store: Store, kernel: KernelCache) -> None:
        self._store = store
        self._kernel = kernel
        self._pipelines: dict[int, _Pipeline] = {}
        """By the inode of each; and runs, which lose nothing."""
        self._into: dict[object, int] = {}
        """Which of them each handle puts a name in."""
        self._at_risk: dict[int, int] = {}
        """Those objects, and the pipeline of each."""

    def __contains__(self, ino: int) -> bool:
        """Whether an object may be evicted by one of these: its name is not to be cached."""
        return ino in self._at_risk

    def __bool__(self) -> bool:
        return bool(self._at_risk)

    async def announce(self, handle: object, scope: int, parent: int, *, takes_place: bool) -> None:
        """A handle is about to put a name in the directory `parent` of the pipeline or run `scope`.

        Has the kernel forget what that may evict; where no directory is locked. Raises StoreError.
        """
        if self._into.get(handle, scope) != scope:
            self.arrived(handle)  # it goes elsewhere: its name was renamed
        self._into[handle] = scope
        pipeline = self._pipelines.setdefault(scope, _Pipeline())
        taken = pipeline.coming.get(handle, False)
        pipeline.coming[handle] = taken or takes_place
        pipeline.taking += takes_place and not taken
        if pipeline.taking:
            # One that has a place may have lost it to another by the time that it comes.
            self._look_for_victims(scope, pipeline, parent, len(pipeline.coming))
        await self._kernel.wait_for(pipeline.forgetting)  # which another may have asked for

    def _look_for_victims(self, scope: int, pipeline: _Pipeline, parent: int, number: int) -> None:
        if number > 1 and self._store.tree.last_victim_ns(parent, number) <= pipeline.newest_ns:
            return
        # More than come, where several do: a process that ends with thousands is not to ask for all at each.
        victims = self._store.tree.next_victims(parent, number if number == 1 else 2 * number)
        self._replace(scope, pipeline, {victim.ino for victim in victims})
        pipeline.newest_ns = victims[-1].put_ns if victims else 0
        cached = [(victim.parent, victim.name, victim.ino) for victim in victims if self._kernel.may_cache(victim.ino)]
        pipeline.forgetting += self._kernel.ask_to_drop(*cached)

    def arrived(self, handle: object) -> None:
        """It has put its name, or does not."""
        scope = self._into.pop(handle, None)
        if scope is None:
            return
        pipeline = self._pipelines[scope]
        pipeline.taking -= pipeline.coming.pop(handle)
        if not pipeline.coming:
            self._replace(scope, pipeline, set())
            del self._pipelines[scope]

    def note_returned(self) -> None:
        """Objects came back that are older than others: they are not among the victims, and may be the first to go."""
        for pipeline in self._pipelines.values():
            pipeline.newest_ns = 0

    def _replace(self, scope: int, pipeline: _Pipeline, victims: set[int]) -> None:
        for ino in pipeline.victims - victims:
            if self._at_risk.get(ino) == scope:
                del self._at_risk[ino]
        self._at_risk |= dict.fromkeys(victims, scope)
        pipeline.victims = victims
