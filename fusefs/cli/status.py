"""`fusefs status`: which mounts are served."""

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from fusefs.cli import output
from fusefs.cli.arguments import MOUNTPOINT
from fusefs.cli.exit_codes import FAILURE

if TYPE_CHECKING:
    from fusefs.status import Status


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.argument("mountpoints", metavar="[MOUNTPOINT]...", nargs=-1, type=MOUNTPOINT)
def status(as_json: bool, mountpoints: tuple[str, ...]) -> None:
    """Tell whether mounts are served: those named, or all.

    Asks each and waits 5 seconds for its answer. Exit code 1 when one of them is dead, stuck or not mounted. One whose
    state is unknown, as others' private mounts are, counts only when it was named.
    """
    from fusefs.status import State, all_statuses, status_of

    found = [status_of(mountpoint) for mountpoint in mountpoints] if mountpoints else all_statuses()
    if as_json:
        output.print_json(map(_as_json, found))
    elif output.is_terminal(sys.stdout):
        output.print_table(["MOUNTPOINT", "STATE", "STORE", "PROCESS"], map(_as_row, found), right=["PROCESS"])
    else:
        for each in found:
            click.echo(f"{each.state.value}\t{_shown(each.path)}")
    # Whoever names one wants to know; but there may always be mounts of others, and they are no failure of ours.
    good = (State.SERVING,) if mountpoints else (State.SERVING, State.UNKNOWN)
    if any(each.state not in good for each in found):
        raise click.exceptions.Exit(FAILURE)


def _as_json(found: "Status") -> dict[str, Any]:
    mountpoint = output.json_name("mountpoint", os.fsencode(found.path))
    return {**mountpoint, "state": found.state.value, "store": found.store or None, "process": found.pid}


def _as_row(found: "Status") -> list[str]:
    return [_shown(found.path), found.state.value, output.printable(found.store), str(found.pid or "")]


def _shown(path: str) -> str:
    # Escaped for scripts too: any user can mount at a path with a newline in it.
    return output.shown(os.fsencode(path))
