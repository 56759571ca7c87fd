"""`fusefs mount` and `fusefs umount`."""

import gc
import os
from collections.abc import Callable
from typing import Any

import click

from engine.config import Settings
from engine.config_values import Given
from engine.model import ScopeName
from engine.names import check_scope_name
from fusefs.cli.arguments import MOUNTPOINT
from fusefs.cli.mount_options import SETTINGS, Parsed, parse, parse_umask
from fusefs.cli.options import NAME, settings_from, store_options
from fusefs.cli.output import say
from fusefs.options import MountOptions

_COLLECT_AFTER = 20_000, 20, 50
"""How many new objects begin a collection of garbage: a page of names is a thousand, and leaves no cycle behind."""


@click.command("mount")
@store_options
@click.option(
    "-o", "options", metavar="OPT,...", multiple=True, help="Mount options: the flags below, or SETTING=VALUE."
)
@click.option("--foreground", is_flag=True, help="Stay, log to stderr, and end at SIGTERM or SIGINT.")
@click.option("--read-only", is_flag=True, help="Refuse every change through this mount.")
@click.option("--allow-other", is_flag=True, help="Let other users in; permissions are checked.")
@click.option(
    "--umask", metavar="MASK", help="Give group and others what the owner of something new may do, less this mask."
)
@click.option("--pipeline", "pipelines", metavar="NAME", multiple=True, type=NAME, help="Show this pipeline, not all.")
@click.option("--run", "runs", metavar="ID", multiple=True, type=NAME, help="Show this run, not all.")
@click.option("--leave-dead", is_flag=True, help="At SIGTERM leave the mount dead, for the next daemon to take over.")
@click.option("--pipeline-object-limit", metavar="N", help="Objects that a pipeline may hold; 0: no limit.")
@click.option("--run-object-expiry", metavar="N", help="Newer runs after which a run expires; 0: never.")
@click.option("--max-object-size", metavar="SIZE", help="Largest object, like 512MiB; 0: no limit.")
@click.option("--max-pipeline-bytes", metavar="SIZE", help="All objects of a pipeline together; 0: no limit.")
@click.option("--max-bytes", metavar="SIZE", help="All objects of the store together; 0: no limit.")
@click.option("--max-open-writers", metavar="N", help="Files open for writing at once; 0: no limit.")
@click.option("--log-file", metavar="FILE", help="Log here. Default: the store's path and .log.")
@click.option("--request-timeout", metavar="SECONDS", help="Answer every request within this time, if by an error.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.argument("mountpoint", metavar="MOUNTPOINT", type=MOUNTPOINT)
def mount(
    store: str | None,
    config: str | None,
    options: tuple[str, ...],
    foreground: bool,
    mountpoint: str,
    **flags: Any,
) -> None:
    """Mount the store on a directory.

    Returns when the mount answers. It is then served in the background until `fusefs umount`, and logs to a file.
    The limits are the store's: they are kept in it and hold for everybody. With --pipeline or --run, which can be
    given several times, the mount shows those alone; they are made when they are missing.
    """
    parsed = parse(options)
    settings = settings_from(store, config, [*parsed.settings, *_given(flags)])
    how = _options(parsed, flags, settings)

    from fusefs import daemon  # logging and the rest: only mounts need them
    from fusefs.mountpoint import check

    log_file = settings.log_file or f"{settings.object_store.path}.log"
    path = check(mountpoint, files=[settings.object_store.path, log_file], allow_other=how.allow_other)
    serve = _server(settings, path, how)
    if foreground:
        daemon.run_in_foreground(serve, settings.log_level, settings.log_file)
        return
    warning = daemon.run_in_background(
        serve, level=settings.log_level, log_file=log_file, log_required=settings.log_file is not None
    )
    if warning:
        say(warning)
    # The kernel has the mount; this is answered by the daemon, and never from a cache.
    os.statvfs(path)


def _options(parsed: Parsed, flags: dict[str, Any], settings: Settings) -> MountOptions:
    """Flags, -o and settings together. Raises click.UsageError and InvalidError."""
    scope = [
        *(ScopeName.pipeline(name) for name in flags["pipelines"]),
        *(ScopeName.run(name) for name in flags["runs"]),
        *parsed.scope,
    ]
    for name in scope:
        check_scope_name(name.kind.name.lower(), name.name)
    return MountOptions(
        read_only=flags["read_only"] or bool(parsed.read_only),
        allow_other=flags["allow_other"] or parsed.allow_other,
        umask=parse_umask(parsed.umask if flags["umask"] is None else flags["umask"]),
        scope=tuple(dict.fromkeys(scope)),
        leave_dead=flags["leave_dead"] or parsed.leave_dead,
        max_open_writers=settings.max_open_writers,
        request_timeout=settings.request_timeout,
    )


def _given(flags: dict[str, Any]) -> list[Given]:
    return [
        Given(f"flag --{name.replace('_', '-')}", SETTINGS[name], value)
        for name, value in flags.items()
        if name in SETTINGS and value is not None
    ]


def _server(settings: Settings, mountpoint: str, options: MountOptions) -> Callable[[Callable[[], None]], None]:
    def serve(ready: Callable[[], None]) -> None:
        # Not before the fork: pyfuse3, trio and SQLite must begin in the process that uses them.
        from fusefs import session

        # What was imported stays for ever: not to be looked through again and again.
        gc.freeze()
        gc.set_threshold(*_COLLECT_AFTER)
        gc.enable()
        session.run(settings.object_store, mountpoint, options=options, ready=ready)

    return serve


@click.command("umount")
@click.argument("mountpoint", metavar="MOUNTPOINT", type=MOUNTPOINT)
def umount(mountpoint: str) -> None:
    """Unmount.

    Returns when everything that was closed is committed and the process of the mount has ended.
    """
    from fusefs.mountpoint import unmount

    unmount(mountpoint)
