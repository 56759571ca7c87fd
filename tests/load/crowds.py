"""Great numbers of one thing: open files, pipelines, short jobs."""

import os
import resource
import subprocess
from pathlib import Path

from tests.load import values

_OBJECTS = 500
_FILES_AT_ONCE = 2_500
"""In each process."""


def hold_open(directory: Path, count: int) -> None:
    """Have so many files open at once, half of which are read while their names stand for something else."""
    for number in range(_OBJECTS):
        (directory / f"k{number}").write_bytes(values.make(1, number, 100))
    holders = []
    for first in range(0, count, _FILES_AT_ONCE):
        holders.append(_Holder(directory, range(first, min(first + _FILES_AT_ONCE, count))))
    for holder in holders:
        holder.wait_until_open()
    for number in range(0, _OBJECTS, 2):
        (directory / f"k{number}").write_bytes(values.make(2, number, 100))
    for holder in holders:
        holder.check()


class _Holder:
    """A process that has many files open."""

    def __init__(self, directory: Path, numbers: range) -> None:
        told, self._tell = os.pipe()
        self._hear, say = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES_AT_ONCE + 100, _FILES_AT_ONCE + 100))
                fds = {number: os.open(directory / f"k{number % _OBJECTS}", os.O_RDONLY) for number in numbers}
                os.write(say, b"1")
                os.read(told, 1)
                for number, fd in fds.items():
                    assert os.read(fd, 1000) == values.make(1, number % _OBJECTS, 100)
                code = 0
            finally:
                os._exit(code)
        os.close(told)
        os.close(say)

    def wait_until_open(self) -> None:
        assert os.read(self._hear, 1) == b"1", "it could not open them all"

    def check(self) -> None:
        os.write(self._tell, b"1")
        assert os.waitpid(self._pid, 0)[1] == 0, "what one had open was not what it had opened"
        os.close(self._tell)
        os.close(self._hear)


def make_pipelines(mount: Path, count: int) -> None:
    """So many pipelines, each of which is written, listed and read."""
    for number in range(count):
        pipeline = mount / "pipeline" / f"many{number}"
        pipeline.mkdir()
        for key in range(2):
            (pipeline / f"k{key}").write_bytes(values.make(number, key, 50))
    assert len([name for name in os.listdir(mount / "pipeline") if name.startswith("many")]) == count
    for number in range(count):
        pipeline = mount / "pipeline" / f"many{number}"
        assert sorted(os.listdir(pipeline)) == ["k0", "k1"]
        assert (pipeline / "k1").read_bytes() == values.make(number, 1, 50)


# Each job in a shell of its own, with a process for every step, and so many of them at once.
_JOB = 'echo $0 > job$0 && test "$(cat job$0)" = $0 && mv job$0 done$0 && test "$(cat done$0)" = $0'


def run_short_jobs(directory: Path, count: int, at_once: int) -> None:
    """Shells that each put a value, get it, and rename it."""
    done = subprocess.run(
        ["xargs", "-P", str(at_once), "-n", "1", "bash", "-c", _JOB],
        input="\n".join(map(str, range(count))),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[:1000]
    assert sorted(os.listdir(directory)) == sorted(f"done{number}" for number in range(count))
