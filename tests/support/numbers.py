"""Numbers of processes that others had before."""

from pathlib import Path

from tests.support.processes import Other

_LAST = Path("/proc/sys/kernel/ns_last_pid")


def with_number(pid: int) -> Other:
    """A process with a number that is free."""
    for _ in range(200):
        _LAST.write_text(str(pid - 1))
        process = Other()
        if process.pid == pid:
            return process
        process.stop()  # somebody else on this machine was quicker
    raise AssertionError(f"no process got the number {pid}")
