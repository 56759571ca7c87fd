"""`fusefs check`: whether a store is whole."""

from typing import TYPE_CHECKING

import click

from fusefs.cli import output
from fusefs.cli.exit_codes import DAMAGED
from fusefs.cli.options import settings_from, store_options
from fusefs.cli.repair import repair_store
from fusefs.cli.transfer import progress

if TYPE_CHECKING:
    from engine.checking import Check, Finding


@click.command("check")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one object for each thing that was found.")
@click.option(
    "--repair", is_flag=True, help="Save what can be saved, and tell what is lost. Not while the store is in use."
)
def check(store: str | None, config: str | None, as_json: bool, repair: bool) -> None:
    """Read the whole store, and tell what is damaged: pages, names and values.

    Changes nothing without --repair, and works while the store is mounted. The exit code is 5 when something was found,
    with --repair when something is lost.
    """
    if repair:
        repair_store(settings_from(store, config).object_store, as_json=as_json)
        return
    from engine.checking import Check  # SQLite: not for --help and wrong arguments

    with progress("checking") as tell:
        this = Check(settings_from(store, config).object_store, tell)
        findings = list(this.run())
    if as_json:
        output.print_json(map(_as_json, findings))
    else:
        output.print_lines([*map(_line, findings), _summary(this, len(findings))])
    if findings:
        raise click.exceptions.Exit(DAMAGED)


def _as_json(finding: "Finding") -> dict[str, object]:
    concerns = {"path": None} if finding.path is None else output.json_name("path", finding.path)
    return {"what": finding.what, **concerns}


def _line(finding: "Finding") -> str:
    what = output.printable(finding.what)
    return what if finding.path is None else f"{output.shown(finding.path)}: {what}"


def _summary(this: "Check", findings: int) -> str:
    summary = f"read {this.objects} objects, {this.bytes} bytes: " + (
        f"{findings} findings" if findings else "no damage found"
    )
    if this.unchecked or not this.pages_have_checksums:
        summary += f" ({this.unchecked} of them, and names, have no checksums yet: `fusefs compact` adds them)"
    return summary
