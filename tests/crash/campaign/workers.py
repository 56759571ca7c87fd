"""The processes of the load, as the campaign sees them."""

import json
import select
import subprocess
import sys
import time
from pathlib import Path

from tests.crash.campaign.ledger import Reader, Round
from tests.crash.campaign.verdict import Known
from tests.support.mounting import ROOT

_LOOK_S = 0.005
_SECONDS = 60.0
"""How long a worker may take to notice that its mount is gone."""


class Workers:
    """Processes that work from `go` until the mount fails under them, again and again."""

    def __init__(self, mount: Path, ledgers: Path, count: int, seed: str, syncing: float) -> None:
        paths = [ledgers / f"ledger-{worker}" for worker in range(count)]
        self._readers = [Reader(path) for path in paths]
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.crash.campaign.load", mount, path, str(worker), seed, str(syncing)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for worker, path in enumerate(paths)
        ]

    def go(self, known: Known) -> None:
        """Tell each what is there of its own, and let them work."""
        for worker, process in enumerate(self._processes):
            edited = known.edited[worker]
            runs = [run for run in known.runs if run.startswith(f"{worker}.")]
            told = {"keys": known.keys[worker], "edited": [edited.objects, edited.aside], "runs": runs}
            assert process.stdin is not None
            process.stdin.write(json.dumps(told) + "\n")
            process.stdin.flush()

    def wait(self, acknowledgements: float, seconds: float) -> None:
        """Let them work until so much is acknowledged, or for so long."""
        until = time.monotonic() + seconds
        while sum(reader.waiting() for reader in self._readers) < acknowledgements and time.monotonic() < until:
            time.sleep(_LOOK_S)

    def rounds(self) -> list[Round]:
        """Wait until all have noticed that the mount is gone. Returns what each did."""
        for worker, process in enumerate(self._processes):
            assert process.stdout is not None
            ready = select.select([process.stdout], [], [], _SECONDS)[0]
            assert ready, f"worker {worker} hangs"
            assert process.stdout.readline() == "stopped\n", f"worker {worker} ended with {process.wait(_SECONDS)}"
        return [reader.read() for reader in self._readers]

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
