"""What may follow -o: the options of fstab and mount(8), as far as they mean something here or ask for nothing.

Whatever else is given is refused: an option that does not do what it says (noexec, sync) is worse than none.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

import click

from engine.config_values import (
    DURABILITY,
    LOG_FILE,
    LOG_LEVEL,
    MAX_OBJECT_SIZE,
    MAX_OPEN_WRITERS,
    MAX_PIPELINE_BYTES,
    MAX_STORE_BYTES,
    PIPELINE_OBJECT_LIMIT,
    REQUEST_TIMEOUT,
    RUN_OBJECT_EXPIRY,
    Given,
    nearest,
)
from engine.model import ScopeKind, ScopeName

SETTINGS = {
    "pipeline_object_limit": PIPELINE_OBJECT_LIMIT,
    "run_object_expiry": RUN_OBJECT_EXPIRY,
    "max_object_size": MAX_OBJECT_SIZE,
    "max_pipeline_bytes": MAX_PIPELINE_BYTES,
    "max_bytes": MAX_STORE_BYTES,
    "max_open_writers": MAX_OPEN_WRITERS,
    "durability": DURABILITY,
    "log_file": LOG_FILE,
    "log_level": LOG_LEVEL,
    "request_timeout": REQUEST_TIMEOUT,
}

_FLAGS = ["allow_other", "leave_dead"]
_SCOPES = {"pipeline": ScopeKind.PIPELINE, "run": ScopeKind.RUN}

# For mount(8) and systemd, not for us.
_FOR_OTHERS = ["defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail"]
# What every mount of ours is anyway: permissions are always checked, and reading changes no access time.
_ALWAYS = ["default_permissions", "nosuid", "nodev", "exec", "async", "noatime", "nodiratime", "relatime"]
HARMLESS = frozenset([*_FOR_OTHERS, *_ALWAYS])


@dataclass(frozen=True, slots=True)
class Parsed:
    """The options of all -o together."""

    read_only: bool | None
    """None where neither ro nor rw was given; else what was said last."""
    allow_other: bool
    leave_dead: bool
    umask: str | None
    scope: tuple[ScopeName, ...]
    settings: tuple[Given, ...]


def parse(arguments: Iterable[str]) -> Parsed:
    """Take the arguments of -o apart. Raises click.UsageError for what is unknown."""
    read_only: bool | None = None
    flags = set()
    umask = None
    scope = []
    settings = []
    for option in (option for argument in arguments for option in argument.split(",") if option):
        name, equals, value = option.partition("=")
        if option in ("ro", "rw"):
            read_only = option == "ro"
        elif option in _FLAGS:
            flags.add(option)
        elif name in (*SETTINGS, *_SCOPES, "umask") and not equals:
            raise click.UsageError(f"-o {name} needs a value: {name}=VALUE")
        elif name == "umask":
            umask = value
        elif name in _SCOPES:
            scope.append(ScopeName(_SCOPES[name], os.fsencode(value)))
        elif name in SETTINGS:
            settings.append(Given(f"flag -o {name}", SETTINGS[name], value))
        elif option not in HARMLESS and not option.startswith("x-"):
            known = ["ro", "rw", *_FLAGS, "umask", *_SCOPES, *SETTINGS]
            raise click.UsageError(
                f"unknown mount option {option!r}{nearest(name, [*known, *HARMLESS])}: -o takes {', '.join(known)}"
            )
    return Parsed(read_only, "allow_other" in flags, "leave_dead" in flags, umask, tuple(scope), tuple(settings))


def parse_umask(text: str | None) -> int | None:
    """A mask in octal digits; None for none. Raises click.UsageError."""
    if text is None:
        return None
    if not re.fullmatch("[0-7]{1,4}", text, re.ASCII) or int(text, 8) > 0o777:
        raise click.UsageError(f"{text!r} is no umask: it takes octal digits, 000 to 777")
    return int(text, 8)
