"""The worker processes of the mount machine: they keep files open, fork, and can be killed."""

import os
import signal
import socket
import tempfile
from pathlib import Path

from tests.support.processes import SECONDS, Other
from tests.support.waiting import wait_until

_PROGRAM = (Path(__file__).parent / "worker_program.py").read_text()


class Worker(Other):
    """A process that does what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self(_PROGRAM)

    def fork(self, fds: dict[int, int]) -> "Child":
        """Fork; `fds` are the numbers of its descriptors and what the child calls them."""
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{directory}/s")
            listening.listen()
            listening.settimeout(SECONDS)
            self.begin("fork(address, fds)", address=f"{directory}/s", fds=fds)
            connection, _ = listening.accept()
        self.answer()
        return Child(connection)

    def kill(self) -> None:
        """With SIGKILL; it has closed everything when this returns."""
        self.process.kill()
        self.process.wait(SECONDS)
        self._orders.close()
        os.close(self._answers)


class Child(Worker):
    """What a worker forked."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._orders = os.fdopen(os.dup(connection.fileno()), "wb")
        self._answers = os.dup(connection.fileno())
        connection.close()
        self._pid: int = self.answer()

    @property
    def pid(self) -> int:
        return self._pid

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        socket.socket(fileno=os.dup(self._answers)).shutdown(socket.SHUT_WR)
        self._wait()

    def _wait(self) -> None:
        wait_until(self._has_ended, SECONDS)
        self._orders.close()
        os.close(self._answers)

    def _has_ended(self) -> bool:
        """It closed its files before it became a zombie, which lasts where nobody waits for orphans."""
        try:
            state = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        return state in "ZX"
