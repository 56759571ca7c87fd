"""Damages stores many times over, and reads, checks and repairs what is left."""

import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from engine.checking import Check
from engine.config import ObjectStoreSettings
from engine.errors import OpenError
from tests.damage import mending, mounting
from tests.damage.damaging import damage
from tests.damage.making import Made, copy, make
from tests.damage.mending import Mended
from tests.damage.reading import Truth, Verdict, judge

_AT_ONCE = 25
_NAMES = 40
_CHECKED, _REPAIRED = 10, 20
"""Of so many damages one is checked, and one repaired."""


class Scene(NamedTuple):
    """A store, and what it returns undamaged."""

    name: str
    made: Made
    truth: Truth


@dataclass(slots=True)
class Report:
    """What came of it."""

    times: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    """By what was damaged and how it ended: "closed data: failed"."""
    check: Counter[str] = field(default_factory=Counter)
    repair: Counter[str] = field(default_factory=Counter)
    mounts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    """Classes of the errors that readers got."""
    findings: list[str] = field(default_factory=list)
    """What must not be: wrong bytes, exceptions that are no StoreError, a dead daemon, a repair that leaves damage."""

    def add(self, other: "Report") -> None:
        self.times += other.times
        self.findings += other.findings
        for name in ("verdicts", "check", "repair", "mounts", "errors"):
            getattr(self, name).update(getattr(other, name))

    def total(self, word: str) -> int:
        """How many damages ended so."""
        return sum(count for what, count in self.verdicts.items() if what.endswith(f": {word}"))


def scenes(place: Path, seed: str, *, names: int = _NAMES) -> list[Scene]:
    """One store that was closed, and one whose process was killed."""
    made = [
        Scene(name, *_made(place / name, random.Random(f"{seed}/{name}").randrange(2**31), names))
        for name in ("closed", "killed")
    ]
    return made


def _made(place: Path, seed: int, names: int) -> tuple[Made, Truth]:
    made = make(place, seed, killed=place.name == "killed", names=names)
    since_ns = time.time_ns()
    undamaged = place.with_name(f"{place.name}-undamaged")
    truth = Truth.of(made, copy(made, undamaged), since_ns)
    shutil.rmtree(undamaged)
    return made, truth


def run(
    place: Path, times: int, seed: str, *, mounts: int = 0, workers: int = 1, names: int = _NAMES
) -> Iterator[Report]:
    """Damage so many times. Yields the reports of parts of it, as they come."""
    stores = scenes(place, seed, names=names)
    parts = [(stores, place, seed, range(start, min(times, start + _AT_ONCE))) for start in range(0, times, _AT_ONCE)]
    if workers == 1:
        yield from (_part(*part) for part in parts)
    else:
        with ProcessPoolExecutor(workers) as pool:
            for done in [pool.submit(_part, *part) for part in parts]:
                yield done.result()
    for number in range(mounts):
        yield _mounted(stores[number % len(stores)], f"{seed}/mounted/{number}")


def _part(stores: list[Scene], place: Path, seed: str, numbers: range) -> Report:
    report = Report()
    there = place / f"damaged-{numbers.start}"
    for number in numbers:
        _one(report, stores[number % len(stores)], there, f"{seed}/{number}", number)
    shutil.rmtree(there, ignore_errors=True)
    return report


def _damaged(scene: Scene, there: Path, seed: str) -> tuple[Path, str]:
    path = copy(scene.made, there)
    return path, damage([there / file.name for file in scene.made.files()], random.Random(seed))


def _one(report: Report, scene: Scene, there: Path, seed: str, number: int) -> None:
    report.times += 1
    path, what = _damaged(scene, there, seed)
    told = f"{scene.name}, {what} (seed {seed})"
    try:
        verdict = judge(scene.truth, path)
        _note(report, scene, what, told, verdict)
        # Prime to the number of scenes: every kind of store comes up.
        if number // len(("closed", "killed")) % _CHECKED == 0:
            _check(report, _damaged(scene, there, seed)[0], what, verdict)
        if number // len(("closed", "killed")) % _REPAIRED == 0:
            _repair(report, mending.mend(scene.truth, _damaged(scene, there, seed)[0]), what, told)
    except Exception as error:
        report.findings.append(f"{told}: {type(error).__name__}: {error}")


def _note(report: Report, scene: Scene, what: str, told: str, verdict: Verdict) -> None:
    word = verdict.word
    if word in ("older", "missing"):
        word += ", told" if verdict.told else ", silent"
        # Without a log and a journal there is nothing that may be lost without a word.
        if not verdict.told and scene.name == "closed":
            report.findings.append(f"{told}: {word}: {[*verdict.older, *verdict.missing][:3]}")
    report.verdicts[f"{scene.name} {_file(what)}: {word}"] += 1
    report.errors.update(odd.partition(":")[0] for odd in verdict.odd)
    if verdict.wrong:
        report.findings.append(f"{told}: wrong: {verdict.wrong[:3]}")


def _file(what: str) -> str:
    """Which of the files of a store was damaged."""
    return next((name for name in ("wal", "data", "puts") if f".db-{name}" in what), "db")


def _check(report: Report, path: Path, what: str, verdict: Verdict) -> None:
    try:
        found = list(Check(ObjectStoreSettings(path=str(path))).run())
    except OpenError:
        report.check["not taken for a store"] += 1
        return
    names = {name for finding in found if (name := finding.path) is not None}
    report.check["found" if found else "nothing found"] += 1
    if not found and verdict.word != "right":
        report.check[f"nothing found of {_file(what)}, {'cut' if ': cut to' in what else 'not cut'}"] += 1
    unnamed = [name for name in verdict.failed if name and not name.endswith(b"/") and name not in names]
    report.check["objects named"] += len(names)
    report.check["objects that failed and were not named"] += len(unnamed) if names else 0


def _repair(report: Report, mended: Mended, what: str, told: str) -> None:
    report.repair["stores"] += 1
    report.repair.update(mending.total([mended]))
    if mended.wrong:
        report.findings.append(f"{told}: wrong after a repair: {mended.wrong[:3]}")


def _mounted(scene: Scene, seed: str) -> Report:
    """Damage a store, mount it, read everything through the mount, and write."""
    report = Report()
    with mounting.Damaged(scene.made, scene.truth) as mounted:
        what = damage([mounted.directory / file.name for file in scene.made.files()], random.Random(seed))
        for word in mounted.use():
            report.mounts[word] += 1
        report.findings += [f"{scene.name}, {what}, mounted: {finding}" for finding in mounted.findings]
    return report
