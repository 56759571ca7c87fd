"""`fusefs backup`: a copy of a store, also while it is mounted."""

import os
from pathlib import Path

import click

from fusefs.cli.options import NAME, settings_from, store_options
from fusefs.cli.transfer import progress


@click.command("backup")
@store_options
@click.argument("target", metavar="FILE", type=NAME)
def backup(store: str | None, config: str | None, target: bytes) -> None:
    """Copy the store to FILE, and large values to FILE-data beside it.

    Works while the store is mounted: the copy has everything whose close() returned before, as of one moment. It is a
    store: mount it with --store FILE, or put it in the place of the old one.
    """
    from engine.backup import backup as back_up  # SQLite: not for --help and wrong arguments

    with progress("copying") as tell:
        copied = back_up(settings_from(store, config).object_store, Path(os.fsdecode(target)), tell)
    click.echo(f"{copied} bytes copied")
