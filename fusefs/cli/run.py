"""`fusefs run`: objects without a limit, gone once enough newer runs have followed."""

import os
import sys
from typing import Any

import click

from engine.model import RunInfo, ScopeKind
from fusefs.cli import output
from fusefs.cli.objects import object_group
from fusefs.cli.options import NAME, open_for, store_options


@click.group("run")
def run() -> None:
    """Runs: objects gone once newer runs have followed."""


_objects = object_group(ScopeKind.RUN)
run.add_command(_objects, "object")
run.add_command(_objects, "store")


@run.command("start")
@store_options
@click.option("--pipeline", metavar="NAME", type=NAME, help="Count it among the runs of this pipeline.")
@click.argument("run_id", metavar="ID", type=NAME)
def start(store: str | None, config: str | None, pipeline: bytes | None, run_id: bytes) -> None:
    """Start a run. It does not expire before `run finish`.

    Tells on stderr which runs it expired ("expired ID").
    """
    with open_for(store, config, create=True) as opened:
        effects = opened.start_run(run_id, pipeline, uid=os.geteuid(), gid=os.getegid())
    output.tell_effects(effects)


@run.command("finish")
@store_options
@click.argument("run_id", metavar="ID", type=NAME)
def finish(store: str | None, config: str | None, run_id: bytes) -> None:
    """Finish a run: from now on it can expire."""
    with open_for(store, config) as opened:
        effects = opened.finish_run(run_id)
    output.tell_effects(effects)


@run.command("list")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_runs(store: str | None, config: str | None, as_json: bool) -> None:
    """List the runs: a table on a terminal, else one id a line."""
    with open_for(store, config, read_only=True) as opened:
        found = opened.list_runs()
    if as_json:
        output.print_json(map(_as_json, found))
    elif output.is_terminal(sys.stdout):
        columns = ["ID", "PIPELINE", "OBJECTS", "BYTES", "STARTED", "FINISHED"]
        output.print_table(columns, map(_as_row, found), right=["OBJECTS", "BYTES"])
    else:
        output.print_names(info.name for info in found)


def _as_json(info: RunInfo) -> dict[str, Any]:
    pipeline = {"pipeline": None} if info.pipeline is None else output.json_name("pipeline", info.pipeline)
    return {
        **output.json_name("id", info.name),
        **pipeline,
        "objects": info.objects,
        "bytes": info.bytes,
        "started": output.json_time(info.started_ns),
        "finished": info.finished,
    }


def _as_row(info: RunInfo) -> list[str]:
    return [
        output.shown(info.name),
        output.shown(info.pipeline or b""),
        str(info.objects),
        str(info.bytes),
        output.local_time(info.started_ns),
        "yes" if info.finished else "no",
    ]
