"""What all commands share: --store and --config, the store that they name, and names as bytes."""

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from engine.config import Settings, load_settings
from engine.config_values import STORE, Given
from fusefs.cli import output

if TYPE_CHECKING:
    from engine.store import Store

F = TypeVar("F", bound=Callable[..., Any])


class Name(click.ParamType[bytes]):
    """A name or key: the argument's own bytes, whatever the locale makes of them."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        return value if isinstance(value, bytes) else os.fsencode(value)


NAME = Name()


def store_options(command: F) -> F:
    """Give a command --store and --config, as the parameters `store` and `config`."""
    command = click.option("--config", metavar="FILE", help="Read settings from this TOML file.")(command)
    return click.option(
        "--store", metavar="PATH_OR_URL", help="The store: a path, sqlite:PATH, memory: or ENGINE:LOCATION."
    )(command)


def settings_from(store: str | None, config: str | None, more: Iterable[Given] = ()) -> Settings:
    """Read the settings, the flags of the command on top. Raises InvalidError."""
    flags = list(more)
    if store is not None:
        flags.insert(0, Given("flag --store", STORE, store))
    return load_settings(flags, os.environ, config)


def open_for(store: str | None, config: str | None, *, read_only: bool = False, create: bool = False) -> "Store":
    """Open the store that the flags, the environment and the configuration name. Raises StoreError."""
    from engine import open_store  # SQLite: not for --help and wrong arguments

    opened = open_store(settings_from(store, config).object_store, read_only=read_only, create=create)
    for trouble in opened.database.troubles.news():
        output.say(trouble)
    output.tell_effects(*opened.opening_effects)
    return opened
