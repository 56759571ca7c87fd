"""Opening for writing while the name goes away and comes back as another object: it always works."""

from pathlib import Path

import pytest

from tests.support.processes import end, start_python

pytestmark = pytest.mark.mount

_LOOP = """
import os, sys, time
directory, until, done = sys.argv[1], time.monotonic() + 2.5, 0
k, j, t = (f"{directory}/{name}" for name in "kjt")
while time.monotonic() < until:
    try:
        STEP
        done += 1
    except FileNotFoundError:
        # Somebody else has just renamed or removed it.
        assert MAY_MISS
print(done)
"""

OVERWRITE = _LOOP.replace("STEP", 'open(k, "w").write("x")').replace("MAY_MISS", "False")
APPEND = _LOOP.replace("STEP", 'open(k, "a").write("x")').replace("MAY_MISS", "False")
AWAY_AND_BACK = _LOOP.replace("STEP", "os.rename(k, j); os.rename(j, k)").replace("MAY_MISS", "True")
REMOVE = _LOOP.replace("STEP", "os.unlink(k)").replace("MAY_MISS", "True")
REPLACE = _LOOP.replace("STEP", 'open(t, "w").write("y"); os.rename(t, k)').replace("MAY_MISS", "True")
TRUNCATE = _LOOP.replace("STEP", "os.truncate(k, 3)").replace("MAY_MISS", "True")


@pytest.mark.parametrize("writer", [OVERWRITE, APPEND, TRUNCATE], ids=["overwrite", "append", "truncate"])
def test_a_name_that_changes_hands(pipeline: Path, writer: str) -> None:
    """Whoever opens a key for writing is never told that it is stale, however often others rename or remove it."""
    others = [AWAY_AND_BACK, REMOVE, REPLACE]
    outputs = end([start_python(code, pipeline) for code in (writer, OVERWRITE, *others)])
    assert all(int(done) > 10 for done in outputs)


ATTRIBUTES = {
    "chmod": "os.chmod(k, 0o600 | done % 0o100)",
    "utime": "os.utime(k, (done, done))",
    "setxattr": 'os.setxattr(k, "user.a", b"%d" % done)',
    "stat": "os.stat(k)",
    "getxattr": "os.listxattr(k)",
    "read": 'assert open(k).read() in ("x", "y")',
    "truncate": "os.truncate(k, 1)",
}


@pytest.mark.parametrize("how", ATTRIBUTES)
def test_attributes_of_a_name_that_is_always_there(pipeline: Path, how: str) -> None:
    """A name that others only replace is never reported as gone or stale, whatever is asked of it."""
    (pipeline / "k").write_text("x")
    asking = _LOOP.replace("STEP", ATTRIBUTES[how]).replace("MAY_MISS", "False").replace("2.5", "1.0")
    others = [code.replace("2.5", "1.0") for code in (OVERWRITE, REPLACE)]
    outputs = end([start_python(code, pipeline) for code in (asking, *others)])
    assert all(int(done) > 10 for done in outputs)
