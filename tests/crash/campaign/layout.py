"""What the load works on: where things are in the mount, their limits and sizes."""

import os
from pathlib import Path

from tests.crash.campaign.values import LARGEST, SMALLEST
from tests.support.disks import sync

OWN = "pipeline/own"
"""A directory for each worker, without a limit."""
EDITED = "pipeline/edited"
"""A full pipeline for each worker."""
EDITED_LIMIT = 3
LIMITED = "pipeline/limited"
"""The full pipeline of all."""
LIMITED_LIMIT = 8
SHARED = "pipeline/shared"
LOGS = (f"{SHARED}/log0", f"{SHARED}/log1")
"""What all of them append to."""
RUNS = "run"
RUN_EXPIRY = 6

_KEYS, _KEYS_IN_FULL = 10, 6

# In rows and in the journal; at the border; in chunks; in the data file.
SIZES = [((SMALLEST, 300), 90), ((300, 6000), 80), ((60_000, 70_000), 12), ((70_000, 400_000), 12)]
SIZES += [((1_000_000, 2_000_000), 3), ((3_200_000, LARGEST), 3)]
"""How long what is written is: between these, so often."""


def own_directory(worker: int) -> str:
    return f"{OWN}/w{worker}"


def own_keys(worker: int) -> list[str]:
    return [f"{own_directory(worker)}/k{number}" for number in range(_KEYS)]


def edited_pipeline(worker: int) -> str:
    return f"{EDITED}{worker}"


def edited_names() -> list[str]:
    return [f"k{number}" for number in range(_KEYS_IN_FULL)]


def limited_names(worker: int) -> list[str]:
    """Each key of the pipeline is put by one worker only: it knows what its last Put there was."""
    return [f"w{worker}.k{number}" for number in range(_KEYS_IN_FULL)]


def run_of(path: str) -> str | None:
    """The id of the run that a path leads into."""
    top, _, rest = path.partition("/")
    return rest.partition("/")[0] if top == RUNS else None


def worker_of_run(run: str) -> int:
    return int(run.partition(".")[0])


def directories(workers: int) -> list[str]:
    """All that there is before the load."""
    shared = [OWN, LIMITED, SHARED]
    return shared + [make(worker) for worker in range(workers) for make in (own_directory, edited_pipeline)]


def make(mount: Path, workers: int) -> None:
    """Make all of it in a new store, and have it survive a power cut."""
    for path in directories(workers):
        (mount / path).mkdir()
    limits = {OWN: 0, SHARED: 0, LIMITED: LIMITED_LIMIT}
    limits |= {edited_pipeline(worker): EDITED_LIMIT for worker in range(workers)}
    for path, limit in limits.items():
        os.setxattr(mount / path, "fusefs.limit", b"%d" % limit)
    sync(mount)
