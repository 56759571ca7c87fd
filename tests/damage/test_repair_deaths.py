"""A repair that is killed: at each of its steps it leaves the old store or the new one."""

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from engine.checking import Check
from engine.config import ObjectStoreSettings
from engine.errors import OpenError
from engine.repairing import repair
from tests.damage.campaign import Scene
from tests.damage.making import Made, copy
from tests.damage.mending import mend
from tests.damage.pages import LEAF_TABLE, pages_of, ruin

STEPS = ("os.rename", "os.replace", "os.link", "os.fsync", "os.chmod", "os.unlink", "shutil.copyfile")


def die_at(step: int, path: Path) -> bool:
    """Repair in a process that is killed before its step of that number. Returns whether it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def dying(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **named)

            return call

        try:
            for name in STEPS:
                target, _, attribute = name.rpartition(".")
                module: Any = resolve_name(target)
                setattr(module, attribute, dying(getattr(module, attribute)))
            repair(ObjectStoreSettings(path=str(path)))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.slow
def test_a_death_at_any_step_leaves_the_old_store_or_the_new_one(killed: Scene, place: Path) -> None:
    scene = killed
    step, new = 1, 0
    while True:
        path = copy(scene.made, place)
        _damage_for_deaths(scene.made, path)
        if not die_at(step, path):
            break
        new += _is_whole(path)
        told = b"".join(file.read_bytes() for file in place.glob("*.damaged-*-lost"))
        mended = mend(scene.truth, path)
        # What was lost is told by the repair that ends, or stands beside the files that the one before has kept.
        mended.unreported = [name for name in mended.unreported if name not in told]
        assert (mended.wrong, mended.unreported, mended.back) == ([], [], [])
        assert not [name for name in os.listdir(place) if "repairing" in name]
        step += 1
    assert step > 10
    assert 0 < new < step


def _damage_for_deaths(made: Made, path: Path) -> None:
    ruin(path, 1, pages_of(made.path, "node", LEAF_TABLE)[1])


def _is_whole(path: Path) -> bool:
    try:
        return not list(Check(ObjectStoreSettings(path=str(path))).run())
    except OpenError:  # its first page is damaged
        return False
