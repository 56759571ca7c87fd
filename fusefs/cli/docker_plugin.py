"""`fusefs docker-plugin`."""

import gc
import os

import click

from engine.config_values import LOG_FILE, LOG_LEVEL, Given
from fusefs.cli.options import settings_from, store_options

SOCKET = "/run/docker/plugins/fusefs.sock"
DIRECTORY = "/var/lib/fusefs/docker"


@click.command("docker-plugin")
@store_options
@click.option("--socket", default=SOCKET, show_default=True, metavar="PATH", help="Listen there, unless systemd does.")
@click.option(
    "--directory", default=DIRECTORY, show_default=True, metavar="DIR", help="The mount, and what volumes there are."
)
@click.option("--umask", metavar="MASK", help="As for `fusefs mount`: what volumes are written with.")
@click.option("--log-file", metavar="FILE", help="Log here. Default: stderr.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
def docker_plugin(
    store: str | None,
    config: str | None,
    socket: str,
    directory: str,
    umask: str | None,
    log_file: str | None,
    log_level: str | None,
) -> None:
    """Serve pipelines and runs to Docker as volumes.

    `docker volume create -d fusefs -o pipeline=NAME VOLUME` then makes one. Stays until SIGTERM or SIGINT. The mount
    behind the volumes is a process of its own: it goes on while a container uses one.
    """
    given = [(LOG_FILE, "--log-file", log_file), (LOG_LEVEL, "--log-level", log_level)]
    flags = [Given(f"flag {flag}", key, value) for key, flag, value in given if value is not None]
    settings = settings_from(store, config, flags)
    if os.geteuid() != 0:
        raise click.ClickException("docker-plugin needs root, as the engine does: it mounts for containers")

    from fusefs import daemon  # logging and the rest: only mounts need them

    try:
        from fusefs.dockerplugin import server
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in ("hypercorn", "starlette"):
            raise
        raise click.ClickException(f"there is no {missing}: pip install 'fusefs[docker-plugin]'") from error

    passed = {"--store": store, "--config": config, "--umask": umask, "--log-level": log_level}
    plugin = server.Plugin(
        directory=directory,
        socket=socket,
        store=settings.object_store.path,
        mount_options=[word for name, value in passed.items() if value is not None for word in (name, value)],
    )
    gc.enable()
    # Not the log file of the settings: that is the mount's.
    own_log = settings.log_file if log_file is not None else None
    daemon.run_in_foreground(lambda _ready: server.run(plugin), settings.log_level, own_log)
