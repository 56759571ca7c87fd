"""What may follow -o: the options of fstab and mount(8), as far as they mean something here or ask for nothing.

Whatever else is given is refused: an option that does not do what it says (noexec, sync) is worse than none.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import click

from engine.config_values import (
    LOG_FILE,
    LOG_LEVEL,
    MAX_OBJECT_SIZE,
    PIPELINE_OBJECT_LIMIT,
    RUN_OBJECT_EXPIRY,
    Given,
    nearest,
)

SETTINGS = {
    "pipeline_object_limit": PIPELINE_OBJECT_LIMIT,
    "run_object_expiry": RUN_OBJECT_EXPIRY,
    "max_object_size": MAX_OBJECT_SIZE,
    "log_file": LOG_FILE,
    "log_level": LOG_LEVEL,
}

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
    settings: tuple[Given, ...]


def parse(arguments: Iterable[str]) -> Parsed:
    """Take the arguments of -o apart. Raises click.UsageError for what is unknown."""
    read_only: bool | None = None
    allow_other = False
    settings = []
    for option in (option for argument in arguments for option in argument.split(",") if option):
        name, equals, value = option.partition("=")
        if option in ("ro", "rw"):
            read_only = option == "ro"
        elif option == "allow_other":
            allow_other = True
        elif name in SETTINGS:
            if not equals:
                raise click.UsageError(f"-o {name} needs a value: {name}=VALUE")
            settings.append(Given(f"flag -o {name}", SETTINGS[name], value))
        elif option not in HARMLESS and not option.startswith("x-"):
            known = ["ro", "rw", "allow_other", *SETTINGS]
            raise click.UsageError(
                f"unknown mount option {option!r}{nearest(name, [*known, *HARMLESS])}: -o takes {', '.join(known)}"
            )
    return Parsed(read_only, allow_other, tuple(settings))
