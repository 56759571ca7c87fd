"""A load of everything at once on one mount, from many processes: `script/load`."""

import argparse
import json
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine import open_store
from engine.config import ObjectStoreSettings
from tests.load.operations import EXPIRY, LIMIT, check_kept, prepare
from tests.load.processes import Crowd, total
from tests.load.usage import Samples
from tests.support.invariants import check_store
from tests.support.mounting import MountedStore
from tests.support.scratch import make_directory, remove_directory

_DEADLINE_S = 60.0
"""How long one operation may take; a request is answered in that time."""
_FAIR = 5
"""How many times as much as the slowest process the median may have done."""
_ENOUGH = 100
"""How many operations the median has to be for that to say something."""

_IN_THE_BACKGROUND = "engine.upkeep:Upkeep.sweep"
"""What is tried again until it succeeds, and told of once until then."""


class LoadError(AssertionError):
    """The mount did not do what it promises."""


def load(processes: int, seconds: float, seed: int, *, faults: float = 0.0, tell: bool = False) -> dict[str, Any]:
    """Run a load and return its figures. `faults`: of how many calls each handler of the daemon fails in one, as a
    rate below 1; then a request may fail with EIO. Raises AssertionError.
    """
    scratch = make_directory()
    try:
        with _mounted(scratch / "faults", faults) as store:
            crowd = Crowd(store.path, scratch, processes, seed, faults=bool(faults))
            samples = Samples(store.pid)
            begun = time.monotonic()
            crowd.start(seconds)
            _watch(crowd, samples, begun, tell=tell)
            reports = crowd.reports()
            figures = _figures(seed, time.monotonic() - begun, reports, samples)
            if faults:
                return {**figures, "faults": _check_faults(store, scratch / "faults")}
            _check_growth(samples)
            check_kept(store.path, *total(reports))
            store.unmount()
            with open_store(ObjectStoreSettings(path=store.store)) as opened:
                check_store(opened)
            return figures
    except AssertionError as error:
        raise LoadError(f"with seed {seed}: {error}") from error
    finally:
        remove_directory(scratch)


@contextmanager
def _mounted(counted: Path, faults: float) -> Iterator[MountedStore]:
    """A store with what the processes work in, mounted by a daemon that fails, or one that does not."""
    environment = {"FAULT_RATE": str(faults), "FAULT_FILE": str(counted)}
    store = MountedStore(pipeline_object_limit=LIMIT, run_object_expiry=EXPIRY, environment=environment)
    try:
        store.mount()
        prepare(store.path)
        if faults:
            store.unmount()
            store.expect_log("Traceback|ERROR")
            store.program = [sys.executable, "-m", "tests.support.faulty"]
            store.mount()
        yield store
    finally:
        store.close()


def _watch(crowd: Crowd, samples: Samples, begun: float, *, tell: bool) -> None:
    told = begun
    while not crowd.reap():
        time.sleep(0.5)
        samples.take()
        hanging = crowd.hanging(_DEADLINE_S)
        if hanging:
            crowd.kill()
            raise LoadError(f"{len(hanging)} processes hang, the first of them is number {hanging[0]}")
        if tell and time.monotonic() - told > 60:
            told = time.monotonic()
            print(f"load: {told - begun:.0f} s, {samples.summary()}", file=sys.stderr, flush=True)


def _check_faults(store: MountedStore, counted: Path) -> int:
    """Each fault is in the log once, and the mount lives. Returns how many there were."""
    store.unmount()
    log = store.log()
    injected = Counter(counted.read_text().splitlines())
    logged = Counter(re.findall(r"RuntimeError: injected into ([\w.:]+)", log))
    count = injected.total()
    assert log.count("Traceback") == logged.total(), "something else failed as well"
    background, told = injected.pop(_IN_THE_BACKGROUND, 0), logged.pop(_IN_THE_BACKGROUND, 0)
    assert min(background, 1) <= told <= background, f"{background} faults of upkeep, and {told} of them in the log"
    assert injected == logged, f"of {count} faults not in the log {injected - logged}, twice there {logged - injected}"
    return count


def _check_growth(samples: Samples) -> None:
    growth = samples.growth()
    assert not growth, ", ".join(growth)


def _figures(seed: int, lasted: float, reports: Sequence[dict[str, Any]], samples: Samples) -> dict[str, Any]:
    errors = [error for report in reports for error in report["errors"]]
    assert not errors, f"{len(errors)} operations failed, of which the first: {errors[0]}"
    done = [report["done"] for report in reports]
    fewest, median = min(done), int(statistics.median(done))
    assert median < _ENOUGH or fewest * _FAIR > median, f"one did {fewest} operations, and the median is {median}"
    worst = max(report["worst"] for report in reports)
    return {
        "seed": seed,
        "processes": len(done),
        "seconds": round(lasted, 1),
        "operations": sum(done),
        "per_process": {"min": fewest, "median": median, "max": max(done)},
        "worst": {"seconds": round(worst[0], 3), "operation": worst[1]},
        "failed": sum(report["failed"] for report in reports),
        **samples.summary(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/load", description=__doc__)
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--faults", type=float, default=0.0, help="how often a handler of the daemon fails: 0.01")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    print(f"load: seed {given.seed}", file=sys.stderr, flush=True)
    figures = load(given.processes, given.seconds, given.seed, faults=given.faults, tell=True)
    if given.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:12} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
