"""What one mount commits is seen by the others within a second, whatever their kernels had cached, under load too."""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.several_mounts import VISIBLE_SECONDS, mounts_of_one_store, soon
from tests.support.mounting import MountedStore
from tests.support.processes import end, start_python

pytestmark = [pytest.mark.mount, pytest.mark.slow]

SECONDS = 6.0
LARGE = 1_200_000


@pytest.fixture(scope="module")
def mounts() -> Iterator[list[MountedStore]]:
    with mounts_of_one_store(3, run_object_expiry=3) as mounted:
        yield mounted


# Each round changes everything once more and then notes its number and the time in a ledger.
CHANGE = """
import os, sys, time
top, name, ledger_path, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
here, limited, run = f"{top}/pipeline/{name}", f"{top}/pipeline/{name}-limited", f"{top}/run/{name}"
ledger = os.open(ledger_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def write(path, value):
    with open(path, "wb") as file:
        file.write(value)

number, until = 0, time.monotonic() + seconds
while time.monotonic() < until:
    time.sleep(0.01)
    before, number = number, number + 1
    write(f"{here}/large", (b"%d " % number).ljust(SIZE, b"x"))
    write(f"{here}/removed.{number}", b"v")
    os.mkdir(f"{here}/directory.{number}")
    if before:
        os.rename(f"{here}/renamed.{before}", f"{here}/renamed.{number}")
        os.unlink(f"{here}/removed.{before}")
        os.rmdir(f"{here}/directory.{before}")
    else:
        write(f"{here}/renamed.1", b"v")
        write(f"{here}/attributes", b"v")
    write(f"{here}/temporary", b"%d" % number)
    os.rename(f"{here}/temporary", f"{here}/replaced")
    os.symlink(str(number), f"{here}/temporary")
    os.rename(f"{here}/temporary", f"{here}/link")
    os.chmod(f"{here}/attributes", 0o400 | number % 0o400)
    os.utime(f"{here}/attributes", (number, number))
    os.setxattr(f"{here}/attributes", "user.number", b"%d" % number)
    write(f"{limited}/evicted.{number}", b"v")
    os.mkdir(f"{run}.{number}")
    write(f"{run}.{number}/k", b"v")
    write(f"{here}/small", b"%d" % number)
    os.write(ledger, b"%d %r\\n" % (number, time.monotonic()))
""".replace("SIZE", str(LARGE))

# Looks at everything again and again, so that the kernel has it all cached, and knows what it has to find by now.
LOOK = """
import errno, json, os, stat, sys, time
top, name, ledger_path, seconds, promised = *sys.argv[1:4], float(sys.argv[4]), float(sys.argv[5])
here, limited, run = f"{top}/pipeline/{name}", f"{top}/pipeline/{name}-limited", f"{top}/run/{name}"
ledger, done, late, first_seen, looks = open(ledger_path), [], [], {}, 0

def value(path):
    with open(path, "rb") as file:
        size, text = os.fstat(file.fileno()).st_size, file.read()
    assert len(text) == size, (path, size, len(text))
    return text

def numbers(directory, prefix):
    return [int(name.split(".")[1]) for name in os.listdir(directory) if name.startswith(prefix)]

LOOKS = {
    "a value": lambda: int(value(f"{here}/small")),
    "its size": lambda: 10 ** (os.stat(f"{here}/small").st_size - 1),
    "a large value": lambda: int(value(f"{here}/large").split()[0]),
    "a value replaced by rename": lambda: int(value(f"{here}/replaced")),
    "a new name in a listing": lambda: max(numbers(here, "renamed.")),
    "a new directory": lambda: max(numbers(here, "directory.")),
    "a new run": lambda: max(numbers(f"{top}/run", f"{name}.")),
    "a new object of a full pipeline": lambda: max(numbers(limited, "evicted.")),
    "a symlink": lambda: int(os.readlink(f"{here}/link")),
    "a time": lambda: int(os.stat(f"{here}/attributes").st_mtime),
    "an extended attribute": lambda: int(os.getxattr(f"{here}/attributes", "user.number")),
}
# Names that are gone once a round is done: of the round so many before it.
GONE = [(f"{here}/renamed.", 1), (f"{here}/removed.", 1), (f"{here}/directory.", 1), (f"{limited}/evicted.", 3),
        (f"{run}.", 3)]
known = 0  # what has to be seen by now
until = time.monotonic() + seconds
while time.monotonic() < until:
    for what, look in LOOKS.items():
        now = time.monotonic()
        done += [(int(n), float(t)) for n, t in (line.split() for line in ledger.readlines())]
        known = max([known, *(n for n, t in done[-500:] if t < now - promised)])
        try:
            seen = look()
        except (OSError, ValueError) as error:
            if getattr(error, "errno", errno.ENOENT) not in (errno.ENOENT, errno.ENODATA):
                raise
            seen = 0
            if known:
                late.append((what, known, "missing"))
        if 0 < seen < known and (what != "its size" or seen * 10 <= known):
            late.append((what, known, seen))
        if what == "a value":
            for number in range(max(first_seen, default=0) + 1, seen + 1):
                first_seen[number] = time.monotonic()
        for prefix, behind in GONE:
            for old in range(max(1, known - behind - 5), known - behind + 1):
                if os.path.exists(f"{prefix}{old}"):
                    late.append((prefix, known, old))
            for recent in range(known, known + 3):
                os.path.exists(f"{prefix}{recent}")  # for the kernel to cache
        if known:
            mode = stat.S_IMODE(os.stat(f"{here}/attributes").st_mode)
            if (mode - known) % 0o400 > 0o300:  # ahead of what is known, not behind it
                late.append(("a mode", known, mode))
        looks += 1
delays = [first_seen[number] - at for number, at in done if number in first_seen]
print(json.dumps({"looks": looks, "known": known, "late": late[:5], "delays": delays}))
"""

BESIDE = """
import os, sys, time
directory, until = sys.argv[1], time.monotonic() + float(sys.argv[2])
number = 0
while time.monotonic() < until:
    number += 1
    with open(f"{directory}/beside.{number % 40}", "wb") as file:
        file.write(b"x" * (number % 7 * 10_000))
"""


@pytest.mark.parametrize("load", [False, True], ids=["alone", "under load"])
def test_no_answer_is_older_than_a_second(mounts: list[MountedStore], tmp_path: Path, load: bool) -> None:
    """After a second, no name, listing, value, size, mode, time, attribute, symlink, eviction or expiry is stale."""
    name = "loaded" if load else "alone"
    here, *others = mounts
    here.cli("pipeline", "create", f"{name}-limited", "--limit", "3", exit_code=0)
    (here.pipeline / name).mkdir()
    for mount in others:
        soon((mount.pipeline / name).exists)
    ledger = tmp_path / "ledger"
    ledger.touch()
    changing = start_python(CHANGE, here.path, name, ledger, SECONDS)
    looking = [start_python(LOOK, mount.path, name, ledger, SECONDS, VISIBLE_SECONDS) for mount in others]
    beside = [start_python(BESIDE, mount.pipeline / name, SECONDS) for mount in mounts if load]
    outputs = [json.loads(output) for output in end(looking)]
    end([changing, *beside])
    for found in outputs:
        assert found["late"] == []
        assert found["looks"] > 20
        assert found["known"] > 5
        delays = found["delays"]
        print(f"{name}: seen after {statistics.median(delays):.3f} s, at most {max(delays):.3f} s, of {len(delays)}")
