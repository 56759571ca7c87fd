"""The command of `script/crash`."""

import argparse
import json
import os
import random
import signal
import sys
import time

from tests.crash.campaign.broken import BUGS
from tests.crash.campaign.campaign import Campaign, Scene, Tally
from tests.crash.campaign.cuts import Cuts, have_mounts_of_our_own
from tests.crash.campaign.kills import Kills
from tests.support import mounting

_TELL_S = 15.0
_KILLS, _CUTS = 100, 20
_LOAD = 320


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/crash",
        description="Kills the daemon, or cuts the power of its disk, at random moments under load, and compares what"
        " is there afterwards with what close() and fsync() had acknowledged.",
        epilog="Ends with status 1 when something acknowledged is lost or torn, or nothing was acknowledged.",
    )
    parser.add_argument("--kills", type=int, metavar="N", help=f"kill the daemon so often (default: {_KILLS})")
    parser.add_argument("--cuts", type=int, metavar="N", help="cut the power so often; needs root (default: 0)")
    parser.add_argument("--processes", type=int, default=4, metavar="N", help="that write (default: 4)")
    parser.add_argument(
        "--load", type=float, default=_LOAD, metavar="N", help=f"acknowledgements between strikes (default: {_LOAD})"
    )
    parser.add_argument("--seed", help="of the load and the moments; the kernel's own timing differs")
    parser.add_argument(
        "--durability", metavar="full", help="write this into the config; with full, each close() counts"
    )
    parser.add_argument("--broken", choices=BUGS, help="put a bug in, which is to be found: " + _bugs())
    parser.add_argument(
        "--control", action="store_true", help="cuts without the store's syncing, which have to lose something"
    )
    parser.add_argument("--go-on", action="store_true", help="go on with a new store where something was found")
    parser.add_argument("--json", action="store_true", help="say at the end what came of it as JSON")
    options = parser.parse_args(arguments)
    if options.control:
        options.broken, options.go_on = "sync", True
    _choose(options)
    return options


def _bugs() -> str:
    return "; ".join(f"{name}: {bug.what} ({bug.found_by})" for name, bug in BUGS.items())


def _choose(options: argparse.Namespace) -> None:
    """What was not said."""
    if options.kills is None and options.cuts is None:
        cuts = options.broken is not None and BUGS[options.broken].found_by == "cuts"
        options.kills, options.cuts = (0, _CUTS) if cuts else (_KILLS, 0)
    options.kills, options.cuts = options.kills or 0, options.cuts or 0
    if options.seed is None:
        options.seed = str(random.SystemRandom().randrange(1_000_000))


class _Progress:
    """Says how far it is, from time to time."""

    def __init__(self, tally: Tally, *, to_stderr: bool) -> None:
        self._tally = tally
        self._stream = sys.stderr if to_stderr else sys.stdout
        self._told = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"crash: {text}", file=self._stream, flush=True)

    def tick(self) -> None:
        if time.monotonic() - self._told > _TELL_S:
            self._told = time.monotonic()
            struck = ", ".join(f"{count} {name}" for name, count in self._tally.strikes.items())
            self(f"{struck}, {self._tally}, {self._tally.seconds:.0f} s")


def main(arguments: list[str]) -> int:
    """Run the campaigns. Returns the exit code."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it in order, too
    if options.broken is not None:
        mounting.FUSEFS = (sys.executable, "-m", "tests.crash.campaign.broken", options.broken)
    tally = Tally()
    tell = _Progress(tally, to_stderr=options.json)
    tell(f"seed {options.seed}, {options.kills} kills, {options.cuts} cuts, {options.processes} processes")
    if options.cuts:
        if os.geteuid() != 0:
            print("script/crash: only root can cut the power of a disk", file=sys.stderr)
            return 2
        have_mounts_of_our_own()
    try:
        _run(options, tally, tell)
    except KeyboardInterrupt:
        tell(f"interrupted: {tally}")
        return 130
    return _end(options, tally)


def _run(options: argparse.Namespace, tally: Tally, tell: _Progress) -> None:
    scenes: list[tuple[Scene, int]] = [
        (Kills(options.durability), options.kills),
        (Cuts(options.durability), options.cuts),
    ]
    for scene, strikes in scenes:
        if strikes and (options.go_on or not tally.findings):
            campaign = Campaign(
                scene,
                tally,
                workers=options.processes,
                load=options.load,
                seed=options.seed,
                go_on=options.go_on,
                tell=tell,
            )
            campaign.run(strikes, tell.tick)


def _end(options: argparse.Namespace, tally: Tally) -> int:
    bad = bool(tally.findings) or not tally.acknowledged
    if options.control:
        # Nothing lost without the store's syncing would mean that nothing is proven with it.
        bad = not tally.count("lost") + tally.count("torn")
    struck = ", ".join(f"{name} {count}" for name, count in tally.strikes.items())
    if options.json:
        print(json.dumps(_as_json(options, tally)))
    else:
        wrong = f"otherwise wrong {tally.count('wrong')}"
        print(f"{tally} (by fsync {tally.by_fsync}, {wrong}, {struck}, seed {options.seed}, {tally.seconds:.0f} s)")
    return int(bad)


def _as_json(options: argparse.Namespace, tally: Tally) -> dict[str, object]:
    counts = {kind: tally.count(kind) for kind in ("lost", "torn", "wrong")}
    return {
        "acknowledged": tally.acknowledged,
        "by_fsync": tally.by_fsync,
        **counts,
        **tally.strikes,
        "seed": options.seed,
        "seconds": round(tally.seconds, 1),
        "findings": [{"kind": each.kind, "text": each.text} for each in tally.findings],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
