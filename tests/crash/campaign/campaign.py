"""A campaign: load, strike, mount again, compare; as often as was asked for."""

import errno
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from engine.errors import StoreError
from tests.crash.campaign import layout
from tests.crash.campaign.ledger import Round
from tests.crash.campaign.observed import look
from tests.crash.campaign.scenes import StruckStore, check
from tests.crash.campaign.verdict import Finding, Known, Strike, judge
from tests.crash.campaign.workers import Workers
from tests.support.disks import sync
from tests.support.mounting import ROOT
from tests.support.scratch import make_directory, remove_directory

_FEW = 20
"""Acknowledgements before a strike that comes soon, at most."""
_INSTANT_S = 0.01
"""Between the last of them and the strike: it may come at any instant of a step."""
_WAIT_S = 20.0
"""How long the load may take for those of a round."""
_LONG_LOG = 300_000
_UNUSED = 3
"""Each such round the store is looked through before a daemon has it again."""
_CHECKED = 10
"""Each such round `fusefs check` does so."""


_WHOLE_LOG = "\n\nthe whole log:"

DEATHS = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
"""What a strike makes of a system call: EIO also where the daemon was just reading the request when it was killed."""


class Scene(Protocol):
    """A store that can be struck."""

    name: str
    closed_survives: bool
    """Whether what only close() acknowledged has to survive a strike."""
    at_once: bool
    """Whether nothing is acknowledged any more from the beginning of a strike on."""
    syncing: float
    """How many of the Puts call fsync."""
    strikes: int
    store: StruckStore

    def begin(self) -> None: ...
    def strike(self) -> None: ...
    def interrupt(self, chance: random.Random) -> None: ...
    def end(self) -> None: ...


@dataclass(slots=True)
class Tally:
    """What a campaign came to."""

    strikes: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    by_fsync: int = 0
    findings: list[Finding] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def count(self, kind: str) -> int:
        return sum(finding.count for finding in self.findings if finding.kind == kind)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def __str__(self) -> str:
        return f"acknowledged {self.acknowledged} lost {self.count('lost')} torn {self.count('torn')}"


class Campaign:
    """One kind of strike against one load."""

    def __init__(
        self,
        scene: Scene,
        tally: Tally,
        *,
        workers: int,
        load: float,
        seed: str,
        go_on: bool,
        tell: Callable[[str], None],
    ) -> None:
        self._scene = scene
        self._tally = tally
        self._count = workers
        self._load = load
        self._seed = f"{seed} {scene.name}"
        self._chance = random.Random(self._seed)
        self._go_on = go_on
        self._tell = tell
        self._known = Known.nothing(workers)

    def run(self, strikes: int, tick: Callable[[], None]) -> None:
        """Strike so often, or until something is found. `tick` is called after each round."""
        self._tick = tick
        while (done := self._scene.strikes) < strikes:
            self._tally.strikes[self._scene.name] = done
            found = self._with_one_store(strikes)
            self._tally.strikes[self._scene.name] = self._scene.strikes
            if found and not self._go_on:
                return

    def _with_one_store(self, strikes: int) -> bool:
        """Go on with one store until something is wrong with it. Returns whether that is so."""
        ledgers = make_directory()
        self._scene.begin()
        store = self._scene.store
        workers = Workers(store.path, ledgers, self._count, f"{self._seed} {self._scene.strikes}", self._scene.syncing)
        before = len(self._tally.findings)
        try:
            self._known = Known.nothing(self._count)
            layout.make(store.path, self._count)
            while self._scene.strikes < strikes and len(self._tally.findings) == before:
                self._round(workers)
                self._tick()
            if len(self._tally.findings) == before:
                self._last_look()
        except BaseException:
            store.discard()  # it may be mounted by halves
            raise
        finally:
            workers.end()
            self._finish()
            remove_directory(ledgers)
        return len(self._tally.findings) > before

    def _last_look(self) -> None:
        """After an unmount nothing superfluous is left."""
        try:
            self._scene.store.unmount()
            self._check(unused=True, whole=True)
        except (AssertionError, StoreError) as error:
            self._note([Finding("wrong", f"after the last of the {self._scene.name}: {error}")])

    def _check(self, *, unused: bool, whole: bool) -> None:
        check(self._scene.store, unused=unused)
        if whole and has_check():
            self._scene.store.cli("check", exit_code=0)

    def _finish(self) -> None:
        try:
            self._scene.end()
        except AssertionError as error:
            self._note([Finding("wrong", f"at the end: {str(error).partition(_WHOLE_LOG)[0]}")])

    def _round(self, workers: Workers) -> None:
        workers.go(self._known)
        workers.wait(self._chance.uniform(0, _FEW if self._chance.random() < 0.2 else 2 * self._load), _WAIT_S)
        time.sleep(self._chance.uniform(0, _INSTANT_S))
        began = time.monotonic()
        self._scene.strike()
        strike = Strike(self._scene.closed_survives, began if self._scene.at_once else math.inf)
        rounds = workers.rounds()
        self._tally.acknowledged += sum(each.acknowledgements for each in rounds)
        self._tally.by_fsync += sum(step.synced for each in rounds for step in each.steps)
        self._note(list(self._refusals(rounds, began)))
        number = self._scene.strikes
        try:
            self._scene.interrupt(self._chance)
            if number % _UNUSED == 0:
                check(self._scene.store, unused=True)
            self._scene.store.mount()
            self._compare(rounds, strike)
            if number % _UNUSED:
                self._check(unused=False, whole=number % _CHECKED == 0)
        except (AssertionError, StoreError, OSError) as error:
            self._note([Finding("wrong", f"{self._scene.name} {number}: {error}")])
        self._tally.strikes[self._scene.name] = self._scene.strikes

    def _refusals(self, rounds: list[Round], struck: float) -> Iterator[Finding]:
        """What was refused otherwise than because of the strike."""
        for worker, did in enumerate(rounds):
            if did.died not in DEATHS or did.died_at < struck:
                told = f"was told {os.strerror(did.died)} {struck - did.died_at:.4f} s before the strike"
                last = did.steps[-1] if did.steps else "no step"
                yield Finding("wrong", f"{self._scene.name} {self._scene.strikes}: worker {worker} {told}, in {last}")

    def _compare(self, rounds: list[Round], strike: Strike) -> None:
        mount = self._scene.store.path
        seen = look(mount, self._count)
        findings, self._known = judge(self._known, rounds, seen, strike)
        where = f"{self._scene.name} {self._scene.strikes}"
        self._note([Finding(each.kind, f"{where}: {each.text}", each.count) for each in findings])
        self._begin_logs_anew()
        sync(mount)  # what is known for the next round is to survive that one

    def _begin_logs_anew(self) -> None:
        for path, records in self._known.logs.items():
            if sum(record.size for record in records) > _LONG_LOG:
                (self._scene.store.path / path).unlink()
                self._known.logs[path] = ()

    def _note(self, findings: list[Finding]) -> None:
        self._tally.findings += findings
        for finding in findings:
            self._tell(f"{finding.kind}: {finding.text}")


@cache
def has_check() -> bool:
    """Whether there is a command `fusefs check`."""
    done = subprocess.run(
        [sys.executable, "-m", "fusefs", "check", "--help"], cwd=ROOT, capture_output=True, check=False
    )
    return done.returncode == 0
