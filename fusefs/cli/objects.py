"""`object put|get|list|delete`, the same for pipelines and runs."""

import os
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from typing import IO, TYPE_CHECKING

import click

from engine.model import ObjectInfo, ScopeKind, ScopeName
from fusefs.cli import output
from fusefs.cli.options import NAME, open_for, store_options
from fusefs.cli.transfer import chunks_of, size_of, with_progress

if TYPE_CHECKING:
    from engine.store import Store


def object_group(kind: ScopeKind) -> click.Group:
    """Make the group `object` of pipelines or of runs."""
    metavar = "NAME" if kind is ScopeKind.PIPELINE else "ID"
    scope = click.argument("scope", metavar=metavar, type=NAME, callback=lambda _c, _p, name: ScopeName(kind, name))
    group = click.Group("object", help=f"Objects of a {kind.name.lower()}. `store` is another name for this group.")
    for add in (_add_put, _add_get, _add_list, _add_delete):
        add(group, scope)
    return group


Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def _add_put(group: click.Group, scope: Decorator) -> None:
    @group.command("put")
    @store_options
    @click.option("--force", is_flag=True, help="Replace the object if it exists.")
    @scope
    @click.argument("arguments", metavar="KEY=VALUE | KEY FILE | KEY -", nargs=-1, required=True, type=NAME)
    def put(store: str | None, config: str | None, force: bool, scope: ScopeName, arguments: tuple[bytes, ...]) -> None:
        """Put one object: a VALUE, the contents of a FILE, or standard input (-).

        With one argument the key ends at the first =. Tells on stderr which objects made way ("evicted KEY").
        """
        with ExitStack() as stack:
            key, content = _key_and_content(arguments, stack)
            opened = stack.enter_context(open_for(store, config))
            effects = opened.put_object(scope, key, content, force, uid=os.geteuid(), gid=os.getegid())
        output.tell_effects(effects)


def _key_and_content(arguments: tuple[bytes, ...], stack: ExitStack) -> tuple[bytes, bytes | Iterable[bytes]]:
    if len(arguments) == 1:
        key, equals, value = arguments[0].partition(b"=")
        if not equals:
            raise click.UsageError("give the value as well: KEY=VALUE, KEY FILE, or KEY - for standard input")
        return key, value
    if len(arguments) > 2:
        raise click.UsageError("too many arguments: give KEY=VALUE, KEY FILE, or KEY - for standard input")
    key, name = arguments
    if name == b"-":
        if sys.stdin is None:
            raise click.ClickException("standard input is closed")
        file: IO[bytes] = sys.stdin.buffer
    else:
        file = stack.enter_context(open(name, "rb", buffering=0))  # noqa: SIM115 (the stack is the with)
    return key, stack.enter_context(closing(with_progress(chunks_of(file), size_of(file), output.shown(key))))


def _add_get(group: click.Group, scope: Decorator) -> None:
    @group.command("get")
    @store_options
    @scope
    @click.argument("key", metavar="KEY", type=NAME)
    def get(store: str | None, config: str | None, scope: ScopeName, key: bytes) -> None:
        """Write the object's bytes to standard output, and nothing else."""
        with (
            open_for(store, config, read_only=True) as opened,
            # The reading ends before the store is closed, however this ends: it holds a transaction.
            closing(_read(opened, scope, key)) as chunks,
            output.stdout() as out,
        ):
            for chunk in chunks:
                out.write(chunk)


def _read(store: "Store", scope: ScopeName, key: bytes) -> Generator[bytes]:
    with closing(store.read_object(scope, key)) as chunks:
        # A bar on the terminal and the bytes on the same terminal would be in each other's way.
        total = None if output.is_terminal(sys.stdout) else store.object_info(scope, key).size
        yield from with_progress(chunks, total, output.shown(key))


def _add_list(group: click.Group, scope: Decorator) -> None:
    @group.command("list")
    @store_options
    @click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
    @click.option("-0", "--null", is_flag=True, help="Print the keys alone, each ended by NUL, as for xargs -0.")
    @scope
    @click.argument("prefix", metavar="[PREFIX]", type=NAME, default=b"")
    def list_objects(
        store: str | None, config: str | None, as_json: bool, null: bool, scope: ScopeName, prefix: bytes
    ) -> None:
        """List the objects whose keys start with PREFIX: a table on a terminal, else one key a line.

        A key that is not UTF-8 is null in the JSON, with "key_base64" beside it.
        """
        if null and as_json:
            raise click.UsageError("--null and --json are two forms: give one")
        with open_for(store, config, read_only=True) as opened:
            found = opened.list_objects(scope, prefix)
            if as_json:
                output.print_json(map(_as_json, found))
            elif null:
                output.print_names((info.key for info in found), end=b"\0")
            elif output.is_terminal(sys.stdout):
                rows = ((output.shown(info.key), str(info.size), output.local_time(info.mtime_ns)) for info in found)
                output.print_table(["KEY", "SIZE", "MODIFIED"], rows, right=["SIZE"])
            else:
                output.print_names(info.key for info in found)


def _as_json(info: ObjectInfo) -> dict[str, object]:
    return {**output.json_name("key", info.key), "size": info.size, "mtime": output.json_time(info.mtime_ns)}


def _add_delete(group: click.Group, scope: Decorator) -> None:
    @group.command("delete")
    @store_options
    @scope
    @click.argument("key", metavar="KEY", type=NAME)
    def delete(store: str | None, config: str | None, scope: ScopeName, key: bytes) -> None:
        """Delete one object."""
        with open_for(store, config) as opened:
            effects = opened.delete_object(scope, key)
        output.tell_effects(effects)
