"""Both machines with fresh randomness for so many minutes: `script/soak`."""

import random
import sys
import threading
import time
import traceback

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.comparing_machine import ComparingMachine
from tests.model.mount_machine import MountMachine
from tests.model.test_engine_model import EngineMachine, MemoryEngineMachine

# Most of the time on mounts; the engine alone takes a hundred steps while a mount takes one.
ROUND = [(MountMachine, 30), (EngineMachine, 100), (MountMachine, 30), (MemoryEngineMachine, 50)]
_SETTINGS = settings(
    stateful_step_count=60,
    deadline=None,
    database=None,
    print_blob=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


class Soak:
    """A run of so many minutes; with a seed, one round with that."""

    def __init__(self, minutes: float, seed: int | None) -> None:
        self._started = time.monotonic()
        self._minutes = minutes
        self._given = seed
        self._now = ""
        self._over = threading.Event()

    def run(self) -> int:
        """Returns the exit code."""
        threading.Thread(target=self._tell, daemon=True).start()
        try:
            while self._round() and self._given is None and self._passed() < self._minutes:
                pass
        except Exception:
            traceback.print_exc()
            print(
                f"soak: {self._now} found this after {self._so_far()}; the same again: script/soak 0 SEED", flush=True
            )
            return 1
        finally:
            self._over.set()
        print(f"soak: {self._so_far()}, and nothing was found", flush=True)
        return 0

    def _round(self) -> bool:
        for machine, examples in ROUND:
            seed = random.SystemRandom().randrange(2**32) if self._given is None else self._given
            self._now = f"{machine.__name__} with seed {seed}"
            self._run(machine, examples, seed)
            if self._given is None and self._passed() >= self._minutes:
                return False
        return True

    def _run(self, machine: type[ComparingMachine], examples: int, seed: int) -> None:
        run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=settings(_SETTINGS, max_examples=examples))

    def _passed(self) -> float:
        return (time.monotonic() - self._started) / 60

    def _so_far(self) -> str:
        return f"{self._passed():.1f} minutes, {ComparingMachine.examples} examples, {ComparingMachine.steps} steps"

    def _tell(self) -> None:
        while not self._over.wait(60):
            print(f"soak: {self._so_far()}; now {self._now}", flush=True)


if __name__ == "__main__":
    sys.exit(Soak(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None).run())
