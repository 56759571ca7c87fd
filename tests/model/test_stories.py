"""What the mount machine has found by chance and is to stay found: a few steps on a real mount, each looked at."""

from typing import Any

import pytest

from tests.model.mount_machine import MountMachine

Path = tuple[bytes, bytes, bytes]
A, B, C, D = ((b"pipeline", b"p", name) for name in (b"a", b"b", b"c", b"d"))
Story = list[tuple[Any, ...]]

ATTRIBUTES_OF_ANOTHER: Story = [
    ("open", 1, "A", A, "w"),
    ("close", 1),
    ("set_note", A, b"x"),
    ("open", 2, "A", D, "x"),
    ("write", 2, 0, b"put"),
    ("move", "B", A, D, True),
    ("move", "B", D, B, True),
    ("close", 2),
]
"""An object with attributes of its own has a key for a while that somebody creates."""

REPLACED_BY_ANOTHER: Story = [
    ("open", 1, "A", A, "w"),
    ("close", 1),
    ("set_note", A, b"x"),
    ("open", 2, "A", D, "w"),
    ("write", 2, 0, b"put"),
    ("move", "B", A, D, True),
    ("fsync", 2),
    ("set_note", D, b"y"),
    ("unlink", "B", D),
    ("write", 2, 0, b"more"),
    ("close", 2),
]

REMOVED_AND_PUT_ANEW: Story = [
    ("open", 1, "A", A, "w"),
    ("close", 1),
    ("open", 2, "A", A, "w"),
    ("write", 2, 0, b"put"),
    ("set_note", A, b"x"),
    ("unlink", "B", A),
    ("close", 2),
]

RENAMED_ALONG: Story = [
    ("open", 1, "B", B, "w"),
    ("write", 1, 0, b"one"),
    ("fsync", 1),
    ("open", 2, "A", B, "w"),
    ("write", 2, 0, b"two"),
    ("open", 3, "A", C, "w"),
    ("write", 3, 0, b"three"),
    ("move", "B", B, C, True),
    ("move", "A", C, A, True),
    ("fsync", 2),
]
"""What a process has open goes with the key to a name that it is creating itself, and stays there when that goes on."""

OVERTAKEN: Story = [
    ("open", 1, "A", C, "w"),
    ("write", 1, 0, b"one"),
    ("put_beside", C, b"two", False),
    ("open", 2, "A", A, "w"),
    ("close", 2),
    ("open", 3, "A", D, "w"),
    ("close", 3),
    ("fsync", 1),
    ("truncate", 1, 0),
    ("move", "A", C, A, True),
    ("fsync", 1),
]
"""Another mount has put a key that a process creates, and it was evicted; then the process publishes and renames it."""

EXCHANGED: Story = [
    ("open", 1, "A", A, "w"),
    ("close", 1),
    ("open", 2, "A", B, "w"),
    ("close", 2),
    ("open", 3, "A", A, "w"),
    ("open", 4, "B", B, "w"),
    ("swap", "A", A, B),
    ("set_note", A, b"x"),
    ("close", 3),
    ("close", 4),
]

EDITED_AND_REPLACED: Story = [
    ("open", 1, "A", D, "w"),
    ("close", 1),
    ("open", 2, "A", B, "w"),
    ("close", 2),
    ("open", 3, "A", D, "r+"),
    ("move", "B", B, D, True),
    ("truncate", 3, 0),
    ("open", 4, "A", D, "c"),
    ("fsync", 3),
    ("open", 5, "B", D, "r+"),
    ("write", 5, 0, b"edited"),
]
"""Two edit a key, one of them since before it was replaced, and publish in turn: who joins them edits with the last."""

APPENDED_AND_REMOVED: Story = [
    ("open", 1, "A", D, "a"),
    ("append", 1, b"one"),
    ("open", 2, "B", D, "w"),
    ("write", 2, 0, b"two"),
    ("unlink", "A", D),
    ("move", "B", D, C, True),
]
"""What a process appends to a new key, which it removes then, is not shown behind what another makes of that."""


