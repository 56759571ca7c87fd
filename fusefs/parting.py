"""One of several who write a name renames it: what is its own goes along, and what others put keeps the old name.

All of them keep the one private inode, which the kernel knows them by; who asks tells which of them is meant.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from fusefs.copies import PrivateCopy
from fusefs.handles import PeekHandle, WriteHandle
from fusefs.state import MountState
from fusefs.writers import Writers


def part(state: MountState, writers: Writers, pid: int) -> Writers | None:
    """The writers of what thread `pid` renames: all of them, unless others write copies of their own.

    None where nothing is its own.
    """
    own = {*writers.openings.copies_of(pid)}
    if not own:
        return None
    if own >= {*writers.openings.copies}:
        return writers
    parted = state.writers.begin_beside(writers)
    parted.file = replace(writers.file)
    hand_over(writers, parted, own)
    return parted


def part_all(state: MountState, held: Iterable[Writers], pid: int) -> list[Writers]:
    """The same of several who are to put the name; those only where something is its own."""
    parts = [part(state, writers, pid) for writers in held]
    return [own for own in parts if own is not None]


def rejoin(state: MountState, parted: Writers, writers: Writers) -> None:
    """The rename failed: all is as it was. Where the others are gone by now, the name is that of those who parted."""
    if parted is not writers and state.writers.at(parted.parent, parted.name) is writers:
        hand_over(parted, writers, {file.copy for file in parted.openings if file.copy is not None})
        state.writers.end(parted)


def hand_over(source: Writers, target: Writers, copies: Collection[PrivateCopy]) -> None:
    """Copies, and whoever has them open, are among other writers from now on."""
    for handle in [*source.openings]:
        if isinstance(handle, WriteHandle | PeekHandle) and handle.copy in copies:
            handle.writers = target
            source.note_release(handle)
            target.note_open(handle)
    for copy in copies:
        if copy.file is source.file:
            copy.file = target.file
        if source.edit is copy:
            source.edit, target.edit = None, copy
        if source.last is copy:
            source.last, target.last = None, copy
