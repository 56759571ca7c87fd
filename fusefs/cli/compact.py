"""`fusefs compact`: a store's file as small as what is in it."""

import os

import click

from fusefs.cli import output
from fusefs.cli.options import settings_from, store_options


@click.command("compact")
@store_options
def compact(store: str | None, config: str | None) -> None:
    """Give the disk back what the store's file does not need.

    Refused while the store is mounted or in use. What was evicted in the last ten minutes can not come back any more.
    """
    from engine.compacting import compact as compact_store  # SQLite: not for --help and wrong arguments

    settings = settings_from(store, config).object_store
    # A copy is made there, and the usual directory for temporary files may be small.
    os.environ.setdefault("SQLITE_TMPDIR", os.path.dirname(settings.path))
    done = compact_store(settings)
    output.tell_effects(*done.effects)
    click.echo(f"{done.before} bytes before, {done.after} after")