def put(name: Path, mode: str = "w") -> Story:
    """What most programs do."""
    write = [("append", 1, b"value")] if mode == "a" else [("write", 1, 0, b"value")] if mode == "w" else []
    return [("open", 1, "A", name, mode), *write, ("close", 1)]


BACK_AND_GONE_AGAIN: Story = [*put(D), *put(A), *put(C), *put(A), *put(D), *put(C, "c"), *put(B), *put(A, "a")]
"""What comes back in its own place, and makes another one go, takes that along when it goes again."""

REMOVED_BY_WHO_HAS_CLOSED_IT: Story = [
    ("open", 1, "A", A, "w"),
    ("write", 1, 0, b"inherited"),
    ("open", 3, "A", A, "w"),
    ("write", 3, 0, b"put"),
    ("close", 3),
    ("fork", "A", "C", {1: 5}),
    ("close", 1),
    ("unlink", "A", A),
    ("close", 5),
]
"""Whoever opened a key and has closed it removes what is there, and not what its child goes on writing."""

REMOVED_WHERE_IT_WAS_RENAMED: Story = [
    ("open", 1, "A", A, "w"),
    ("write", 1, 0, b"inherited"),
    ("fork", "A", "C", {1: 5}),
    ("close", 1),
    *put(B),
    ("open", 8, "A", B, "w"),
    ("write", 8, 0, b"renamed"),
    ("move", "A", B, A, True),
    ("unlink", "A", A),
    ("fsync", 8),
    ("close", 5),
]
"""Whoever renames what it writes to a key that others write, and removes that, puts it no more."""

RENAMED_WITH_ALL: Story = [
    ("open", 2, "A", B, "w"),
    ("truncate", 2, 0),
    ("open", 4, "A", A, "w"),
    ("write", 4, 0, b"overtaken"),
    ("put_beside", A, b"beside", False),
    ("move", "A", B, A, True),
    ("move", "A", A, C, True),
    ("fsync", 4),
    ("close", 2),
]
"""All that a process writes under a name goes along with that, what it has renamed there and what it had there."""

APPENDED_TO_WHAT_CAME_BACK: Story = [
    *put(A),
    ("open", 3, "B", D, "w"),
    ("write", 3, 0, b"put"),
    ("end", "B"),
    ("set_limit", b"p", 2),
    ("set_note", A, b"x"),
    *put(B),
    ("open", 7, "A", A, "a"),
    ("fsync", 7),
    ("truncate", 7, 0),
    ("close", 7),
]
"""It keeps the attributes that it had."""

PUT_OVER_A_SYMLINK: Story = [
    ("open", 2, "A", A, "w"),
    ("write", 2, 0, b"put"),
    ("symlink", "A", C),
    ("move", "A", C, A, True),
    *put(C),
    *put(B),
    ("close", 2),
]
"""The symlink took no place: who looks for what has to make way for the Put finds nothing, at once."""

STORIES = {
    "attributes of another": ATTRIBUTES_OF_ANOTHER,
    "replaced": REPLACED_BY_ANOTHER,
    "removed": REMOVED_AND_PUT_ANEW,
    "renamed along": RENAMED_ALONG,
    "overtaken": OVERTAKEN,
    "exchanged": EXCHANGED,
    "edited": EDITED_AND_REPLACED,
    "appended": APPENDED_AND_REMOVED,
    "back and gone again": BACK_AND_GONE_AGAIN,
    "removed by who has closed it": REMOVED_BY_WHO_HAS_CLOSED_IT,
    "removed where it was renamed": REMOVED_WHERE_IT_WAS_RENAMED,
    "renamed with all": RENAMED_WITH_ALL,
    "appended to what came back": APPENDED_TO_WHAT_CAME_BACK,
    "put over a symlink": PUT_OVER_A_SYMLINK,
}


@pytest.mark.mount
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_story(story: Story) -> None:
    machine = MountMachine()
    try:
        machine.begin([])
        machine.all_is_as_expected()
        for step in story:
            assert machine.both(*step), step
            machine.all_is_as_expected()
    finally:
        machine.teardown()
        assert MountMachine.pool is not None
        MountMachine.pool.close()
        MountMachine.pool = None
