"""`fusefs mount` and `fusefs umount`."""

import os
from collections.abc import Callable

import click

from engine.config import Settings
from engine.config_values import Given
from fusefs.cli.mount_options import SETTINGS, parse
from fusefs.cli.options import settings_from, store_options


@click.command("mount")
@store_options
@click.option(
    "-o", "options", metavar="OPT,...", multiple=True, help="Mount options: ro, rw, allow_other, SETTING=VALUE."
)
@click.option("--foreground", is_flag=True, help="Stay, log to stderr, and end at SIGTERM or SIGINT.")
@click.option("--read-only", is_flag=True, help="Refuse every change through this mount.")
@click.option("--allow-other", is_flag=True, help="Let other users in; permissions are checked.")
@click.option("--pipeline-object-limit", metavar="N", help="Objects that a pipeline may hold; 0: no limit.")
@click.option("--run-object-expiry", metavar="N", help="Newer runs after which a run expires; 0: never.")
@click.option("--max-object-size", metavar="SIZE", help="Largest object, like 512MiB; 0: no limit.")
@click.option("--log-file", metavar="FILE", help="Log here. Default: the store's path and .log.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.argument("mountpoint", metavar="MOUNTPOINT")
def mount(
    store: str | None,
    config: str | None,
    options: tuple[str, ...],
    foreground: bool,
    read_only: bool,
    allow_other: bool,
    mountpoint: str,
    **flags: str | None,
) -> None:
    """Mount the store on a directory.

    Returns when the mount answers. It is then served in the background until `fusefs umount`, and logs to a file.
    The limits are the store's: they are kept in it and hold for everybody.
    """
    parsed = parse(options)
    read_only = read_only or bool(parsed.read_only)
    allow_other = allow_other or parsed.allow_other
    settings = settings_from(store, config, [*parsed.settings, *_given(flags)])

    from fusefs import daemon  # logging and the rest: only mounts need them
    from fusefs.mountpoint import check

    log_file = settings.log_file or f"{settings.object_store.path}.log"
    path = check(mountpoint, files=[settings.object_store.path, log_file], allow_other=allow_other)
    serve = _server(settings, path, read_only, allow_other)
    if foreground:
        daemon.run_in_foreground(serve, settings.log_level, settings.log_file)
        return
    warning = daemon.run_in_background(
        serve, level=settings.log_level, log_file=log_file, log_required=settings.log_file is not None
    )
    if warning:
        click.echo(f"fusefs: {warning}", err=True)
    # The kernel has the mount; this is answered by the daemon, and never from a cache.
    os.statvfs(path)


def _given(flags: dict[str, str | None]) -> list[Given]:
    return [
        Given(f"flag --{name.replace('_', '-')}", SETTINGS[name], value)
        for name, value in flags.items()
        if value is not None
    ]


def _server(
    settings: Settings, mountpoint: str, read_only: bool, allow_other: bool
) -> Callable[[Callable[[], None]], None]:
    def serve(ready: Callable[[], None]) -> None:
        # Not before the fork: pyfuse3, trio and SQLite must begin in the process that uses them.
        from fusefs import session

        options = session.MountOptions(read_only=read_only, allow_other=allow_other)
        session.run(settings.object_store, mountpoint, options=options, ready=ready)

    return serve


@click.command("umount")
@click.argument("mountpoint", metavar="MOUNTPOINT")
def umount(mountpoint: str) -> None:
    """Unmount.

    Returns when everything that was closed is committed and the process of the mount has ended.
    """
    from fusefs.mountpoint import unmount

    unmount(mountpoint)
