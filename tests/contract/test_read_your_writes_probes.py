"""Many processes at once, for a short while: values are whole, and what was put is what one gets."""

from pathlib import Path

import pytest

from tests.support.processes import end, start_python

pytestmark = pytest.mark.mount

_OVERWRITE = """
import os, sys
path, rounds = sys.argv[1], int(sys.argv[2])
for number in range(rounds):
    block = bytes([97 + number % 26]) * (3000 + number % 5)
    with open(path, "wb", buffering=0) as file:
        for _ in range(3):
            file.write(block)
"""

_READ = """
import os, sys
path, stop = sys.argv[1:]
reads, torn = 0, []
while not os.path.exists(stop):
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    parts = []
    while part := os.read(fd, 4096):
        parts.append(part)
    again = os.pread(fd, 20_000, 0)
    os.close(fd)
    value = b"".join(parts)
    reads += 1
    if not (len(value) == size >= 9000 and size % 3 == 0 and len(set(value)) == 1 and again == value):
        torn.append((size, len(value), len(again), set(value)))
print(reads, len(torn), torn[:3])
"""


def test_no_torn_reads(pipeline: Path, tmp_path: Path) -> None:
    """`cat` never prints half a value, an empty one that nobody wrote, or a mix of two."""
    end([start_python(_OVERWRITE, pipeline / "k", 1)])
    readers = [start_python(_READ, pipeline / "k", tmp_path / "stop") for _ in range(2)]
    end([start_python(_OVERWRITE, pipeline / "k", 700)])
    (tmp_path / "stop").touch()
    for output in end(readers):
        reads, torn, examples = output.split(maxsplit=2)
        assert int(reads) > 100
        assert torn == "0", examples


_PUT_AND_GET = """
import os, sys
directory, own, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
wrong = []
for number in range(rounds):
    path, value = f"{directory}/{own}-{number % 4}", f"{own}:{number}".encode()
    how = number % 7
    if how == 3 and number > 8:
        os.unlink(path)
        if os.path.exists(path) or os.path.basename(path) in os.listdir(directory):
            wrong.append((number, "is there after unlink"))
    if how == 5:
        with open(path + ".tmp", "wb") as file:
            file.write(value)
        os.replace(path + ".tmp", path)
    else:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(fd, value)
        os.close(fd)
    try:
        with open(path, "rb") as file:
            got = file.read()
    except OSError as error:
        got = error
    if got != value or os.stat(path).st_size != len(value) or os.path.basename(path) not in os.listdir(directory):
        wrong.append((number, how, got))
print(len(wrong), wrong[:3])
"""


@pytest.mark.parametrize("where", ["pipeline", "run"])
def test_read_your_writes(request: pytest.FixtureRequest, where: str) -> None:
    """Once close() has returned, every later open, stat or ls shows the Put: 8 processes at once."""
    directory = request.getfixturevalue(where)
    outputs = end([start_python(_PUT_AND_GET, directory, f"w{number}", 80) for number in range(8)])
    assert outputs == ["0 []\n"] * 8


_SAME_KEYS = """
import os, sys
directory, own = sys.argv[1:]
for number in range(120):
    path = f"{directory}/k{number % 3}"
    with open(path, "wb") as file:
        file.write(own.encode() * 500)
    with open(path, "rb") as file:
        value = file.read()
    assert len(value) == 500 and len(set(value)) == 1, (path, len(value), set(value))
"""


def test_six_processes_on_the_same_keys(pipeline: Path) -> None:
    """Two Puts of one key at once: no writer and no reader ever sees an error or a mix."""
    end([start_python(_SAME_KEYS, pipeline, letter) for letter in "abcdef"])
