"""A job in a container that works through the end of its daemon and the start of the next, and tells what it saw."""

from dataclasses import dataclass, field

from tests.support.containers import Container, Containers
from tests.support.scratch import MOUNTS_BENEATH
from tests.support.waiting import wait_until

EMPTY_ROUNDS = 0 if MOUNTS_BENEATH else 20
"""In how many rounds it may see the bare directory: older kernels show it for some milliseconds, as a round takes."""

# Ends by itself when it has met errors and after them a hundred rounds without.
PROGRAM = r"""
import errno, os, sys, time
mount = sys.argv[1]
number, met, good, end = 0, False, 0, time.monotonic() + 60
def attempt(what, step):
    global met, good
    try:
        return step()
    except OSError as error:
        met, good = True, 0
        print(what, errno.errorcode[error.errno], flush=True)
def write():
    with open(f"{mount}/pipeline/app/log", "a") as file:
        file.write(f"{number}\n")
    print("wrote", number, flush=True)
while not (met and good == 100):
    assert time.monotonic() < end, "the mount did not come back, or never went"
    number, good = number + 1, good + 1
    if attempt("listed", lambda: os.listdir(mount)) == []:
        print("empty", number, flush=True)
    attempt("failed", write)
    try:  # only the bare directory below a mount could take this
        os.close(os.open(f"{mount}/stray", os.O_WRONLY | os.O_CREAT))
        print("wrote below the mount", flush=True)
    except OSError:
        pass
    time.sleep(0.002)
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What a job has seen, each once or more often."""

    written: set[int] = field(default_factory=set)
    """The numbers that it appended with success."""
    refused: set[str] = field(default_factory=set)
    """The errnos of writing."""
    unlisted: set[str] = field(default_factory=set)
    """The errnos of listing the mount."""
    empty: set[int] = field(default_factory=set)
    """The rounds in which it found nothing in the mount."""
    strayed: set[str] = field(default_factory=set)
    """What must never happen: a write into the directory below the mount."""


class Job:
    """The job, at work from the start on."""

    def __init__(self, containers: Containers, mount: str, image: str, *options: object, user: str = "1001") -> None:
        command = ["--entrypoint", "python3", "--user", user, *options]
        self.container: Container = containers.start("-c", PROGRAM, mount, image=image, options=command)
        wait_until(lambda: "wrote" in self.container.output())

    def report(self) -> Report:
        """Wait until it has ended by itself, with success, and tell what it saw."""
        output = self.container.end()
        found = Report()
        for what, said in (line.split(" ", 1) for line in output.splitlines()):
            if what in ("wrote", "empty") and said.isdigit():
                {"wrote": found.written, "empty": found.empty}[what].add(int(said))
            else:
                {"failed": found.refused, "listed": found.unlisted, "wrote": found.strayed}[what].add(said)
        return found


def check(report: Report, log: str) -> None:
    """A job that went through the end of a daemon saw errors meanwhile, and nothing that it wrote was lost.

    Nothing can be written into the directory below, where an older kernel shows that for a moment.
    """
    print(f"{len(report.empty)} of {len(report.written) + len(report.empty)} rounds saw the directory below the mount")
    assert not report.strayed
    assert len(report.empty) <= EMPTY_ROUNDS
    assert "ENOTCONN" in report.refused
    assert "ENOTCONN" in report.unlisted
    assert report.unlisted <= {"ENOTCONN", "ECONNABORTED"}
    assert report.written <= {int(line) for line in log.split()}
