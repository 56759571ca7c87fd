"""The command of `script/damage`."""

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.damage.campaign import Report, run

_TELL_S = 15.0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/damage",
        description="Damages stores, and reads everything that is left of them: no byte may be another one.",
        epilog="Ends with status 1 when something is wrong.",
    )
    parser.add_argument("--times", type=int, default=1000, metavar="N", help="damage so often (default: 1000)")
    parser.add_argument("--mounts", type=int, metavar="N", help="of real mounts (default: one for 250 damages)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    parser.add_argument("--seed", help="of the stores and of what is damaged")
    parser.add_argument("--json", action="store_true", help="say at the end what came of it as JSON")
    options = parser.parse_args(arguments)
    options.seed = options.seed or str(random.SystemRandom().randrange(1_000_000))
    options.mounts = options.times // 250 if options.mounts is None else options.mounts
    return options


def main(arguments: list[str]) -> int:
    """Run the campaign. Returns the exit code."""
    options = _options(arguments)
    stream = sys.stderr if options.json else sys.stdout
    print(f"damage: seed {options.seed}, {options.times} times, {options.mounts} mounts", file=stream, flush=True)
    total = Report()
    began = told = time.monotonic()
    with TemporaryDirectory() as place:
        run_of = run(Path(place), options.times, options.seed, mounts=options.mounts, workers=options.workers)
        for report in run_of:
            total.add(report)
            for finding in report.findings:
                print(f"damage: FINDING: {finding}", file=stream, flush=True)
            if time.monotonic() - told > _TELL_S:
                told = time.monotonic()
                print(f"damage: {total.times} times, {told - began:.0f} s", file=stream, flush=True)
    _end(options, total, time.monotonic() - began)
    return int(bool(total.findings) or not total.times)


def _end(options: argparse.Namespace, total: Report, seconds: float) -> None:
    parts = {
        name: dict(sorted(getattr(total, name).items())) for name in ("verdicts", "check", "repair", "mounts", "errors")
    }
    if options.json:
        head = {"times": total.times, "seed": options.seed, "seconds": round(seconds), "findings": total.findings}
        print(json.dumps({**head, **parts}))
        return
    for name, counts in parts.items():
        print(f"{name}:")
        for what, count in counts.items():
            print(f"  {count:7} {what}")
    words = ("right", "failed", "older, told", "missing, told", "older, silent", "missing, silent", "wrong")
    print(f"{total.times} damages: " + "; ".join(f"{total.total(word)} {word}" for word in words))
    print(f"{len(total.findings)} findings (seed {options.seed}, {seconds:.0f} s)")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
