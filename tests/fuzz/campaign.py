"""Runs targets guided by coverage, one process each and two at a time, and tells what they found.

`script/fuzz` calls it. What a run has learned is kept in .cache/fuzz/, so the next goes on from there.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import registry

ROOT = Path(__file__).parents[2]
LEARNED = ROOT / ".cache" / "fuzz" / "learned"
HANGS_AFTER_S = 60
MEMORY_MIB = 2048
LONGEST_INPUT = 2048


@dataclass(frozen=True)
class Ran:
    """What became of one target."""

    target: str
    inputs: int
    seconds: float
    found: list[str]
    trouble: str = ""
    """Why the process ended before its time, if it did."""


def main() -> int:
    """Run what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="script/fuzz", description="Runs fuzz targets, guided by coverage.")
    parser.add_argument("targets", nargs="*", choices=[*registry.TARGETS, []], metavar="TARGET", help="default: all")
    parser.add_argument("--inputs", type=int, default=0, metavar="N", help="end each after N inputs")
    parser.add_argument("--seconds", type=int, default=60, metavar="S", help="end each after S seconds (60)")
    asked = parser.parse_args()
    targets = asked.targets or registry.TARGETS
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        ran = list(workers.map(lambda target: run(target, asked.inputs, asked.seconds), targets))
    report(ran)
    return 1 if any(each.found or each.trouble for each in ran) else 0


def run(target: str, inputs: int, seconds: int) -> Ran:
    """Run one target to the end of its inputs or its time."""
    known = {*registry.corpus(target)}
    learned = LEARNED / target
    learned.mkdir(parents=True, exist_ok=True)
    module = registry.target(target)
    with tempfile.TemporaryDirectory(prefix="fusefs-fuzz-run-") as scratch:
        seeds, words, result = (Path(scratch, name) for name in ("seeds", "words", "result"))
        seeds.mkdir()
        for number, seed in enumerate(module.SEEDS):
            (seeds / str(number)).write_bytes(seed)
        words.write_text("".join(f'"{quoted(word)}"\n' for word in module.WORDS))
        saved = registry.CORPUS / target
        saved.mkdir(parents=True, exist_ok=True)
        options = [
            *(f"-timeout={HANGS_AFTER_S}", f"-rss_limit_mb={MEMORY_MIB}", f"-max_len={LONGEST_INPUT}"),
            *(
                f"-dict={words}",
                f"-artifact_prefix={saved}/",
                f"-max_total_time={seconds}",
                "-verbosity=0",
                "-close_fd_mask=1",
            ),
            *([f"-runs={inputs}"] if inputs else []),
            *(str(learned), str(seeds), str(saved)),
        ]
        command = [sys.executable, "-m", "tests.fuzz.worker", target, str(result), *options]
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "TMPDIR": scratch}, capture_output=True, text=True, check=False
        )
        took = time.monotonic() - began
        told = result.read_text().split("\n") if result.exists() else ["0"]
    new = [str(path) for path in registry.corpus(target) if path not in known]
    found = [line for line in told[1:] if line] + [path for path in new if not any(path in line for line in told)]
    if not any(saved.iterdir()):
        saved.rmdir()
    trouble = "" if done.returncode == 0 else f"ended with {done.returncode}: {done.stderr[-3000:]}"
    if found:
        print(done.stderr[-6000:], file=sys.stderr)
    return Ran(target, int(told[0]), took, found, trouble)


def quoted(word: bytes) -> str:
    """A word as libFuzzer reads it in a dictionary."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def report(ran: list[Ran]) -> None:
    """Print the table, and where each finding is kept."""
    print(f"{'target':<18}{'inputs':>12}{'seconds':>10}{'new findings':>15}")
    for each in ran:
        print(f"{each.target:<18}{each.inputs:>12,}{each.seconds:>10.0f}{len(each.found):>15}")
    print(f"{'in all':<18}{sum(each.inputs for each in ran):>12,}")
    for each in ran:
        for line in each.found:
            print(f"{each.target}: {line}")
        if each.trouble:
            print(f"{each.target}: {each.trouble}")


if __name__ == "__main__":
    sys.exit(main())
