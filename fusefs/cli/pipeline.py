"""`fusefs pipeline`: objects that are kept for ever, at most so many in each pipeline."""

import os
import re
import sys
from typing import Any

import click

from engine.config_values import MAX_COUNT, parse_size, shown
from engine.model import PipelineInfo, ScopeKind
from fusefs.cli import output
from fusefs.cli.objects import object_group
from fusefs.cli.options import NAME, open_for, store_options

_DEFAULT = "default"
_NUMBER = re.compile("[0-9]{1,19}")
"""Python converts no numbers of thousands of digits."""


def _limit(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None or value == _DEFAULT:
        return None
    if _NUMBER.fullmatch(value) and int(value) <= MAX_COUNT:
        return int(value)
    raise click.BadParameter(f"{shown(value)} is no limit: it takes 0 (no limit) to {MAX_COUNT}, or default")


def _bytes(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None or value == _DEFAULT:
        return None
    size = parse_size(value)
    if size is None:
        allowed = f"a number of bytes, a size like 512MiB, or {_DEFAULT}"
        raise click.BadParameter(f"{shown(value)} is no size: it takes {allowed}")
    return size


@click.group("pipeline")
def pipeline() -> None:
    """Pipelines: objects kept for ever, up to a limit."""


_objects = object_group(ScopeKind.PIPELINE)
pipeline.add_command(_objects, "object")
pipeline.add_command(_objects, "store")


@pipeline.command("create")
@store_options
@click.option(
    "--limit", callback=_limit, metavar="N", help="Keep at most N objects; 0: no limit. Default: the store's."
)
@click.option(
    "--max-bytes",
    callback=_bytes,
    metavar="SIZE",
    help="Refuse what would make its objects larger together, like 10GiB; 0: no limit. Default: the store's.",
)
@click.argument("name", metavar="NAME", type=NAME)
def create(store: str | None, config: str | None, limit: int | None, max_bytes: int | None, name: bytes) -> None:
    """Make a pipeline."""
    with open_for(store, config, create=True) as opened:
        opened.create_pipeline(name, limit, max_bytes, uid=os.geteuid(), gid=os.getegid())


@pipeline.command("list")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_pipelines(store: str | None, config: str | None, as_json: bool) -> None:
    """List the pipelines: a table on a terminal, else one name a line."""
    with open_for(store, config, read_only=True) as opened:
        found = opened.list_pipelines()
    if as_json:
        output.print_json(map(_as_json, found))
    elif output.is_terminal(sys.stdout):
        columns = ["NAME", "OBJECTS", "LIMIT", "BYTES", "MAX BYTES"]
        output.print_table(columns, map(_as_row, found), right=columns[1:])
    else:
        output.print_names(info.name for info in found)


def _as_json(info: PipelineInfo) -> dict[str, Any]:
    name = output.json_name("name", info.name)
    objects = {"objects": info.objects, "limit": info.effective_limit, "own_limit": info.object_limit}
    sizes = {"bytes": info.bytes, "max_bytes": info.effective_max_bytes, "own_max_bytes": info.max_bytes}
    return {**name, **objects, **sizes}


def _as_row(info: PipelineInfo) -> list[str]:
    limit = _shown_limit(info.effective_limit, info.object_limit)
    most = _shown_limit(info.effective_max_bytes, info.max_bytes)
    return [output.shown(info.name), str(info.objects), limit, str(info.bytes), most]


def _shown_limit(limit: int, own: int | None) -> str:
    return f"{limit or 'none'}{' (store)' if own is None else ''}"


@pipeline.command("delete")
@store_options
@click.option("--force", is_flag=True, help="Delete its objects as well.")
@click.argument("name", metavar="NAME", type=NAME)
def delete(store: str | None, config: str | None, force: bool, name: bytes) -> None:
    """Delete a pipeline. It must be empty, unless --force is given."""
    with open_for(store, config) as opened:
        opened.delete_pipeline(name, force)


@pipeline.command("set-limit")
@store_options
@click.argument("name", metavar="NAME", type=NAME)
@click.argument("limit", metavar="N|default", callback=_limit)
def set_limit(store: str | None, config: str | None, name: bytes, limit: int | None) -> None:
    """Keep at most N objects in a pipeline: 0 for no limit, `default` for the store's.

    What is over the new limit goes at once, and is told on stderr ("evicted KEY").
    """
    with open_for(store, config) as opened:
        effects = opened.set_limit(name, limit)
    output.tell_effects(effects)


@pipeline.command("set-max-bytes")
@store_options
@click.argument("name", metavar="NAME", type=NAME)
@click.argument("max_bytes", metavar="SIZE|default", callback=_bytes)
def set_max_bytes(store: str | None, config: str | None, name: bytes, max_bytes: int | None) -> None:
    """Let the objects of a pipeline have at most SIZE bytes together: 0 for no limit, `default` for the store's.

    Nothing is evicted for that: what would make them more is refused.
    """
    with open_for(store, config) as opened:
        opened.set_max_bytes(name, max_bytes)
