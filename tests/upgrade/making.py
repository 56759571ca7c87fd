"""Makes a store as a fixture of the format that the code has which runs it: `python -m tests.upgrade.making FILE`.

It leaves a store of a process that was killed, log and all. `CONTENTS` is what has to be read from it for ever after.
The files of older formats were made with the code of their time: this module, run in a checkout of it.
"""

import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from engine import ScopeName, open_store, xattrs
from engine.catalog.puts import How, Put
from engine.config import ObjectStoreSettings
from engine.drafts import Draft

APP, FULL = ScopeName.pipeline("app"), ScopeName.pipeline("full")
RUNS = [ScopeName.run(name) for name in ("1", "2", "3")]

CONTENTS: dict[ScopeName, dict[bytes, bytes]] = {
    APP: {
        b"empty": b"",
        b"small": b"a small value",
        b"row": b"0123456789" * 6_000,
        b"chunks": b"0123456789" * 60_000,
        b"large": bytes(range(256)) * 20_000,
        b"directory/below/key": b"below",
        b"\xff not UTF-8\n": b"any name",
        b"acknowledged": b"closed, and its daemon killed before it was published",
    },
    FULL: {b"b": b"2", b"c": b"3", b"d": b"4"},
    RUNS[1]: {b"log": b"of run 2"},
    RUNS[2]: {b"log": b"of run 3"},
}
"""By pipeline and run: "a" was evicted from `full`, whose limit is 3, and run 1 has expired."""

XATTR = b"user.comment", b"kept"
LINK, TARGET = b"link", b"directory/below"


def make(path: Path) -> None:
    """Make the store, and be killed."""
    store = open_store(ObjectStoreSettings(path=str(path), run_object_expiry=2, pipeline_object_limit=50))
    store.create_pipeline(APP.name, 0)
    store.create_pipeline(FULL.name, 3)
    store.put_object(FULL, b"a", b"1")
    for scope, values in CONTENTS.items():
        if scope in RUNS:
            continue
        for key, value in values.items():
            if key != b"acknowledged":
                store.put_object(scope, key, value)
    for run in RUNS:
        store.start_run(run.name)
        store.put_object(run, b"log", b"of run " + run.name)
        store.finish_run(run.name)
    home = store.tree.child(2, APP.name)
    assert home is not None
    store.tree.make_symlink(home.ino, LINK, TARGET, 1000, 1000)
    small = store.tree.child(home.ino, b"small")
    assert small is not None
    store.tree.set_xattrs(small.ino, xattrs.with_value(None, *XATTR))
    draft = Draft(store.contents)
    draft.write(0, CONTENTS[APP][b"acknowledged"])
    put = Put(store.contents.numbers.take(), home.ino, b"acknowledged", 0o640, 1000, 1000, how=How.REPLACE)
    store.publisher.prepare(put, draft, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def main(archive: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "objects.db"
        ended = subprocess.run([sys.executable, "-m", "tests.upgrade.making", "--make", str(path)], check=False)
        assert ended.returncode == -signal.SIGKILL
        with tarfile.open(archive, "w:xz") as tar:
            for file in sorted(path.parent.iterdir()):
                if not file.name.endswith(("-shm", "-lock")):
                    tar.add(file, file.name)


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make(Path(sys.argv[2]))
    else:
        main(sys.argv[1])
