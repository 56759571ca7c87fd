"""What a repair made of a damaged store, compared with what was put."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from engine import open_store
from engine.checking import Check
from engine.config import ObjectStoreSettings
from engine.errors import OpenError
from engine.model import Kind
from engine.repairing import Repaired, repair
from tests.damage.reading import Truth, read_all
from tests.support.invariants import check_store

_VALUE = slice(0, 1)


@dataclass(slots=True)
class Mended:
    """What is left of a store."""

    repaired: Repaired | None
    """None where it was refused: nothing of a store could be read."""
    kept: int = 0
    """How many names are as they were."""
    lost: list[bytes] = field(default_factory=list)
    """Names that are gone, and reported."""
    unreported: list[bytes] = field(default_factory=list)
    """Names that are gone, or as they were before, and not reported."""
    wrong: list[bytes] = field(default_factory=list)
    """Values that were never put under this name, or attributes that are others without a word."""
    back: list[bytes] = field(default_factory=list)
    """Names that had been deleted before."""


def mend(truth: Truth, path: Path) -> Mended:
    """Repair a store. Raises AssertionError where it is not whole afterwards."""
    settings = ObjectStoreSettings(path=str(path))
    try:
        repaired = repair(settings)
    except OpenError:
        return Mended(None)
    with open_store(settings, create=False) as store:
        check_store(store)
    assert list(Check(settings).run()) == []
    seen = read_all(path, truth.since_ns)
    assert not seen.errors, seen.errors
    mended = Mended(repaired)
    reported = {lost.path for lost in repaired.lost}
    uncertain = {*repaired.uncertain, *repaired.recovered}
    for name, facts in truth.seen.facts.items():
        if name not in seen.facts:
            gone_with_directory = any(name.startswith(directory + b"/") for directory in reported)
            (mended.lost if name in reported or gone_with_directory else mended.unreported).append(name)
        elif seen.values.get(name) != truth.values.get(name):
            is_old = seen.values.get(name) in truth.older.get(name, ())
            (mended.unreported if is_old else mended.wrong).append(name)
        elif seen.facts[name] != facts and name not in uncertain:
            mended.wrong.append(name)
        else:
            mended.kept += 1
    for name, facts in seen.facts.items():
        if name not in truth.seen.facts and facts[_VALUE] == (Kind.OBJECT,) and b"recovered-" not in name:
            (mended.back if seen.values[name] in truth.older.get(name, ()) else mended.wrong).append(name)
    return mended


def total(results: list[Mended]) -> Counter[str]:
    """Names by what became of them, and how many stores were refused."""
    count: Counter[str] = Counter()
    for mended in results:
        count["refused"] += mended.repaired is None
        count["kept"] += mended.kept
        for what in ("lost", "unreported", "wrong", "back"):
            count[what] += len(getattr(mended, what))
    return count
